"""Sidecar pyramids: coarse levels that a file lacks, built once, kept in the cache folder and used again."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.slide.levels.box_means import stream_box_means
from wsi_deform.slide.levels.build_lock import BuildLock
from wsi_deform.slide.levels.build_progress import build_progress
from wsi_deform.slide.levels.cache_folder import BYTES_VARIABLE, CACHE, PART_SUFFIX, SIDECAR_SUFFIX
from wsi_deform.slide.levels.sidecar_file import DamagedSidecarError, SidecarFile, SidecarWriter
from wsi_deform.slide.reader import Level, Reader
from wsi_deform.slide.source import LocalFile

log = logging.getLogger(__name__)

# Stored bytes per decoded byte, on the safe side: 0.42 was measured on stained tissue.
STORED_SHARE = 0.5
# No slide takes more than this share of the cache: its finest missing levels are left out instead.
MAX_SHARE_OF_CACHE = 0.25


def first_level_within(levels: Sequence[Level], max_bytes: float) -> int | None:
    """The finest level from which on all decode to at most so many bytes; None where not even the last does."""
    total = 0
    first = None
    for number in reversed(range(len(levels))):
        total += levels[number].size.area * 3
        if total > max_bytes:
            break
        first = number
    return first


def kept_from(levels: Sequence[Level]) -> int | None:
    """The finest of the missing levels that a sidecar keeps; None where the cache folder has no room for any."""
    return first_level_within(levels, CACHE.limit_bytes * MAX_SHARE_OF_CACHE / STORED_SHARE)


def sidecar_path(key: str | None, first: int) -> Path:
    """Where the sidecar of a slide lies that keeps its missing levels from the first on."""
    return CACHE.folder / f"{key}-{first}{SIDECAR_SUFFIX}"


class Sidecar:
    """The levels of one slide that are kept on disk.

    Attributes:
        levels: All missing levels.
        first: The finest that is kept.
    """

    def __init__(
        self, reader: Reader, stored: int, levels: Sequence[Level], *, key: str | None, name: str
    ) -> None:
        """Find or build the sidecar.

        Args:
            reader: Reader of the stored levels.
            stored: The coarsest of them.
            levels: The levels that are missing.
            key: Name of the slide's version; None makes a file that no one else sees, and that goes with this
                object.
            name: The slide, for messages.

        Raises:
            OSError: The cache folder cannot be used, or is too small.
            SlideError: The slide cannot be read.
        """
        self.levels = tuple(levels)
        first = kept_from(levels)
        if first is None:
            raise OSError(errno.ENOSPC, f"the cache's limit of {CACHE.limit_bytes} bytes leaves no room")
        self.first = first
        self._reader, self._stored, self._key, self._name = reader, stored, key, name
        self._lock = threading.Lock()
        self._file = self._open()

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile; a file that turns out to be damaged is built again.

        Returns:
            (H, W, 3) uint8 RGB, clipped at the edge.

        Raises:
            SlideError: The slide cannot be read, or the sidecar not even after it was built again.
        """
        file = self._file
        try:
            return file.read_tile(level - self.first, column, row)
        except DamagedSidecarError as error:
            log.warning("%s: its sidecar is damaged (%s); it is built again.", self._name, error)
        try:
            with self._lock:
                if self._file is file:
                    if self._key is not None:
                        self._path.unlink(missing_ok=True)
                    self._file = self._open()
            return self._file.read_tile(level - self.first, column, row)
        except (DamagedSidecarError, OSError) as error:
            raise SlideError(
                f"{self._name}: its sidecar in {CACHE.folder} is damaged and cannot be built again ({error}). "
                "Check the disk, or set WSI_DEFORM_CACHE to another folder."
            ) from error

    @property
    def _path(self) -> Path:
        return sidecar_path(self._key, self.first)

    def _open(self) -> SidecarFile:
        kept = self.levels[self.first :]
        wanted = int(sum(level.size.area * 3 for level in kept) * STORED_SHARE)
        if self._key is None:
            part = CACHE.folder / f"private.{_nonce()}{PART_SUFFIX}"
            self._build(part, wanted, lambda: None)
            return self._private(part)
        found = self._found()
        if found is not None:
            return found
        CACHE.folder.mkdir(parents=True, exist_ok=True)
        path = self._path
        with BuildLock(path, self._name) as lock:
            found = self._found()
            if found is not None:
                return found
            part = path.with_suffix(f".{_nonce()}{PART_SUFFIX}")
            self._build(part, wanted, lock.still_working)
            part.replace(path)
            if CACHE.shrink(keep=path):
                found = self._found()
            else:
                log.warning(
                    "%s: its sidecar of %d bytes is not kept, the cache's limit is %d. Raise it with %s.",
                    self._name,
                    path.stat().st_size,
                    CACHE.limit_bytes,
                    BYTES_VARIABLE,
                )
                found = self._private(path)
        if found is None:
            raise OSError(errno.EIO, f"{path}: cannot be read back")
        return found

    def _found(self) -> SidecarFile | None:
        """The sidecar in the cache folder, if it is there and whole."""
        path = self._path
        if not path.exists():
            return None
        try:
            file = SidecarFile(LocalFile(path), str(self._key), self.levels[self.first :])
        except SlideError:
            return None  # removed by another process at this moment
        except DamagedSidecarError as error:
            log.warning("%s: its sidecar %s is damaged (%s); it is built again.", self._name, path, error)
            path.unlink(missing_ok=True)
            return None
        CACHE.use(path)
        weakref.finalize(file, CACHE.leave, path)
        return file

    def _private(self, path: Path) -> SidecarFile:
        """Open a file and take its name away: it goes when it is closed, even if this process is killed."""
        try:
            return SidecarFile(LocalFile(path), str(self._key), self.levels[self.first :])
        except (SlideError, DamagedSidecarError) as error:
            raise OSError(errno.EIO, f"{path}: cannot be read back ({error})") from error
        finally:
            path.unlink(missing_ok=True)

    def _build(self, part: Path, wanted_bytes: int, still_working: Callable[[], None]) -> None:
        if not CACHE.has_room(wanted_bytes):
            raise OSError(errno.ENOSPC, f"{CACHE.folder}: no room for about {wanted_bytes} bytes")
        started = time.monotonic()
        level = self._reader.info.levels[self._stored]
        log.info(
            "%s: building its coarse levels once, from %s px, into %s", self._name, level.size, CACHE.folder
        )
        try:
            with part.open("xb") as file, build_progress(self._name) as on_row:

                def row_done(done: int, total: int) -> None:
                    still_working()
                    on_row(done, total)

                writer = SidecarWriter(file, str(self._key), self.levels[self.first :])
                try:
                    stream_box_means(
                        self._reader, self._stored, self.levels, self._put_in(writer), on_row=row_done
                    )
                    writer.finish()
                finally:
                    writer.stop()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        log.info(
            "%s: coarse levels built in %.1f s, %d bytes.",
            self._name,
            time.monotonic() - started,
            part.stat().st_size,
        )

    def _put_in(self, writer: SidecarWriter) -> Callable[[int, int, int, NDArray[np.uint8]], None]:
        def put(level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
            if level >= self.first:
                writer.put(level - self.first, column, row, pixels)

        return put


def _nonce() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"
