"""Bytes of a slide file at given places, wherever the file lies."""

from __future__ import annotations

import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from wsi_deform.errors import SlideError
from wsi_deform.slide.path import SlidePath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Tags lie scattered: what is near is read along. Tile tables are larger than a block and read at once.
INDEX_BLOCK_BYTES = 1 << 16
INDEX_BLOCKS = 64


class ByteSource(Protocol):
    """An open file that is read at given places. Safe in threads; never pickled."""

    @property
    def path(self) -> SlidePath:
        """The file or URL."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its length."""
        ...

    @property
    def is_far(self) -> bool:
        """Whether a read costs a round trip over a network, so that many are worth asking for at once."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it can still be read."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes; fewer than wanted only where the file ends.

        Raises:
            SlideError: The file cannot be read.
        """
        ...

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several (offset, count) at once, where the file is far."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class LocalFile:
    """A file on this machine, read with ``os.pread``: no shared position, safe in threads and after fork."""

    is_far = False

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            SlideError: It cannot be opened.
        """
        self.path: SlidePath = path
        self._place = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SlideError(f"{path}: cannot be opened ({error.strerror}). Check the path.") from error
        # Not closed under a thread that still reads: the descriptor goes with the last reference.
        self._closer = weakref.finalize(self, os.close, self._descriptor)
        self.size_bytes: int = os.fstat(self._descriptor).st_size

    @property
    def is_open(self) -> bool:
        """Whether it can still be read."""
        return self._closer.alive

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes; see ``ByteSource``."""
        try:
            found = os.pread(self._descriptor, count, offset)
            # One call reads at most 2 GiB.
            while 0 < len(found) < count:
                more = os.pread(self._descriptor, count - len(found), offset + len(found))
                if not more:
                    break
                found += more
        except OSError as error:
            raise SlideError(
                f"{self.path}: {count} bytes at {offset} cannot be read ({error.strerror}). Check the disk "
                "or the network folder that it lies on."
            ) from error
        return found

    def opened(self) -> BinaryIO:
        """The same file with a position of its own, under the name that a link leads to; to be closed by the caller."""
        place = self._place.resolve() if self._place.is_symlink() else self._place
        return place.open("rb")

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several ranges, one after the other."""
        return [self.read(offset, count) for offset, count in ranges]

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._closer()


class SourceFile(io.RawIOBase):
    """A byte source as a file object, for parsing an index: small reads share blocks."""

    def __init__(self, source: ByteSource) -> None:
        """Start at the beginning of a source, which stays open when this is closed."""
        self._source = source
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position, bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; see ``io.IOBase.seek``."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer; see ``io.RawIOBase.readinto``."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._source.size_bytes - self._position))
        if count >= INDEX_BLOCK_BYTES:
            found = self._source.read(self._position, count)
        else:
            found = self._from_blocks(self._position, count)
        view[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        """Forget the blocks; the source stays open."""
        self._blocks.clear()
        super().close()

    def _from_blocks(self, offset: int, count: int) -> bytes:
        first, last = offset // INDEX_BLOCK_BYTES, (offset + count - 1) // INDEX_BLOCK_BYTES
        found = b"".join(self._block(number) for number in range(first, last + 1))
        start = offset - first * INDEX_BLOCK_BYTES
        return found[start : start + count]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._source.read(number * INDEX_BLOCK_BYTES, INDEX_BLOCK_BYTES)
            while len(self._blocks) > INDEX_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
