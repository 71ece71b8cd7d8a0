"""The stored bytes of frames, each read at its place: by an offset table, or by the fragments' own headers."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.slide.dicom.header import damaged, read_rest
from wsi_deform.slide.dicom.instance import Instance, Rest
from wsi_deform.slide.dicom.meta import DEFLATED
from wsi_deform.slide.dicom.syntaxes import CODECS, Codec
from wsi_deform.slide.source import LocalFile, SourceFile

ITEM = b"\xfe\xff\x00\xe0"
END_OF_ITEMS = b"\xfe\xff\xdd\xe0"
ITEM_BYTES = 8
# By these a frame begins that is stored in several fragments.
STARTS = {
    Codec.JPEG: (b"\xff\xd8",),
    Codec.JPEG_LOSSLESS: (b"\xff\xd8",),
    Codec.JPEG_LS: (b"\xff\xd8",),
    Codec.JPEG_2000: (b"\xff\x4f", b"\0\0\0\x0c"),
    Codec.JPEG_XL: (b"\xff\x0a", b"\0\0\0\x0c"),
}
# No codec stores a frame in more than so many times its decoded bytes and some for headers.
MOST_TIMES, MOST_BYTES = 2, 1 << 20
INFLATE_BYTES = 1 << 20


class Frames:
    """The frames of one file. Safe in threads and after fork; tables are read when they are first needed.

    Attributes:
        instance: The header of the file.
        rest: What follows it.
    """

    def __init__(self, instance: Instance) -> None:
        """Find the pixels; reads no frame.

        Args:
            instance: Header of the file.

        Raises:
            SlideError: The file is too short for the frames that it declares, or damaged.
        """
        self.instance = instance
        self._source = LocalFile(instance.path)
        if instance.meta.syntax == DEFLATED:
            self._source = _inflated(instance, self._source)
        with_places = instance.is_sparse
        self.rest: Rest = read_rest(
            instance, io.BufferedReader(SourceFile(self._source)), with_places=with_places
        )
        if with_places and len(self.rest.places) != instance.frames:
            raise damaged(instance.path, f"{instance.frames} frames, places of {len(self.rest.places)}")
        self._frame_bytes = instance.tile.area * instance.samples
        self._lock = threading.Lock()
        self._starts: NDArray[np.int64] | None = None
        self._is_misled = False
        self._check_length()

    def stored(self, number: int) -> bytes:
        """The bytes of a frame as they are stored.

        Args:
            number: Of the frame in this file, from 0.

        Raises:
            SlideError: They are missing, or not where the file says.
        """
        if not self._source.is_open:
            raise SlideError(f"{self.instance.path}: reading from a closed slide. Open the slide again.")
        if self.rest.pixels_bytes is not None:
            offset = self.rest.pixels_offset + number * self._frame_bytes
            return self._source.read(offset, self._frame_bytes)
        starts = self._frame_starts()
        # The last frame ends with the delimiter.
        end = int(starts[number + 1]) if number + 1 < len(starts) else self._source.size_bytes
        return self._fragments(int(starts[number]), end, number)

    def has_bad_table(self) -> bool:
        """Whether the file has an offset table that does not lead to its frames."""
        if self.rest.pixels_bytes is None:
            self._frame_starts()
        return self._is_misled

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._source.close()

    def _check_length(self) -> None:
        """Refuse more frames than the file has bytes for, before anything is made for each of them."""
        instance, rest = self.instance, self.rest
        after = self._source.size_bytes - rest.pixels_offset
        if rest.pixels_bytes is not None:
            if CODECS.get(instance.meta.syntax) is not Codec.RAW:
                raise damaged(instance.path, "compressed pixels that are not in fragments")
            after = min(after, rest.pixels_bytes)
            needed = instance.frames * self._frame_bytes
        else:
            needed = instance.frames * ITEM_BYTES
        if after < needed:
            raise damaged(
                instance.path,
                f"{instance.frames} frames declared, which take {needed} bytes or more; {max(after, 0)} are there",
            )

    def _frame_starts(self) -> NDArray[np.int64]:
        """Where the item of each frame's first fragment lies."""
        starts = self._starts
        if starts is None:
            with self._lock:
                starts = self._starts
                if starts is None:
                    starts = self._starts = self._find_starts()
        return starts

    def _find_starts(self) -> NDArray[np.int64]:
        table_bytes = self._item_bytes(self.rest.pixels_offset)
        first = self.rest.pixels_offset + ITEM_BYTES + table_bytes
        frames, table = self.instance.frames, np.empty(0, np.int64)
        if len(self.rest.offsets) == 8 * frames:
            table = np.frombuffer(self.rest.offsets, "<u8").astype(np.int64)
        elif table_bytes == 4 * frames:
            stored = self._source.read(self.rest.pixels_offset + ITEM_BYTES, table_bytes)
            table = np.frombuffer(stored.ljust(table_bytes, b"\0"), "<u4").astype(np.int64)
        # A table of 32 bits that has overflown, or one of another file, leads astray.
        is_sound = (
            len(table) == frames
            and table[0] == 0
            and table[-1] < self._source.size_bytes
            and bool(np.all(np.diff(table) > 0))
            and all(self._source.read(first + int(table[end]), 4) == ITEM for end in (0, -1))
        )
        self._is_misled = not is_sound and bool(table_bytes or self.rest.offsets)
        return table + first if is_sound else self._by_fragments(first)

    def _by_fragments(self, offset: int) -> NDArray[np.int64]:
        """Walk the headers of all fragments from the first one on, once."""
        path, frames = self.instance.path, self.instance.frames
        places, heads = [], []
        while True:
            head = self._source.read(offset, ITEM_BYTES + 4)
            if head[:4] != ITEM or len(head) < ITEM_BYTES:
                break
            places.append(offset)
            heads.append(head[ITEM_BYTES:])
            offset += ITEM_BYTES + struct.unpack_from("<I", head, 4)[0]
        if len(places) > frames:
            starts = STARTS.get(CODECS[self.instance.meta.syntax], ())
            places = [place for place, head in zip(places, heads, strict=True) if head.startswith(starts)]
        if len(places) != frames or offset > self._source.size_bytes:
            raise damaged(path, f"{frames} frames declared, {len(places)} found")
        return np.array(places, np.int64)

    def _item_bytes(self, offset: int) -> int:
        head = self._source.read(offset, ITEM_BYTES)
        if len(head) < ITEM_BYTES or head[:4] != ITEM:
            raise damaged(self.instance.path, f"no fragment at byte {offset}")
        return int(struct.unpack_from("<I", head, 4)[0])

    def _fragments(self, start: int, end: int, number: int) -> bytes:
        """All fragments of a frame in one."""
        most = MOST_TIMES * self._frame_bytes + MOST_BYTES
        parts: list[bytes] = []
        held, offset = 0, start
        while offset + ITEM_BYTES <= end:
            if parts and self._source.read(offset, 4) == END_OF_ITEMS:
                break
            count = self._item_bytes(offset)
            held += count
            if held > most:
                raise damaged(
                    self.instance.path,
                    f"frame {number + 1} of {held:,} bytes or more, where {most:,} are the most that it can have",
                )
            if offset + ITEM_BYTES + count > self._source.size_bytes:
                raise damaged(self.instance.path, f"frame {number + 1} reaches beyond the end of the file")
            parts.append(self._source.read(offset + ITEM_BYTES, count))
            offset += ITEM_BYTES + count
        return b"".join(parts)


def _inflated(instance: Instance, stored: LocalFile) -> LocalFile:
    """The dataset of a file that is deflated as a whole, in a file of its own that has no name."""
    most = instance.rest_offset + instance.frames * instance.tile.area * instance.samples + MOST_BYTES
    descriptor, name = tempfile.mkstemp(prefix="wsi-deform-", suffix=".dicom")
    inflate, offset, written = zlib.decompressobj(-15), instance.meta.dataset_offset, 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            while not inflate.eof and written < most:
                data = inflate.unconsumed_tail or stored.read(offset, INFLATE_BYTES)
                offset += 0 if inflate.unconsumed_tail else len(data)
                if not data:
                    break
                written += file.write(inflate.decompress(data, INFLATE_BYTES))
        return LocalFile(Path(name))
    except (zlib.error, OSError) as error:
        raise damaged(instance.path, f"cannot be inflated: {error}") from error
    finally:
        Path(name).unlink()
