"""Whether a JPEG lacks data. Decoders put gray, and what is left of it, where data are missing, without a word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsi_deform.slide.codec_header import END_OF_IMAGE, START_OF_SCAN, jpeg_segments

SEQUENTIAL = (0xC0, 0xC1)
FRAME_MARKERS = range(0xC0, 0xD0)
HUFFMAN_TABLES, RESTART_INTERVAL, NO_FRAMES = 0xC4, 0xDD, (0xC4, 0xC8, 0xCC)
BLOCK_PX = 8
GRAY = b"\x80"
ZEROS = bytes(16)
SHORT_BITS = 10
SEARCHED_BYTES = 1 << 14
_Table: TypeAlias = tuple[NDArray[np.int16], int]
WORDS = (
    "",
    "a code that is none",
    "data that end too early",
    "data after its last block",
    "a restart marker missing",
)


def jpeg_damage(pixels: NDArray[Any], stored: bytes, head: bytes, tables: bytes | None = None) -> str:
    """What is wrong with a JPEG that a decoder accepted.

    Args:
        pixels: (H, W, channels) or (H, W), what it decoded to, whole.
        stored: The JPEG.
        head: ``jpeg_head`` of it.
        tables: The JPEG with its tables where they lie elsewhere, or None.

    Returns:
        A few words, or "" where nothing is wrong, or nothing can be told.

    Convention:
        Found is what libjpeg warns of where data end before the picture does: cut off, or lost and filled with zeros,
        with ones or with noise, which take fewer bits than the picture. The decoder then leaves the end of the
        picture, or of a restart interval, gray (128). Only JPEGs that end so, have restart intervals or 16 zero bytes
        in a row are walked through code by code (half the time of decoding); others with damaged codes are not found.
    """
    scan = _first_scan(tables or b"", head)
    if not (_ends_gray(pixels) or _has_zeros(stored) or (scan is not None and scan.restart)):
        return ""
    if scan is None:
        return "" if b"\xff\xd9" in stored[-16:] else WORDS[2]
    return _walked(scan, stored, tables)


def _has_zeros(stored: bytes) -> bool:
    """Whether 16 zero bytes in a row are in it: then a word of 8, counted from the start, is zero too."""
    # Twice as fast as the search alone where that is long.
    if len(stored) > SEARCHED_BYTES and np.frombuffer(stored, np.uint64, len(stored) // 8).all():
        return False
    return ZEROS in stored


def _ends_gray(pixels: NDArray[Any]) -> bool:
    """Whether the last block has the gray of a block without data."""
    if pixels[-1, -1].tobytes() != GRAY * (pixels.shape[2] if pixels.ndim == 3 else 1):  # nearly always
        return False
    return bool((pixels[-BLOCK_PX:, -BLOCK_PX:] == GRAY[0]).all())


@dataclass(slots=True)
class _Headers:
    """What the segments before a scan say.

    Attributes:
        marker: Of the frame: how it is coded.
        bits: Per sample.
        frame: Its height and width, px, or None.
        sampling: Component -> blocks across and down in a group.
        codes: Class and number of a table, as stored -> its codes and where long ones begin, see ``walk_scan``.
        restart: Groups between restart markers, 0 for none.
        scan: Components with their tables, as stored.
        data: Where the data of the scan begin.
    """

    marker: int = 0
    bits: int = 0
    frame: tuple[int, int] | None = None
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    codes: dict[int, _Table] = field(default_factory=dict)
    restart: int = 0
    scan: bytes = b""
    data: int = 0

    def read(self, stored: bytes, start: int = 0) -> None:
        """Take in the segments from the start, or from a place after a scan, to the next scan."""
        self.scan = b""
        for marker, begin, end in jpeg_segments(b"\xff\xd8" + stored[start:] if start else stored):
            shift = start - 2 if start else 0
            held = stored[begin + shift : end + shift]
            if marker == HUFFMAN_TABLES:
                self.codes |= dict(_tables(held))
            elif marker == RESTART_INTERVAL:
                self.restart = int.from_bytes(held[:2])
            elif marker == START_OF_SCAN:
                self.scan, self.data = held, end + shift
            elif marker in FRAME_MARKERS and marker not in NO_FRAMES:
                self.marker, self.bits = marker, held[0]
                self.frame = int.from_bytes(held[1:3]), int.from_bytes(held[3:5])
                parts = [held[at : at + 3] for at in range(6, 6 + 3 * held[5], 3)]
                self.sampling = {each[0]: (each[1] >> 4, each[1] & 15) for each in parts}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scan:
    """What ``walk_scan`` needs of a scan, and where its data begin."""

    codes: NDArray[np.int16]
    long_from: NDArray[np.int64]
    blocks: NDArray[np.int64]
    groups: int
    restart: int
    data: int


@lru_cache(maxsize=256)
def _first_scan(tables: bytes, head: bytes) -> _Scan | None:
    """The first scan of a JPEG, by all that lies before its data: the same for most tiles of a level.

    Returns:
        None for a JPEG that is not sequential and of 8 bits, or whose tables are the decoder's own.
    """
    found = _Headers()
    for data in (tables, head):
        found.read(data)
    return _scan_of(found)


def _scan_of(found: _Headers) -> _Scan | None:
    if not found.scan or found.frame is None or found.marker not in SEQUENTIAL or found.bits != 8:
        return None
    count = found.scan[0]
    parts = [(found.scan[1 + 2 * at], found.scan[2 + 2 * at]) for at in range(count)]
    wanted = sorted({key for _, both in parts for key in (both >> 4, 0x10 | both & 15)})
    if not set(wanted) <= found.codes.keys() or not {part for part, _ in parts} <= found.sampling.keys():
        return None
    places = {key: place for place, key in enumerate(wanted)}
    blocks = [
        (places[both >> 4], places[0x10 | both & 15])
        for part, both in parts
        for _ in range(1 if count == 1 else int(np.prod(found.sampling[part])))
    ]
    both = [found.codes[key] for key in wanted]
    codes = np.zeros((len(both), max(len(each) for each, _ in both)), np.int16)
    for row, (each, _) in zip(codes, both, strict=True):
        row[: len(each)] = each
    return _Scan(
        codes=codes,
        long_from=np.array([start for _, start in both], np.int64),
        blocks=np.array(blocks, np.int64),
        groups=_groups(found, parts[0][0] if count == 1 else None),
        restart=found.restart,
        data=found.data,
    )


def _walked(scan: _Scan, data: bytes, tables: bytes | None) -> str:
    """Walk through all scans, of which most JPEGs have one."""
    # Numba takes a moment to import, which a sound file need not wait for.
    from wsi_deform.kernels.jpeg_scan import WHOLE, walk_scan

    stored = np.frombuffer(data, np.uint8)
    found: _Headers | None = None
    while True:
        status, end = walk_scan(
            stored, scan.data, scan.codes, scan.long_from, scan.blocks, scan.groups, scan.restart
        )
        if status != WHOLE:
            return f"{WORDS[status]}, at byte {end:,} of {len(data):,}"
        while data[end : end + 2] == b"\xff\xff":
            end += 1
        if data[end + 1 : end + 2] == bytes([END_OF_IMAGE]) or end + 1 >= len(data):
            return ""
        if found is None:
            found = _Headers()
            found.read(tables or b"")
            found.read(data)
        found.read(data, end)
        following = _scan_of(found)
        if following is None:
            return ""
        scan = following


def _groups(found: _Headers, alone: int | None) -> int:
    """Number of groups of a scan of all components, or blocks of one alone."""
    across = max(each[0] for each in found.sampling.values())
    down = max(each[1] for each in found.sampling.values())
    height, width = found.frame or (0, 0)
    if alone is not None:
        own = found.sampling[alone]
        width, height = -(-width * own[0] // across), -(-height * own[1] // down)
        across = down = 1
    return -(-width // (BLOCK_PX * across)) * -(-height // (BLOCK_PX * down))


@lru_cache(maxsize=32)
def _tables(held: bytes) -> tuple[tuple[int, _Table], ...]:
    """The tables of a segment: class and number, as stored, and codes."""
    return tuple(_each_table(held))


def _each_table(held: bytes) -> Iterator[tuple[int, _Table]]:
    while len(held) > 17:
        key, lengths = held[0], held[1:17]
        values = held[17 : 17 + sum(lengths)]
        yield key, _codes(lengths, values, is_first=key < 0x10)
        held = held[17 + sum(lengths) :]


def _codes(lengths: bytes, values: bytes, *, is_first: bool) -> _Table:
    """The codes of a table, and the first 16 bits that are a code of more than 10; see ``walk_scan``.

    Source:
        ITU-T T.81, annexes C and F.2.2.
    """
    codes = np.zeros(1 << 16, np.int16)
    begin = number = 0
    long_from = 0
    for length, count in enumerate(lengths, start=1):
        for value in values[number : number + count]:
            # Of others than the first: zeros before it, and bits of the value; 0 ends the block.
            extra = value if is_first else value & 15
            coefficients = 1 if is_first else 64 if value == 0 else (value >> 4) + 1
            end = begin + (1 << 16 - length)
            codes[begin:end] = coefficients << 6 | min(31, length + extra)
            begin = end
        number += count
        if length == SHORT_BITS:
            long_from = min(begin, 1 << 16)  # a damaged table may have more codes than there is room for
    return np.concatenate((codes[:: 1 << 16 - SHORT_BITS], codes[long_from:])), long_from
