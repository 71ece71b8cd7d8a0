"""Open readers of this process, shared by all slides of the same file."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.slide.detect import open_reader
from wsi_deform.slide.virtual import VirtualReader

# Readers that stay open although no slide is using them: a worker that unpickles the same slide for each
# task opens it once.
MOST_IDLE_READERS = 32

_Key = tuple[int, str, int, int, int]
_tokens = itertools.count()


def new_token() -> int:
    """A number that names one reader in the tile cache of this process."""
    return next(_tokens)


class ReaderRegistry:
    """Readers by process, path and file version.

    Convention:
        A file that was rewritten under the same path is another file. A child after fork opens its own
        handles. Readers are not closed but dropped: the file is released when the last thread that reads it
        is done.
    """

    def __init__(self) -> None:
        """Make an empty registry."""
        self.forget()

    def forget(self) -> None:
        """Drop all readers and the lock, which a thread that a forked child does not have may hold."""
        self._lock = threading.Lock()
        self._readers: OrderedDict[_Key, tuple[int, VirtualReader]] = OrderedDict()

    def reader(self, path: Path) -> tuple[int, VirtualReader]:
        """The reader of a file, opened when it is not open yet in this process.

        Args:
            path: A slide file or folder.

        Returns:
            A token that names this reader in the tile cache, and the reader with virtual levels.

        Raises:
            SlideError: The file cannot be opened.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise SlideError(f"{path}: cannot be found ({error.strerror}). Check the path.") from error
        key = (os.getpid(), str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if key not in self._readers:
                self._readers[key] = new_token(), VirtualReader(open_reader(path))
                while len(self._readers) > MOST_IDLE_READERS:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(key)
            return self._readers[key]


READERS = ReaderRegistry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=READERS.forget)
