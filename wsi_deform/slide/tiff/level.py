"""One level of a TIFF pyramid: where its tiles lie and how they are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import NotThisReaderError, SlideError
from wsi_deform.geometry import Point, Size, level_downsample, tile_grid
from wsi_deform.limits import STRIP
from wsi_deform.slide.codec_header import Declared, declared, declared_jpeg, has_too_many_scans, jpeg_head
from wsi_deform.slide.declared import (
    JPEG_COMPRESSIONS,
    TooLargeError,
    check_block,
    check_filled,
    check_held,
    check_sizes,
)
from wsi_deform.slide.jpeg_damage import jpeg_damage
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.tiff.jpeg_2000 import APERIO_JPEG_2000_YCBCR, JPEG_2000, rgb_from_jpeg_2000
from wsi_deform.slide.tiff.page import YCBCR, segments

# Strips are cut into blocks of about this size, so that one strip of a whole image is never one tile: raw
# strips where they are larger, compressed ones, which are decoded as a whole and kept, where they are larger
# than the second number, and never those that decode to more than ``limits.STRIP``.
BLOCK_BYTES = 1 << 20
KEPT_STRIP_BYTES = 4 << 20
# Decoders of JPEG, WebP and JPEG XL turn YCbCr into RGB themselves; any other leaves it as stored.
YCBCR_DECODED = (7, 34892, 50001, 50002)
SPARE_ROWS = 256
# Sides of tiles are multiples of 16, and all levels may have the same; one flipped bit makes a tile of any size.
PADDING_PX, LARGE_TILE_PX = 15, 4096

Decode = Callable[[bytes, int], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One stored plane of a level: all channels, or one of several.

    Attributes:
        offsets: (tiles,) int64, file position of each tile, row by row.
        counts: (tiles,) int64, stored bytes of each tile; 0 where the writer left the tile out.
        decode: From stored bytes and segment number to (h, w, c); edge tiles may still be padded.
        first_segment: Segment number of the plane's first tile, which ``decode`` needs.
        channels: Number of channels in this plane.
        blocks_per_strip: Number of tiles in each compressed strip, which is decoded for all of them; their
            offsets and counts are the strip's. None where every tile is stored by itself.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Decode
    first_segment: int
    channels: int
    blocks_per_strip: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLevel:
    """One level: its geometry (see ``Level``) and its planes, which are stacked along channels."""

    size: Size
    tile: Size
    downsample: Point
    planes: tuple[Plane, ...]

    @property
    def holds_tiles(self) -> bool:
        """Whether any of its tiles is stored."""
        return any(bool(plane.counts.any()) for plane in self.planes)


def level_from_pages(pages: Sequence[Any], level_0: Size, path: SlidePath) -> TiffLevel:
    """Take what is needed from the pages of one level, so that the file can be closed.

    Args:
        pages: tifffile's page with all channels, or pages with one channel each, as ``checked_page`` passed them.
        level_0: Size of the finest level, px.
        path: The file, for messages.

    Returns:
        The level.

    Raises:
        SlideError: Its pixels cannot be decoded, or tiles are missing in the index.
    """
    page = pages[0].keyframe
    size = Size(page.imagewidth, page.imagelength)
    if page.imagedepth > 1 or page.dtype is None:
        raise SlideError(
            f"{path}: depth {page.imagedepth}, {page.bitspersample} bits of sample format "
            f"{page.sampleformat}. "
            "Needed a flat image of a common pixel type; convert the slide to a tiled 8-bit TIFF."
        )
    if size == level_0:  # others are smaller
        check_sizes([size], path)
    raw = int(page.compression) == 1 and int(page.predictor) == 1 and int(page.fillorder) == 1
    if raw and not page.is_tiled and page.bitspersample in (8, 16, 32, 64):
        return _raw_level(pages, level_0, path)
    tile = (
        Size(page.tilewidth, page.tilelength)
        if page.is_tiled
        else Size(size.width, min(page.rowsperstrip, size.height))
    )
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    pixel_bytes = page.dtype.itemsize * (1 if separate else page.samplesperpixel)
    if page.is_tiled:
        if tile.width > max(size.width + PADDING_PX, LARGE_TILE_PX) or tile.height > max(
            size.height + PADDING_PX, LARGE_TILE_PX
        ):
            raise TooLargeError(
                f"{path}: declares tiles of {tile} px for a level of {size} px. Needed tiles that the level "
                f"fills, or of {LARGE_TILE_PX:,} px a side at most. The file is damaged: copy or download it again."
            )
        check_block("tiles", tile, tile.area * pixel_bytes, path)
    else:
        # A whole one, even where the image is lower.
        check_block("compressed strips", tile, tile.area * pixel_bytes, path, STRIP)
    area = tile_grid(size, tile).area
    planes = [plane for one in pages for plane in _planes(one, area, path)]
    needed = area * len(planes)
    found = sum(len(plane.offsets) for plane in planes)
    if found != needed:
        raise _tiles_missing(path, size, found, needed)
    bits = _bits(page)
    for plane in planes:
        filled, held = int(np.count_nonzero(plane.counts)), int(plane.counts.sum())
        # What is left out takes no bytes; bits, because a pixel of a 1-bit image decodes to a byte.
        decoded = filled * min(tile.area, size.area) * plane.channels * bits // 8
        check_held(size, decoded, held, int(page.compression), path)
        check_filled(area, filled, path)
    if not page.is_tiled:
        tile, planes = _in_blocks(size, tile, planes, page.dtype.itemsize)
    return TiffLevel(size=size, tile=tile, downsample=level_downsample(level_0, size), planes=tuple(planes))


def _bits(page: Any) -> int:
    """Bits of a stored sample, at least."""
    return page.bitspersample if isinstance(page.bitspersample, int) else min(page.bitspersample)


def _in_blocks(size: Size, strip: Size, planes: list[Plane], itemsize: int) -> tuple[Size, list[Plane]]:
    """Cut compressed strips that are too large for tiles into blocks of rows."""
    row_bytes = size.width * max(plane.channels for plane in planes) * itemsize
    strip_bytes = strip.height * row_bytes
    if strip_bytes <= KEPT_STRIP_BYTES:
        return strip, planes
    rows = _block_rows(strip.height, row_bytes, single=strip.height == size.height)
    blocks = -(-strip.height // rows)
    strip_of = np.arange(0, size.height, rows) // strip.height
    cut = [
        replace(
            plane, offsets=plane.offsets[strip_of], counts=plane.counts[strip_of], blocks_per_strip=blocks
        )
        for plane in planes
    ]
    return Size(size.width, rows), cut


def _block_rows(strip_rows: int, row_bytes: int, *, single: bool) -> int:
    """Rows of a block: a divisor of the strip keeps every block inside one; a single strip needs none."""
    most = max(1, BLOCK_BYTES // row_bytes)
    return most if single else next(count for count in range(most, 0, -1) if strip_rows % count == 0)


def _planes(page: Any, area: int, path: SlidePath) -> Iterable[Plane]:
    key = page.keyframe
    decode = _checked_decode(page, _decode_of(page, path))
    offsets, counts = segments(page, path)
    separate = key.planarconfig == 2 and key.samplesperpixel > 1
    for number in range(key.samplesperpixel if separate else 1):
        part = slice(number * area, (number + 1) * area)
        yield Plane(
            offsets=offsets[part],
            counts=np.where(offsets[part] > 0, counts[part], 0),
            decode=decode,
            first_segment=number * area,
            channels=1 if separate else key.samplesperpixel,
        )


def _decode_of(page: Any, path: SlidePath) -> Decode:
    key = page.keyframe
    if int(key.photometric) == YCBCR and int(key.compression) in JPEG_2000:
        return rgb_from_jpeg_2000
    is_ycbcr = int(key.photometric) == YCBCR and int(key.compression) not in YCBCR_DECODED
    if is_ycbcr or int(key.compression) == APERIO_JPEG_2000_YCBCR:
        raise NotThisReaderError(
            f"{path}: YCbCr pixels in compression {int(key.compression)} cannot be read directly. Needed JPEG, JPEG "
            "2000 or WebP. Write the slide as RGB."
        )
    decode_segment, tables = page.decode, page.jpegtables
    try:
        decode_segment(None, 0)  # raises where compression or pixel type is not supported
    except (ValueError, NotImplementedError) as error:
        raise NotThisReaderError(
            f"{path}: compression {int(key.compression)} with photometric interpretation {int(key.photometric)} cannot "
            f"be decoded ({error}). Write the slide with JPEG, JPEG 2000 or deflate."
        ) from error

    def decode(stored: bytes, segment: int) -> NDArray[Any]:
        if tables is None:
            tile = decode_segment(stored, segment)[0]
        else:
            tile = decode_segment(stored, segment, jpegtables=tables)[0]
        return tile[0]  # type: ignore[no-any-return]

    return decode


def _checked_decode(page: Any, decode: Decode) -> Decode:
    """``decode`` for pictures inside TIFF, with their header read before and what JPEG decoders pass over after it."""
    key, tables = page.keyframe, page.jpegtables
    # Strips of JPEG may end below the image, by the rows of a strip.
    rows = max(1, min(key.rowsperstrip, key.imagelength + SPARE_ROWS))
    most = Size(key.tilewidth, key.tilelength) if key.is_tiled else Size(key.imagewidth, rows)
    channels = max(4, key.samplesperpixel)

    def checked_jpeg(stored: bytes, segment: int) -> NDArray[Any]:
        head = jpeg_head(stored)
        header, is_progressive = declared_jpeg(head)
        _check_header(header, most, channels)
        if is_progressive and has_too_many_scans(stored):
            raise ValueError("its JPEG has more scans than any program writes")
        tile = decode(stored, segment)
        if damage := jpeg_damage(tile, stored, head, tables):
            raise ValueError(f"its JPEG has {damage}")
        return tile

    def checked(stored: bytes, segment: int) -> NDArray[Any]:
        _check_header(declared(stored), most, channels)
        return decode(stored, segment)

    if int(key.compression) in JPEG_COMPRESSIONS:
        return checked_jpeg
    return checked if int(key.compression) in tifffile.TIFF.IMAGE_COMPRESSIONS else decode


def _check_header(header: Declared | None, most: Size, channels: int) -> None:
    """Refuse a picture that is larger than the tile that it is to fill, before it is decoded.

    Raises:
        ValueError: It declares more.
    """
    if header is None:
        return  # the decoder says what is wrong
    if header.width > most.width or header.height > most.height or header.channels > channels:
        raise ValueError(
            f"its header declares {header.width:,} x {header.height:,} px of {header.channels or 'some'} channels, "
            f"its tile has {most} of at most {channels}"
        )


def _raw_level(pages: Sequence[Any], level_0: Size, path: SlidePath) -> TiffLevel:
    """An uncompressed stripped level, cut into blocks of rows that may be finer than its strips."""
    key = pages[0].keyframe
    size = Size(key.imagewidth, key.imagelength)
    stored_dtype = key.dtype.newbyteorder(key.parent.byteorder)
    separate = key.planarconfig == 2 and key.samplesperpixel > 1
    channels = 1 if separate else key.samplesperpixel
    row_bytes = size.width * channels * stored_dtype.itemsize
    strip_rows = min(key.rowsperstrip, size.height)
    rows = strip_rows
    if rows * row_bytes > BLOCK_BYTES:
        rows = _block_rows(strip_rows, row_bytes, single=strip_rows == size.height)

    def decode(stored: bytes, _segment: int) -> NDArray[Any]:
        tile = np.frombuffer(stored, stored_dtype).reshape(-1, size.width, channels)
        return tile.astype(stored_dtype.newbyteorder("="), copy=False)

    strips = -(-size.height // strip_rows)
    tops = np.arange(0, size.height, rows)
    heights = np.minimum(rows, size.height - tops)
    planes = []
    needed = strips * (key.samplesperpixel if separate else 1)
    for page in pages:
        offsets, counts = segments(page, path)
        listed = min(len(offsets), len(counts))
        if (
            listed < needed and not len(offsets) == len(counts) == 1
        ):  # tifffile joins contiguous strips into one
            raise _tiles_missing(path, size, listed, needed)
        for number in range(key.samplesperpixel if separate else 1):
            strip = number * strips + tops // strip_rows
            if len(offsets) == 1:
                strip = np.zeros_like(tops)
                inside = (tops + number * size.height) * row_bytes
            else:
                inside = (tops % strip_rows) * row_bytes
            # Without any count it follows from the size, as libtiff knows; a strip left out has no offset either.
            present = (offsets[strip] > 0) & ((counts[strip] > 0) | ~counts.any())
            planes.append(
                Plane(
                    offsets=offsets[strip] + inside,
                    counts=np.where(present, heights * row_bytes, 0),
                    decode=decode,
                    first_segment=0,
                    channels=channels,
                )
            )
    downsample = level_downsample(level_0, size)
    return TiffLevel(size=size, tile=Size(size.width, int(rows)), downsample=downsample, planes=tuple(planes))


def _tiles_missing(path: SlidePath, size: Size, found: int, needed: int) -> SlideError:
    return TooLargeError(
        f"{path}: the level of {size} lists {found} tiles, needed {needed}. The file is damaged: copy "
        "it again."
    )
