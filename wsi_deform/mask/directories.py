"""The header and the image file directories (IFDs) of a tiled pyramid in classic TIFF or BigTIFF.

The layout is a hybrid, since readers look for levels in one of two places: there is one set of reduced IFDs,
chained after IFD 0 (OpenSlide, libvips, GDAL) *and* listed in its SubIFDs (tifffile, Bio-Formats and with it
QuPath).

A map of several channels has one full-size IFD per channel, first in the chain; the levels of the first
channel follow in the chain and in its SubIFDs, those of the others in their SubIFDs alone, since a reader that
looks at the chain would take them for levels of one image.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Mpp, Size, both_axes, tile_grid

HEADER_BYTES = 16
"""Room for either header: 8 bytes of classic TIFF, 16 of BigTIFF."""

CLASSIC_LIMIT_BYTES = 2**32
"""The size up to which a file can be classic TIFF (32-bit offsets)."""

_ASCII, _SHORT, _LONG, _RATIONAL, _IFD, _LONG8, _IFD8 = 2, 3, 4, 5, 13, 16, 18
_LARGEST_LONG = 2**32 - 1
_UM_PER_CM = 10_000.0
_DEFLATE, _MIN_IS_BLACK, _RGB, _UNSIGNED, _NO_UNIT, _CENTIMETRE = 8, 1, 2, 1, 1, 3


class TileTable:
    """Where the tiles of one level lie in the file.

    Attributes:
        size: Size of the level, px.
        offsets: (channels, rows, columns) uint64, bytes from the start of the file.
        lengths: (channels, rows, columns) uint32, bytes; 0 where no tile was given yet.
    """

    def __init__(self, size: Size, tile_px: int, channels: int = 1) -> None:
        shape = (channels, *tile_grid(size, Size(tile_px, tile_px)).shape)
        self.size = size
        self.offsets: NDArray[np.uint64] = np.zeros(shape, np.uint64)
        self.lengths: NDArray[np.uint32] = np.zeros(shape, np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One tag of an IFD; the payload is little-endian and ``count`` values of TIFF type ``kind`` long."""

    tag: int
    kind: int
    count: int
    payload: bytes


def header_and_directories(
    levels: Sequence[TileTable],
    *,
    start: int,
    tile_px: int,
    mpp: Mpp | None,
    description: str,
    software: str,
    bits: int = 8,
    rgb: bool = False,
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES,
) -> tuple[bytes, bytes]:
    """The first HEADER_BYTES of a pyramid's file, and all its IFDs as one block that ends it.

    Args:
        levels: Finest first.
        start: Where the block will lie in the file, bytes, even; IFD 0 is at its start.
        tile_px: Side of a tile.
        mpp: Level-0 um per pixel, or None for no resolution.
        description: ImageDescription of IFD 0, written as UTF-8.
        software: Software tag.
        bits: Bits of a pixel of one channel, 8 or 16.
        rgb: Whether a pixel is red, green and blue, one behind the other.
        classic_limit_bytes: A file that would be larger as classic TIFF becomes BigTIFF.

    Returns:
        Header and block.
    """
    channels = len(levels[0].offsets)

    def block(start: int, *, big: bool) -> bytes:
        entries = [
            [
                _level_entries(level, table, channel, big, tile_px, mpp, bits, rgb)
                for level, table in enumerate(levels)
            ]
            for channel in range(channels)
        ]
        for own in (entries[channel][level] for channel in range(channels) for level in range(len(levels))):
            own.append(_text(305, software))
        entries[0][0].append(_text(270, description))
        return _linked(entries, start, big)

    # The length of the block depends on no offset, so it can be asked for at 0, where every offset fits.
    if start + len(block(0, big=False)) <= classic_limit_bytes:
        return struct.pack("<2sHI8x", b"II", 42, start), block(start, big=False)
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, start), block(start, big=True)


def _linked(entries: Sequence[Sequence[Sequence[_Entry]]], start: int, big: bool) -> bytes:
    """The IFDs of all channels and levels one behind the other, linked both ways that readers look for."""
    channels, levels = len(entries), len(entries[0])
    order = [(channel, 0) for channel in range(channels)]
    order += [(channel, level) for channel in range(channels) for level in range(1, levels)]
    chained = channels + levels - 1
    # The first pass finds the lengths, the second writes what follows from them.
    offsets = dict.fromkeys(order, 0)
    for _ in range(2):
        block, places = b"", {}
        for number, (channel, level) in enumerate(order):
            places[channel, level] = start + len(block)
            own = list(entries[channel][level])
            if level == 0 and levels > 1:
                below = [offsets[channel, each] for each in range(1, levels)]
                own.append(_numbers(330, _IFD8 if big else _IFD, below))
            following = offsets[order[number + 1]] if number + 1 < chained else 0
            block += _directory(own, places[channel, level], following, big)
        offsets = places
    return block


def _level_entries(
    level: int,
    table: TileTable,
    channel: int,
    big: bool,
    tile_px: int,
    mpp: Mpp | None,
    bits: int,
    rgb: bool,
) -> list[_Entry]:
    """The tags that every level has."""
    samples = 3 if rgb else 1
    x = y = struct.pack("<II", 1, 1)
    if mpp is not None:
        both = both_axes(mpp)
        x, y = _per_cm(both.x * 2**level), _per_cm(both.y * 2**level)
    return [
        _numbers(254, _LONG, [1 if level else 0]),  # NewSubfileType: reduced resolution
        _numbers(256, _LONG, [table.size.width]),
        _numbers(257, _LONG, [table.size.height]),
        _numbers(258, _SHORT, [bits] * samples),  # BitsPerSample
        _numbers(259, _SHORT, [_DEFLATE]),
        _numbers(262, _SHORT, [_RGB if rgb else _MIN_IS_BLACK]),
        _numbers(277, _SHORT, [samples]),  # SamplesPerPixel
        _Entry(tag=282, kind=_RATIONAL, count=1, payload=x),  # XResolution
        _Entry(tag=283, kind=_RATIONAL, count=1, payload=y),  # YResolution
        _numbers(284, _SHORT, [1]),  # PlanarConfiguration: contiguous
        _numbers(296, _SHORT, [_NO_UNIT if mpp is None else _CENTIMETRE]),
        _numbers(322, _LONG, [tile_px]),
        _numbers(323, _LONG, [tile_px]),
        _numbers(324, _LONG8 if big else _LONG, table.offsets[channel]),
        _numbers(325, _LONG, table.lengths[channel]),
        _numbers(339, _SHORT, [_UNSIGNED] * samples),  # SampleFormat
    ]


def _per_cm(mpp: float) -> bytes:
    """Pixels per cm as TIFF's pair of numbers, the nearest that fit."""
    per_cm = _UM_PER_CM / mpp
    ratio = Fraction(per_cm).limit_denominator(max(1, int(_LARGEST_LONG // (per_cm + 1))))
    return struct.pack("<II", ratio.numerator, ratio.denominator)


def _numbers(tag: int, kind: int, values: Sequence[int] | NDArray[np.unsignedinteger]) -> _Entry:
    """An entry of whole numbers."""
    dtype = {_SHORT: "<u2", _LONG: "<u4", _IFD: "<u4", _LONG8: "<u8", _IFD8: "<u8"}[kind]
    array = np.asarray(values).astype(dtype)
    return _Entry(tag=tag, kind=kind, count=array.size, payload=array.tobytes())


def _text(tag: int, text: str) -> _Entry:
    """An entry of text in UTF-8, closed by a zero byte."""
    payload = text.encode() + b"\0"
    return _Entry(tag=tag, kind=_ASCII, count=len(payload), payload=payload)


def _directory(entries: Sequence[_Entry], offset: int, following: int, big: bool) -> bytes:
    """One IFD at a place in the file, with the values that do not fit into it right behind."""
    head, entry, link, inline = ("<Q", "<HHQ", "<Q", 8) if big else ("<H", "<HHI", "<I", 4)
    length = struct.calcsize(head) + len(entries) * (struct.calcsize(entry) + inline) + struct.calcsize(link)
    directory = struct.pack(head, len(entries))
    values = bytearray()  # they begin at even offsets: a directory's length is even in both layouts
    for item in sorted(entries, key=lambda item: item.tag):
        directory += struct.pack(entry, item.tag, item.kind, item.count)
        if len(item.payload) <= inline:
            directory += item.payload.ljust(inline, b"\0")
        else:
            directory += struct.pack(link, offset + length + len(values))
            values += item.payload + bytes(len(item.payload) % 2)
    return directory + struct.pack(link, following) + bytes(values)
