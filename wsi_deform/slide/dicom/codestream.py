"""What the header of a coded frame says of its size and colours, before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from wsi_deform.slide.codec_header import declared
from wsi_deform.slide.dicom.syntaxes import Codec

# Markers of JPEG and JPEG-LS that begin a frame; the others of the range are tables.
JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
JPEG_ALONE = {0x01, *range(0xD0, 0xDA)}
JPEG_SCAN, JFIF, ADOBE = 0xDA, 0xE0, 0xEE
J2K_SIZE, J2K_CODING, J2K_TILE = 0xFF51, 0xFF52, 0xFF90


class BadFrameError(ValueError):
    """A coded frame that is damaged, or not what its file says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codestream:
    """A coded frame, as its header says.

    Attributes:
        width: px.
        height: px.
        channels: Number of channels, or 0 where it was not asked.
        bits: Per sample, or 0.
        is_rgb: Whether a decoder gives RGB (True) or luma and chroma (False); None where the header says neither.
    """

    width: int
    height: int
    channels: int = 0
    bits: int = 0
    is_rgb: bool | None = None


def codestream(stored: bytes, codec: Codec) -> Codestream:
    """Read the header of a frame.

    Args:
        stored: The frame.
        codec: Its codec; not one without headers.

    Raises:
        BadFrameError: There is no such header.
    """
    try:
        if codec is Codec.JPEG_2000:
            return _jpeg_2000(stored)
        return _jpeg_xl(stored) if codec is Codec.JPEG_XL else _jpeg(stored)
    except (struct.error, IndexError) as error:
        raise BadFrameError(f"no header of {codec.value}") from error


def _jpeg(stored: bytes) -> Codestream:
    """JPEG, lossless JPEG and JPEG-LS."""
    is_rgb: bool | None = None
    size: tuple[int, int, int, int] | None = None
    for marker, start in _segments(stored):
        if marker == JFIF and stored[start : start + 5] == b"JFIF\0":
            is_rgb = False
        elif marker == ADOBE and stored[start : start + 5] == b"Adobe":
            is_rgb = stored[start + 11] == 0
        elif marker in JPEG_FRAMES:
            size = struct.unpack_from(">BHHB", stored, start)
            ids = bytes(stored[start + 6 + 3 * number] for number in range(size[3]))
            if is_rgb is None and ids == b"RGB":
                is_rgb = True
    if size is None:
        raise BadFrameError("no header of JPEG")
    bits, height, width, channels = size
    return Codestream(width=width, height=height, channels=channels, bits=bits, is_rgb=is_rgb)


def _segments(stored: bytes) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG before its scan, and where what they say begins."""
    offset = 2
    if stored[:2] != b"\xff\xd8":
        raise BadFrameError("no JPEG")
    while offset + 4 <= len(stored):
        if stored[offset] != 0xFF:
            raise BadFrameError("a damaged header of JPEG")
        marker = stored[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in JPEG_ALONE:
            offset += 2
        elif marker == JPEG_SCAN:
            return
        else:
            yield marker, offset + 4
            offset += 2 + struct.unpack_from(">H", stored, offset + 2)[0]


def _jpeg_2000(stored: bytes) -> Codestream:
    """JPEG 2000 and its high throughput kind; with or without the boxes of a JP2 file."""
    offset = 0 if stored[:2] == b"\xff\x4f" else stored.find(b"\xff\x4f\xff\x51")
    if offset < 0:
        raise BadFrameError("no JPEG 2000")
    offset += 2
    width = height = channels = bits = 0
    is_rgb: bool | None = None
    while True:
        marker, length = struct.unpack_from(">HH", stored, offset)
        if marker == J2K_SIZE:
            right, bottom, left, top = struct.unpack_from(">4I", stored, offset + 6)
            (channels,) = struct.unpack_from(">H", stored, offset + 38)
            width, height, bits = right - left, bottom - top, (stored[offset + 40] & 0x7F) + 1
        elif marker == J2K_CODING:
            # The decoder undoes a transform of colours that is written here, and knows of no other.
            is_rgb = True if stored[offset + 8] else None
        elif marker >= J2K_TILE or marker < 0xFF00:
            break
        offset += 2 + length
    if width < 1 or height < 1:
        raise BadFrameError("no size in the header of JPEG 2000")
    return Codestream(width=width, height=height, channels=channels, bits=bits, is_rgb=is_rgb)


def _jpeg_xl(stored: bytes) -> Codestream:
    """JPEG XL, with or without boxes; its decoder always gives RGB."""
    found = declared(stored)
    if found is None:
        raise BadFrameError("no JPEG XL")
    return Codestream(width=found.width, height=found.height, is_rgb=True)
