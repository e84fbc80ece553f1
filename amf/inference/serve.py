"""The platform's other kind of container, invoke: a server that loads its bundle once and scores many cases.

    GET  /health   503 while it loads, 200 from then on
    POST /invoke   score what lies in the input folder now: 201 once the answer is written whole, 422 where it
                   is no valid job, 500 for anything else; the body is the one sentence that says why

Requests arrive on threads of their own, so that /health answers at any time; the cases are scored on the main
thread, one at a time and in the order of their arrival, because torch keeps threads for every thread that
calls it. Nothing heavy is imported before the server listens.
"""

import os
import signal
import sys
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from socketserver import TCPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from amf.errors import AmfError, JobError
from amf.inference.streams import stderr_on_stdout

if TYPE_CHECKING:
    from amf.inference.predict import Predictor

FULL_STACK = 16
"""Pages of the platform's largest stacks, scored as one batch."""


class AddressError(AmfError):
    """The host and port cannot be listened on."""

    exit_code = 2


def serve(host: str, port: int, input_dir: Path, output_dir: Path, model_dir: Path, device: str) -> None:
    """Load and warm up, then answer until SIGTERM or SIGINT comes; a case that runs then is finished first.

    Parameters
    ----------
    host, port : where to listen; port 0 takes a free one, which is printed.
    input_dir, output_dir : of every case, looked up anew each time: either may be a link.
    model_dir, device : as for `job.load_predictor`.

    Raises
    ------
    AddressError : the address cannot be listened on.
    BundleError, DeviceError : before anything was served.
    """
    server = Server(host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    Thread(target=server.serve_forever, daemon=True).start()
    _log(f"listening on {host}:{server.server_port}")
    with stderr_on_stdout():
        predictor = _load_and_warm_up(model_dir, device)
    server.ready = True
    _log("ready")
    while (request := server.cases.get()) is not None:
        request.answer(*_score(input_dir, output_dir, predictor))
        if server.stopping:
            break
    _log("stopped")


class Server(ThreadingHTTPServer):
    """Answers /health by itself and queues each POST /invoke for the main thread."""

    def __init__(self, host: str, port: int) -> None:
        self.ready = self.stopping = False
        self.cases: SimpleQueue[_Request | None] = SimpleQueue()  # its `put` is safe in a signal's handler
        try:
            super().__init__((host, port), _Request)
        except (OSError, OverflowError) as error:
            raise AddressError(f"{host}:{port} cannot be listened on: {error}") from error

    def server_bind(self) -> None:
        """Bind as HTTPServer does, without its look-up of the host's name: that waits where no network is."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def stop(self) -> None:
        """End at once while nothing is served yet, else after the case that runs."""
        if not self.ready:
            os._exit(0)
        self.stopping = True
        self.cases.put(None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that has hung up; what else happens is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Request(BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # seconds for a client to send what it has promised

    def do_GET(self) -> None:
        """Answer /health."""
        if self.path != "/health":
            self._respond(404, f"{self.path} is unknown, expected GET /health or POST /invoke")
        else:
            self._respond(*((200, "ready") if self.server.ready else (503, "the bundle is being loaded")))

    def do_POST(self) -> None:
        """Queue /invoke and wait until it is answered."""
        if self.path != "/invoke":
            self._respond(404, f"{self.path} is unknown, expected GET /health or POST /invoke")
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # none; else a client may wait for it
        if not self.server.ready:
            self._respond(503, "the bundle is being loaded")
            return
        self.answered = Event()
        self.server.cases.put(self)
        self.answered.wait()

    def answer(self, status: int, text: str) -> None:
        """Respond to /invoke from the main thread: it is sent before the process may end."""
        try:
            self._respond(status, text)
        except OSError:  # the client has hung up: the answer on disk stays
            pass
        finally:
            self.answered.set()

    def _respond(self, status: int, text: str) -> None:
        body = f"{text}\n".encode(errors="backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing by itself: the base class would write to stderr, which a user sees as warnings."""


def _log(line: str) -> None:
    with suppress(OSError):  # a full stdout is no reason to stop
        print(line, flush=True)


def _load_and_warm_up(model_dir: Path, device: str) -> "Predictor":
    """Import, load, and score a full stack of white pages, so that the first case is as fast as any other."""
    import numpy as np

    from amf.inference.job import load_predictor
    from amf.model.preprocess import PATCH_PX

    predictor = load_predictor(model_dir, device)
    predictor.predict(np.full((FULL_STACK, PATCH_PX, PATCH_PX, 3), 255, np.uint8))
    return predictor


def _score(input_dir: Path, output_dir: Path, predictor: "Predictor") -> tuple[int, str]:
    """Score the case that lies in the input folder now; status and sentence of the response."""
    from amf.inference import job

    try:
        with stderr_on_stdout():
            job.run_case(input_dir, output_dir, lambda: predictor)
    except AmfError as error:
        print(error, file=sys.stderr, flush=True)
        return 422 if isinstance(error, JobError) else 500, str(error)
    except Exception as error:  # a bug, or memory that was short: the next case may be fine
        traceback.print_exc()
        return 500, " ".join("".join(traceback.format_exception_only(error)).split())
    return 201, "done"
