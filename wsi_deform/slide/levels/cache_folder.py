"""The folder where what is slow to build is kept between runs: where it is, how large it may be, who goes first."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

from platformdirs import user_cache_path

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "WSI_DEFORM_CACHE"
BYTES_VARIABLE = "WSI_DEFORM_CACHE_GIB"
DEFAULT_BYTES = 10 << 30
SIDECAR_SUFFIX, PART_SUFFIX, LOCK_SUFFIX = ".sidecar", ".part", ".lock"
# A file that is being built grows all the time; one that has not for so long was left behind.
ABANDONED_S = 3600.0
# Never filled to the brim: other programs need the disk too.
MIN_FREE_BYTES = 1 << 30


class CacheFolder:
    """Settings of this process, and the files that it has in use, which it never removes.

    A folder or limit that was set here goes to worker processes through the environment.
    """

    def __init__(self) -> None:
        """Start with what the environment says."""
        self.forget_threads()
        self._in_use: Counter[Path] = Counter()

    def forget_threads(self) -> None:
        """Take a new lock: a forked child does not have the thread that may hold the old one."""
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path:
        """``$WSI_DEFORM_CACHE``, else where the system keeps caches of users.

        Linux: ``$XDG_CACHE_HOME/wsi-deform``, else ``~/.cache/wsi-deform``; a relative variable is ignored, as XDG
        says. macOS: ``~/Library/Caches/wsi-deform``. Windows: ``wsi-deform/Cache`` in ``%LOCALAPPDATA%``.
        """
        named = os.environ.get(FOLDER_VARIABLE)
        return Path(named).expanduser() if named else user_cache_path("wsi-deform", appauthor=False)

    @property
    def limit_bytes(self) -> int:
        """``$WSI_DEFORM_CACHE_GIB`` times 2**30, else 10 GiB."""
        try:
            return int(float(os.environ.get(BYTES_VARIABLE, "")) * 2**30)
        except ValueError:
            return DEFAULT_BYTES

    def use(self, path: Path) -> None:
        """Say that a file is read from now on; makes it the last to go."""
        with self._lock:
            self._in_use[path] += 1
        try:
            os.utime(path)
        except OSError as error:
            log.debug("%s: time of use not noted (%s).", path, error)

    def leave(self, path: Path) -> None:
        """Say that a file is no longer read by one who used it."""
        with self._lock:
            self._in_use[path] -= 1
            if self._in_use[path] <= 0:
                del self._in_use[path]

    def has_room(self, wanted_bytes: int) -> bool:
        """Whether the disk has so much free, and some more for others; makes the folder.

        Raises:
            OSError: The folder cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free >= wanted_bytes + MIN_FREE_BYTES

    def shrink(self, keep: Path) -> bool:
        """Remove what was not used for longest until the limit is kept, and what was left half built.

        Args:
            keep: The file that is about to be used.

        Returns:
            Whether the limit is kept.
        """
        with self._lock:
            found = []
            for path in self.folder.iterdir():
                try:
                    status = path.stat()
                except OSError:
                    continue  # another process was faster
                if path.suffix == SIDECAR_SUFFIX:
                    found.append((status.st_mtime, status.st_size, path))
                elif path.suffix == PART_SUFFIX and time.time() - status.st_mtime > ABANDONED_S:
                    path.unlink(missing_ok=True)
            total = sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total <= self.limit_bytes:
                    break
                if path != keep and path not in self._in_use:
                    log.info("%s: removed from the cache (%d bytes).", path.name, size)
                    path.unlink(missing_ok=True)
                    total -= size
            return total <= self.limit_bytes


CACHE = CacheFolder()


def set_cache_folder(folder: str | Path | None, *, limit_bytes: int | None = None) -> None:
    """Say where sidecar pyramids are kept, for this process and those that it starts from now on.

    Args:
        folder: The folder, made when it is needed; None takes the user's cache folder.
        limit_bytes: How much may lie there; None takes 10 GiB.
    """
    for name, value in (
        (FOLDER_VARIABLE, None if folder is None else str(Path(folder).absolute())),
        (BYTES_VARIABLE, None if limit_bytes is None else repr(limit_bytes / 2**30)),
    ):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CACHE.forget_threads)
