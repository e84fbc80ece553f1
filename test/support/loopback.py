"""A server on the loopback address that plays data repositories and the model hub, faults included."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Answer:
    """A body with its headers. `cut` sends only so many bytes of it, `pause` s after every 64 KiB."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut: int | None = None
    pause: float = 0.0


@dataclass
class Server:
    """Routes by path, from "/HOST/…"; `once` answers are given first, one a request.

    A route that is a function is given the request's headers.
    """

    url: str = ""
    routes: dict[str, Answer | Callable[[Mapping[str, str]], Answer]] = field(default_factory=dict)
    once: dict[str, list[Answer]] = field(default_factory=dict)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, header Range) of every request."""

    def asked(self, path: str) -> list[str | None]:
        """The ranges in which a path was asked for by GET."""
        return [span for method, asked, span in self.log if method == "GET" and asked == path]

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
            server.log.append((self.command, path, self.headers.get("Range")))
            given = server.answer(path, self.headers)
            body, status, headers = given.body, given.status, dict(given.headers)
            span = self.headers.get("Range")
            if span and given.ranges and status == 200:
                start = int(span.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body, status = body[start:], 206
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            sent = body if given.cut is None else body[: given.cut]
            try:
                for start in range(0, len(sent), 1 << 16):
                    self.wfile.write(sent[start : start + (1 << 16)])
                    time.sleep(given.pause)
            except OSError:
                pass
            if len(sent) < len(body):
                self.close_connection = True

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
