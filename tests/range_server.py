"""A web server on this machine that serves a folder, in parts or not, slowly or not, and counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class RangeServer(ThreadingHTTPServer):
    """Serves ``folder``; counts what it sends.

    Attributes:
        ranges: Whether parts can be asked for.
        latency_s: Wait before each answer.
        failures: Answers to come that are errors (status 503).
        etag: What it calls the version of all files, or empty.
        sent_bytes: Bytes of bodies sent.
        requests: (method, path, range) of each request.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, *, ranges: bool = True, latency_s: float = 0.0) -> None:
        self.folder, self.ranges, self.latency_s = folder, ranges, latency_s
        self.failures = 0
        self.etag = ""
        self.lock = threading.Lock()
        self.reset()
        super().__init__(("127.0.0.1", 0), _Handler)

    def reset(self) -> None:
        self.sent_bytes = 0
        self.requests: list[tuple[str, str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request, client_address) -> None:
        pass  # clients that go away


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server = self.server
        asked = self.headers.get("Range")
        with server.lock:
            server.requests.append((self.command, self.path, asked))
            failing = server.failures > 0 and body
            server.failures -= failing
        time.sleep(server.latency_s)
        path = server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if failing or not path.is_file():
            self.send_response(503 if failing else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        start, stop = 0, size
        if asked is not None and server.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, size) if last else size
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", f'"{server.etag}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            with path.open("rb") as file:
                file.seek(start)
                part = file.read(stop - start)
            with server.lock:
                server.sent_bytes += len(part)
            self.wfile.write(part)


@contextmanager
def serving(folder: Path, **how) -> Iterator[RangeServer]:
    server = RangeServer(folder, **how)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
