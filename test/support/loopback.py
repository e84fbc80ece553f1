"""A server on the loopback address that plays data repositories and the model hub, faults included."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Answer:
    """A body with its headers; `cut` sends only so many bytes of it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class Server:
    """Routes by path, from "/HOST/…"; `once` answers are given first, one a request.

    A route that is a function is given the request's headers.
    """

    url: str = ""
    routes: dict[str, Answer | Callable[[Mapping[str, str]], Answer]] = field(default_factory=dict)
    once: dict[str, list[Answer]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """The path of every GET."""

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """What a request gets."""
        if self.once.get(path):
            return self.once[path].pop(0)
        route = self.routes.get(path, Answer(b"no such file", 404))
        return route(headers) if callable(route) else route


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server on a free port for as long as the block lasts."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            given = server.answer(path, self.headers)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            server.log.append(path)
            with suppress(OSError):  # the client may be gone
                self.wfile.write(given.body[: given.cut])
            self.close_connection = given.cut is not None

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
