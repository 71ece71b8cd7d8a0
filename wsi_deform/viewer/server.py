"""The HTTP server of the page: this machine only, a secret in every address, nothing but GET and HEAD."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import shutil
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from socketserver import TCPServer
from typing import Any
from urllib.parse import quote

from wsi_deform.errors import ConfigError
from wsi_deform.viewer.catalogue import Catalogue
from wsi_deform.viewer.site import Answer, Site

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
# What a browser may call this machine. Another name that leads here is somebody else's: DNS rebinding.
HOST_NAMES = ("127.0.0.1", "localhost")
TOKEN_BYTES = 24
IDLE_S = 60
# A rule that OpenSeadragon adds to the page, by its hash: no other style or script is allowed but our files.
OPENSEADRAGON_STYLE = "sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE="
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' '{OPENSEADRAGON_STYLE}'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Viewer(ThreadingHTTPServer):
    """Serves a catalogue until it is shut down; a context manager.

    Attributes:
        site: What it answers.
        token: The secret that every address begins with.
    """

    daemon_threads = True
    block_on_close = False
    # On Windows another program could listen on the same port.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, catalogue: Catalogue, *, port: int = 0) -> None:
        """Listen on this machine.

        Args:
            catalogue: What is shown.
            port: 0 takes a free one.

        Raises:
            ConfigError: The port is taken, or not one that may be used.
        """
        self.site = Site(catalogue)
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._door, self._at_door = "", threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port}: cannot be listened on ({error}). Needed a free port of this machine. Leave --port out, "
                "or choose another one."
            ) from error

    def server_bind(self) -> None:
        """Take the port; the name of this machine, which some networks are slow to tell, is not asked for."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.port

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page, with the secret."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def once_url(self) -> str:
        """An address that leads to the page once: other users may see what a browser is started with."""
        with self._at_door:
            self._door = secrets.token_urlsafe(TOKEN_BYTES)
            return f"http://{HOST}:{self.port}/{self._door}"

    def opens(self, token: str) -> bool:
        """Whether it is the secret that leads to the page once; afterwards it is not."""
        with self._at_door:
            if not self._door or not _same(token, self._door):
                return False
            self._door = ""
            return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One answer that fails is not the end of the page; a browser that went away is no error."""
        if isinstance(sys.exception(), ConnectionError | TimeoutError):
            return
        log.exception("an answer to the page failed")
        with suppress(OSError):
            request.sendall(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: Viewer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer."""
        self._send(self._answer())

    def do_HEAD(self) -> None:
        """The same without its body."""
        self._send(self._answer())

    def _refuse(self) -> None:
        self.close_connection = True  # what it sends is not read
        self._send(_refused(HTTPStatus.METHOD_NOT_ALLOWED, "needed GET or HEAD"))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _answer(self) -> Answer:
        names = self.headers.get_all("Host") or []
        if len(names) != 1 or names[0].rpartition(":")[0] not in HOST_NAMES and names[0] not in HOST_NAMES:
            return _refused(HTTPStatus.FORBIDDEN, "this page has the name 127.0.0.1 or localhost only")
        token, slash, target = self.path.removeprefix("/").partition("/")
        if not slash and self.server.opens(token):
            return Answer(
                status=HTTPStatus.SEE_OTHER, kind="text/plain", body=b"", place=f"/{self.server.token}/"
            )
        if not _same(token, self.server.token) or not slash:
            return _refused(HTTPStatus.FORBIDDEN, "open the address that `wsi-deform view` printed")
        return self.server.site.answer(target)

    def _send(self, answer: Answer) -> None:
        body = BytesIO(answer.body) if isinstance(answer.body, bytes) else answer.body.open("rb")
        with body:
            self._send_head(answer, body.seek(0, os.SEEK_END))
            body.seek(0)
            if self.command != "HEAD":
                shutil.copyfileobj(body, self.wfile)

    def _send_head(self, answer: Answer, size: int) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(size))
        # Tiles show tissue: no browser shall leave them on a disk.
        self.send_header("Cache-Control", "no-store")
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if answer.place:
            self.send_header("Location", answer.place)
        if answer.name:
            self.send_header(
                "Content-Disposition", f"attachment; filename*=UTF-8''{quote(answer.name, safe='')}"
            )
        self.end_headers()

    def end_headers(self) -> None:
        """Every answer, also to what is no HTTP, tells the browser what it may do."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """What the server is called; no versions."""
        return "wsi-deform"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are told to who debugs, without the secret."""
        log.debug("%s", (format % args).replace(self.server.token, "..."))


def _same(found: str, secret: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(found.encode(errors="replace"), secret.encode())


def _refused(status: HTTPStatus, why: str) -> Answer:
    return Answer(status=status, kind="text/plain; charset=utf-8", body=f"{why}\n".encode())
