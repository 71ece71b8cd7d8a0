"""What the ledger asks of storage, counted: calls on files under a folder, told apart, and their bytes.

Python tells of files that it opens, lists, makes, moves and removes (audit events) whoever asks for it; calls that look
at a file without opening it are counted by a layer over ``os``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

# What of a file is read: a signature takes both its ends, all else is smaller.
READ_BYTES = 1 << 17
EVENTS = {
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "os.rename": "rename",
    "os.link": "link",
    "os.listdir": "list",
    "os.scandir": "list",
}
LOOKS = ("stat", "lstat", "access", "readlink", "utime")
_stat = os.stat
_counting: list[Counted] = []
_hooked: list[bool] = []


class Counted:
    """Calls on files under a folder.

    Args:
        folder: The folder.

    Attributes:
        calls: "open", "create" (a file that nobody else may have made: a lock), "mkdir", "remove", "rmdir", "rename",
            "link", "list", "look" -> how often.
        read_bytes: Of files that were opened to be read, both ends of a large one.
        written_bytes: Of files that were moved, or made exclusively and removed.
        files: Those that were opened.
        moved: Where files were moved to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.calls: Counter[str] = Counter()
        self.read_bytes = self.written_bytes = 0
        self.files: set[str] = set()
        self.moved: set[str] = set()
        self._made: set[object] = set()

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.calls.values())

    def note(self, event: str, given: tuple[Any, ...]) -> None:
        """Take note of an audit event."""
        if event == "open":
            path, _, flags = given
            if not self._is_here(path):
                return
            self._opened(os.fspath(path), int(flags or 0))
        elif event in EVENTS and given and self._is_here(given[0]):
            self.calls[EVENTS[event]] += 1
            if event == "os.rename":
                self.moved.add(os.fspath(given[1]))
            if event == "os.rename" or given[0] in self._made:
                self.written_bytes += _size(given[0])

    def look(self, path: object) -> None:
        """Take note of a look at a file."""
        if self._is_here(path):
            self.calls["look"] += 1

    def _opened(self, path: str, flags: int) -> None:
        self.files.add(path)
        if flags & os.O_EXCL:
            self.calls["create"] += 1
            self._made |= {path, Path(path)}
            return
        self.calls["open"] += 1
        if flags & os.O_ACCMODE == os.O_RDONLY:
            self.read_bytes += min(_size(path), READ_BYTES)

    def _is_here(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)


@contextmanager
def counted(folder: Path) -> Iterator[Counted]:
    """Count calls on files under a folder while the block runs, in all threads of this process."""
    found = Counted(folder)
    if not _hooked:
        # A hook stays for good; without anybody who counts it does nothing.
        sys.addaudithook(_tell)
        _hooked.append(True)
    layers = [patch.object(os, name, _looking(getattr(os, name), found)) for name in LOOKS]
    _counting.append(found)
    for layer in layers:
        layer.start()
    try:
        yield found
    finally:
        for layer in layers:
            layer.stop()
        _counting.remove(found)


def _tell(event: str, given: tuple[Any, ...]) -> None:
    for each in tuple(_counting):
        each.note(event, given)


def _looking(real: Any, found: Counted) -> Any:
    def looked(path: Any, *given: Any, **named: Any) -> Any:
        found.look(path)
        return real(path, *given, **named)

    return looked


def _size(path: object) -> int:
    """The size of a file now, 0 where there is none; by a call that is not counted."""
    try:
        return _stat(os.fspath(path)).st_size  # type: ignore[call-overload]
    except OSError:
        return 0
