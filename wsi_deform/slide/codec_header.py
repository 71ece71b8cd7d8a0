"""What the header of a compressed picture says of its size, read before a decoder believes it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JXL_MAGIC = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# Markers of frames: baseline to arithmetic, and JPEG-LS; between them lie DHT, JPG and DAC, which are none.
FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
LOSSLESS_FRAMES = frozenset([0xC3, 0xC7, 0xCB, 0xCF, 0xF7])
# How far the head of a JPEG 2000 in boxes goes, and how many chunks lie before the pixels of a WebP.
JPEG_2000_HEAD, WEBP_CHUNKS = 4096, 8
PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
# Sensible encoders write some ten scans of a progressive JPEG; each is decoded over the whole picture.
MAX_SCANS = 100
JXL_BITS = (9, 13, 18, 30)
JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class Declared(NamedTuple):
    """What a header says: width and height, px, and channels; 0 channels where it need not be asked."""

    width: int
    height: int
    channels: int = 0


def declared(stored: bytes) -> Declared | None:
    """What a compressed picture declares to be.

    Args:
        stored: JPEG, JPEG-LS, JPEG 2000, JPEG XL, JPEG XR, PNG, WebP or LERC, from its first byte.

    Returns:
        Its size, or None where the bytes are none of these, or their header is cut off.
    """
    try:
        if stored[:2] == b"\xff\xd8":
            return declared_jpeg(jpeg_head(stored))[0]
        if stored[:8] == PNG_MAGIC:
            return Declared(*struct.unpack_from(">II", stored, 16))
        if stored[:4] == b"RIFF" and stored[8:12] == b"WEBP":
            return _webp(stored)
        if stored[:6] == b"Lerc2 ":
            version = struct.unpack_from("<i", stored, 6)[0]
            height, width = struct.unpack_from("<II", stored, 14 if version >= 3 else 10)
            return Declared(width, height)
        if stored[:4] == b"II\xbc\x01":
            return _jpeg_xr(stored)
        if stored[:2] == b"\xff\x0a" or stored[:12] == JXL_MAGIC:
            return _jpeg_xl(stored)
        return _jpeg_2000(stored)
    except (struct.error, IndexError):
        return None


def jpeg_segments(stored: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments of a JPEG up to the data of its first scan.

    Yields:
        Marker (its second byte), start and end of what the segment holds, its length left out.
    """
    place = 2
    while place + 4 <= len(stored) and stored[place] == 0xFF:
        marker = stored[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == END_OF_IMAGE:
            return
        end = place + 2 + int.from_bytes(stored[place + 2 : place + 4])
        yield marker, place + 4, end
        if marker == START_OF_SCAN:
            return
        place = end


def jpeg_head(stored: bytes) -> bytes:
    """All that lies before the data of a JPEG's first scan: most tiles of a level have the same."""
    # As fast as looking at each segment; tables hold no marker but by chance, and then the rest is found wanting.
    begin = stored.find(b"\xff\xda") + 2
    return stored[: begin + int.from_bytes(stored[begin : begin + 2])] if begin >= 2 else stored


@lru_cache(maxsize=256)
def declared_jpeg(head: bytes) -> tuple[Declared | None, bool]:
    """What a JPEG declares to be, by its ``jpeg_head``, and whether it is progressive."""
    for marker, start, _ in jpeg_segments(head):
        if marker in FRAMES and start + 6 <= len(head):
            height, width, channels = struct.unpack_from(">HHB", head, start + 1)
            return Declared(width, height, channels), marker in PROGRESSIVE
    return None, False


def has_too_many_scans(stored: bytes) -> bool:
    """Whether a progressive JPEG has so many scans that decoding it is all that one would ever do."""
    return stored.count(b"\xff\xda") > MAX_SCANS


def _webp(stored: bytes) -> Declared | None:
    kind = stored[12:16]
    if kind == b"VP8X":  # a canvas; its frames may be no larger
        return Declared(*(1 + int.from_bytes(stored[at : at + 3], "little") for at in (24, 27)))
    if kind == b"VP8L":
        bits = int.from_bytes(stored[21:25], "little")
        return Declared(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", stored, 26)
        return Declared(width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg_2000(stored: bytes) -> Declared | None:
    """Of a bare code stream or of one in a file of boxes; its size is the area from the image's offset on."""
    start = (
        0
        if stored[:4] == b"\xff\x4f\xff\x51"
        else stored.find(b"\xff\x4f\xff\x51")
        if _in_boxes(stored)
        else -1
    )
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", stored, start + 8)
    (channels,) = struct.unpack_from(">H", stored, start + 40)
    return Declared(max(0, right - left), max(0, bottom - top), channels)


def _in_boxes(stored: bytes) -> bool:
    return stored[4:8] == b"jP  "


def _jpeg_xr(stored: bytes) -> Declared | None:
    (at,) = struct.unpack_from("<I", stored, 4)
    (count,) = struct.unpack_from("<H", stored, at)
    found = {}
    for number in range(min(count, 64)):
        tag, kind, _, value = struct.unpack_from("<HHII", stored, at + 2 + 12 * number)
        found[tag] = value & 0xFFFF if kind == 3 else value
    return Declared(found[0xBC80], found[0xBC81]) if {0xBC80, 0xBC81} <= found.keys() else None


def _jpeg_xl(stored: bytes) -> Declared | None:
    start = 0
    if stored[:2] != b"\xff\x0a":
        start = next((at for at in (stored.find(b"jxlc") + 4, stored.find(b"jxlp") + 8) if at > 8), -1)
    if start < 0 or stored[start : start + 2] != b"\xff\x0a":
        return None
    bits, used = int.from_bytes(stored[start + 2 : start + 14], "little"), 0

    def take(count: int) -> int:
        nonlocal used
        used += count
        return bits >> used - count & (1 << count) - 1

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take(JXL_BITS[take(2)])

    small = take(1)
    height = side(small)
    ratio = take(3)
    if ratio == 0:
        return Declared(side(small), height)
    across, down = JXL_RATIOS[ratio - 1]
    return Declared(height * across // down, height)


def is_lossy(stored: bytes) -> bool:
    """Whether a compressed picture says of itself that its decoder gives other numbers than were stored.

    Args:
        stored: As of ``declared``. JPEG is lossy but for its lossless mode and JPEG-LS; of JPEG 2000 the wavelet with
            fractions is, of WebP the format of VP8. Of others nothing is known.
    """
    if stored[:2] == b"\xff\xd8":
        markers = {marker for marker, _, _ in jpeg_segments(stored)}
        return not markers & LOSSLESS_FRAMES
    if stored[:4] == b"RIFF" and stored[8:12] == b"WEBP":
        return b"VP8 " in (stored[12:16], *(stored[at : at + 4] for at in _chunks_of_riff(stored)))
    coding = stored.find(b"\xff\x52", 0, JPEG_2000_HEAD)
    if b"\xff\x4f\xff\x51" in stored[:JPEG_2000_HEAD] and coding >= 0:
        return len(stored) > coding + 13 and stored[coding + 13] == 0
    return False


def _chunks_of_riff(stored: bytes) -> Iterator[int]:
    """Where the first chunks of a WebP begin."""
    at = 12
    for _ in range(WEBP_CHUNKS):
        if at + 8 > len(stored):
            return
        yield at
        (length,) = struct.unpack_from("<I", stored, at + 4)
        at += 8 + length + length % 2
