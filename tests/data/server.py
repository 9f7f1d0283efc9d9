"""A web server of one folder, which sends parts of files and has the faults that are asked for."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

Fault = Callable[["Request"], str | int | None]


class Request(NamedTuple):
    method: str
    path: str  # below the folder
    range: tuple[int, int] | None  # first byte, and the one after the last
    headers: dict[str, str]


class Server(ThreadingHTTPServer):
    """
    Attributes:
        url: of the folder.
        requests: all so far.
        fault: what is wrong with the answer to a request: a status, "whole" (whatever the range), "drop" (half of the
            bytes, then the end), "stall" (no answer until the server ends), or "redirect" (to itself, with a secret).
    """

    daemon_threads = True
    request_queue_size = 128  # a connection beyond it would wait for a second

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_address[1]}/a%20set"
        self.requests: list[Request] = []
        self.fault: Fault = lambda request: None
        self.ended = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = None if found is None else (int(found[1]), int(found[2]) + 1)
        place, _, query = self.path.partition("?")
        request = Request(self.command, unquote(place).removeprefix("/a set/"), span, dict(self.headers))
        self.server.requests.append(request)
        fault = self.server.fault(request)
        path = self.server.folder / request.path
        if fault == "redirect" and not query:
            self._send(302, b"", Location=f"{self.path}?key=SECRET")
        elif isinstance(fault, int):
            self._send(fault, b"")
        elif fault == "stall":
            self.server.ended.wait(60)
            self.close_connection = True
        elif not path.is_file():
            self._send(404, b"")
        else:
            data = path.read_bytes()
            if span is None or fault == "whole":
                self._send(200, data)
            elif span[0] >= len(data):
                self._send(416, b"")
            else:
                self._send(206, data[slice(*span)], drop=fault == "drop")

    def _send(self, status: int, data: bytes, *, drop: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if drop else data)
        self.close_connection = self.close_connection or drop


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
