"""Open readers of this process, shared by all slides of the same file."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import OrderedDict

from wsi_deform.slide.detect import open_reader
from wsi_deform.slide.identity import file_version, slide_key
from wsi_deform.slide.levels.mending import mended
from wsi_deform.slide.levels.virtual import VirtualReader
from wsi_deform.slide.path import SlidePath, SlideUrl, file_of

# Readers that stay open although no slide is using them: a worker that unpickles the same slide for each
# task opens it once.
MAX_IDLE_READERS = 32

# A server is not asked for the version of an open file more often than this.
RECHECK_S = 60.0

_Key = tuple[int, str, tuple[str, ...], bool]
_tokens = itertools.count()


def new_token() -> int:
    """A number that names one reader in the tile cache of this process."""
    return next(_tokens)


class ReaderRegistry:
    """Readers by process, path and file version.

    Convention:
        A file that was rewritten under the same path is another file; of a URL this is noticed within a
        minute. A child after fork opens its own handles. Readers are not closed but dropped: the file is
        released when the last thread that reads it is done.
    """

    def __init__(self) -> None:
        """Make an empty registry."""
        self._most = MAX_IDLE_READERS
        self.forget()

    def keep_at_most(self, count: int) -> None:
        """Keep fewer readers, or more, open although no slide is using them; those beyond it go with the next one."""
        self._most = count

    def forget(self) -> None:
        """Drop all readers and the lock, which a thread that a forked child does not have may hold."""
        self._lock = threading.Lock()
        self._readers: OrderedDict[_Key, tuple[int, VirtualReader]] = OrderedDict()
        self._versions: dict[SlideUrl, tuple[float, tuple[str, ...]]] = {}

    def reader(self, path: SlidePath, *, blank: bool = False) -> tuple[int, VirtualReader]:
        """The reader of a file, opened when it is not open yet in this process.

        Args:
            path: A slide file, folder or URL.
            blank: Whether tiles that cannot be decoded are left out; others who read the file are not.

        Returns:
            A token that names this reader in the tile cache, and the reader with virtual levels.

        Raises:
            SlideError: The file cannot be opened.
        """
        with self._lock:
            place = f"{path.url}::{path.image}" if isinstance(path, SlideUrl) else str(path.absolute())
            key = (os.getpid(), place, self._version(path), blank)
            if key not in self._readers:
                stored = open_reader(path)
                reader = VirtualReader(
                    stored, key=lambda: slide_key(path, mended(stored)), name=str(path), blank=blank
                )
                self._readers[key] = new_token(), reader
                while len(self._readers) > self._most:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(key)
            return self._readers[key]

    def _version(self, path: SlidePath) -> tuple[str, ...]:
        path, _ = file_of(path)
        if not isinstance(path, SlideUrl):
            return file_version(path)
        asked_s, version = self._versions.get(path, (-RECHECK_S, ()))
        if not version or time.monotonic() - asked_s > RECHECK_S:
            version = file_version(path)
            self._versions[path] = time.monotonic(), version
        return version


READERS = ReaderRegistry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=READERS.forget)
