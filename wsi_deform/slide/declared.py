"""What a slide file declares, held against its own bytes and against limits before anything is allocated or decoded."""

from __future__ import annotations

from collections.abc import Sequence

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.limits import LONGEST_SIDE_PX, SLIDE, TILE, TILE_ROW, Limit, in_unit
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import Level

RAW, LZW, DEFLATE, ADOBE_DEFLATE, PACKBITS = 1, 5, 32946, 8, 32773
JPEG_COMPRESSIONS = frozenset([6, 7, 33007, 34892])
# Most bytes that one stored byte can stand for, by TIFF compression; others can be beyond any number. Deflate: 258
# bytes from two bits. LZW: a code of 12 bits gives at most 4,095 bytes. PackBits: 128 bytes from two. JPEG: a bit for
# a block of 64 in a progressive scan, three channels of which two have a sixteenth of the blocks. Raw tiles at
# an edge may be cut, or share colours among four pixels.
MOST_FROM_A_BYTE = {RAW: 4, LZW: 2730, DEFLATE: 1032, ADOBE_DEFLATE: 1032, PACKBITS: 64}
MOST_FROM_A_JPEG_BYTE = 1400
RGB_BYTES = 3
SPARSEST = 1000
REMEDY = (
    "A pyramid of smaller tiles is better, for example: vips tiffsave IMAGE SLIDE.tif --tile --pyramid "
    "--compression jpeg"
)


class TooLargeError(SlideError):
    """More is declared than a limit, or the file itself, allows: no other reader is asked, which would believe it."""


def check_sizes(sizes: Sequence[Size], path: SlidePath) -> None:
    """Refuse a slide with a level that is larger than the program, or the limit, allows.

    Args:
        sizes: Of its levels, px.
        path: The file, for messages.

    Raises:
        TooLargeError: A side has more than 1,048,576 px, or a level more pixels than ``limits.SLIDE``.
    """
    for size in sizes:
        if size.long > LONGEST_SIDE_PX:
            raise TooLargeError(
                f"{path}: declares {size} px. Needed at most {LONGEST_SIDE_PX:,} px a side. The file is damaged, or no "
                "slide: copy or export it again."
            )
        if size.area > SLIDE.value:
            raise TooLargeError(
                f"{path}: declares {size} px, {in_unit(size.area, SLIDE)}. {SLIDE.needed(size.area)}"
            )


def check_block(what: str, size: Size, nbytes: int, path: SlidePath, limit: Limit = TILE) -> None:
    """Refuse a tile, chunk or strip that decodes to more than the limit.

    Args:
        what: "tiles of level 0", as the message says it.
        size: Its width and height, px.
        nbytes: What it decodes to.
        path: The file, for messages.
        limit: Which limit.

    Raises:
        TooLargeError: It is too large.
    """
    if nbytes > limit.value:
        raise TooLargeError(
            f"{path}: declares {what} of {size} px, which decode to {in_unit(nbytes, limit)} each. "
            f"{limit.needed(nbytes)} {REMEDY}"
        )


def check_held(size: Size, decoded: int, stored: int, compression: int, path: SlidePath) -> None:
    """Refuse more pixels than the stored bytes can hold in any way.

    Args:
        size: Of the level, px.
        decoded: Bytes of the pixels of all tiles or strips that are stored.
        stored: Bytes that they are stored in.
        compression: TIFF compression number.
        path: The file, for messages.

    Raises:
        TooLargeError: No file of this compression can hold so much.
    """
    most = MOST_FROM_A_JPEG_BYTE if compression in JPEG_COMPRESSIONS else MOST_FROM_A_BYTE.get(compression)
    # A small block may hold more than its share: codes of less than a byte round up, tables lie elsewhere.
    if most is not None and decoded > most * (stored + 64):
        raise TooLargeError(
            f"{path}: declares a level of {size} px, {decoded:,} bytes of pixels in {stored:,} stored bytes. "
            f"Compression {compression} holds at most {most:,} in a byte. The file is damaged: copy or download it "
            "again."
        )


def check_filled(tiles: int, stored: int, path: SlidePath) -> None:
    """Refuse a level of which next to nothing is stored: work on it would be in no relation to the file.

    Args:
        tiles: Number of its tiles.
        stored: How many of them are stored; those counted so far, where no more need be.
        path: The file, for messages.

    Raises:
        TooLargeError: Fewer than one in SPARSEST.
    """
    if stored < tiles // SPARSEST:
        raise TooLargeError(
            f"{path}: declares a level of {tiles:,} tiles, of which {stored:,} are stored. Needed one in {SPARSEST:,} "
            "or more. The file is damaged, or was not written to its end: copy or export it again."
        )


def check_buildable(stored: Level, name: str) -> None:
    """Refuse a slide without coarse levels whose rows of tiles are too large to build them from.

    Args:
        stored: The coarsest stored level.
        name: The slide, for messages.

    Raises:
        TooLargeError: A row of its tiles needs more memory than the limit.
    """
    # 16-bit sums over 2 x 2 pixels of a whole row of tiles.
    rows = min(stored.tile.height, stored.size.height) // 2 + 2
    nbytes = rows * -(-stored.size.width // 2) * 2 * RGB_BYTES
    if nbytes > TILE_ROW.value:
        raise TooLargeError(
            f"{name}: no coarse levels are stored below {stored.size} px, and building them from tiles of "
            f"{stored.tile} px takes {in_unit(nbytes, TILE_ROW)}. {TILE_ROW.needed(nbytes)} {REMEDY}"
        )
