"""One process builds, the others wait: a lock that a dead process cannot hold."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from wsi_deform.slide.levels.cache_folder import LOCK_SUFFIX

try:
    import fcntl
except ImportError:  # Windows: no lock, the first to move its file into place wins
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

POLL_S = 0.1
# A builder says at least this often that it is alive; who hears nothing for so long builds by itself.
TOUCH_S = 1.0
SILENT_S = 300.0


class BuildLock:
    """Waits until a file is there or this process may build it.

    Convention:
        The lock is ``flock`` on a file of its own, which the system releases when its holder dies. Where the
        file system knows no locks, or the holder hangs, several build at once: each writes aside, and the
        last to move its file into place wins, with the same bytes.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Name what is to be built.

        Args:
            path: The file; the lock lies beside it.
            name: The slide, for messages.
        """
        self._path, self._name = path, name
        self._lock_path = path.with_suffix(LOCK_SUFFIX)
        self._descriptor: int | None = None
        self._touched = 0.0

    def __enter__(self) -> BuildLock:
        """Wait."""
        started = time.monotonic()
        announced = False
        while fcntl is not None and not self._path.exists() and not self._acquired():
            if not announced:
                log.info(
                    "%s: another process is building its coarse levels (%s).", self._name, self._holder()
                )
                announced = True
            if self._silent_s(started) > SILENT_S:
                log.warning(
                    "%s: %s has not been heard of for %.0f s; building without it.",
                    self._name,
                    self._holder(),
                    SILENT_S,
                )
                break
            time.sleep(POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the others go on."""
        if self._descriptor is not None:
            # Removed while it is held: who waits on the removed file sees that and takes the new one.
            self._lock_path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def still_working(self) -> None:
        """Tell those who wait that this process is alive."""
        now = time.monotonic()
        if self._descriptor is not None and now - self._touched >= TOUCH_S:
            self._touched = now
            os.utime(self._descriptor)

    def _acquired(self) -> bool:
        """Try once; true also where locks do not work."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            log.debug("%s: no locks here (%s).", self._lock_path, error)
            return True
        try:
            same = os.fstat(descriptor).st_ino == self._lock_path.stat().st_ino
        except OSError:
            same = False
        if not same:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._descriptor = descriptor
        return True

    def _holder(self) -> str:
        try:
            return self._lock_path.read_text() or "not yet known"
        except OSError:
            return "done just now"

    def _silent_s(self, started: float) -> float:
        """Seconds since the holder last said that it is alive."""
        try:
            return time.time() - self._lock_path.stat().st_mtime
        except OSError:
            return time.monotonic() - started
