"""A level of a mask file as bands of rows, of which only tiles of several labels are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import MaskError, SlideError
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.mask.polygons import WORD_PX, LabelBand
from wsi_deform.slide.tiff.tiles import TiffTiles


def open_mask(path: Path) -> TiffTiles:
    """Open a mask file.

    Args:
        path: What ``write_mask`` wrote.

    Raises:
        MaskError: It cannot be read, is no 8-bit map of one channel in tiles, or its levels are not each half of the
            one before, rounded up.
    """
    try:
        tiles = TiffTiles(path)
    except (SlideError, OSError) as error:
        raise MaskError(f"mask {error}") from error
    if (
        tiles.dtype != np.uint8
        or tiles.channels != 1
        or tiles.levels[0].planes[0].blocks_per_strip is not None
    ):
        raise MaskError(
            f"mask {path}: {tiles.dtype}, {tiles.channels} channels"
            f"{', in strips' if tiles.levels[0].planes[0].blocks_per_strip else ''}. Needed an 8-bit, tiled mask of "
            "one channel. Take one that `wsi-deform segment` wrote."
        )
    for level, found in enumerate(tiles.levels):
        wanted = level_size(tiles.size, level)
        if found.size != wanted:
            raise MaskError(
                f"mask {path}: level {level} has {found.size} px. Needed {wanted}, half of the level before. Take one "
                "that `wsi-deform segment` wrote."
            )
    return tiles


def level_size(size: Size, level: int) -> Size:
    """Size of a level of a mask: pixels of 2^level level-0 px, the last ones maybe partial."""
    return Size(-(-size.width >> level), -(-size.height >> level))


def mask_bands(
    tiles: TiffTiles, level: int, region: Region, *, meanings: Mapping[int, int] | None = None
) -> Iterator[LabelBand]:
    """Read rows of a level, one row of tiles at a time.

    Args:
        tiles: An open mask.
        level: Index of the level.
        region: What is wanted of it, px of the level; whole rows of blocks come, from the band's left edge 0.
        meanings: Pixel value -> label; default: a value is its label.

    Yields:
        Bands from top to bottom, which begin and end with the region.

    Raises:
        MaskError: A tile cannot be read, or holds a value without a meaning.
    """
    found = tiles.levels[level]
    lookup = _lookup(meanings)
    try:
        labels = constant_tiles(tiles, level)
        first, last = region.y // found.tile.height, -(-region.bottom // found.tile.height)
        for row in range(first, last):
            top = row * found.tile.height
            ends, places, stack = _row(tiles, level, row, labels, region, lookup)
            yield LabelBand(
                ends=ends,
                places=places,
                stack=stack,
                begin=max(0, region.y - top),
                end=min(found.tile.height, region.bottom - top),
            )
    except SlideError as error:
        raise MaskError(f"mask {error}") from error


def constant_tiles(tiles: TiffTiles, level: int) -> NDArray[np.int64]:
    """The label of each tile of a level.

    Args:
        tiles: An open mask.
        level: Index of the level.

    Returns:
        (rows, columns) int64, -1 where the tile has to be decoded. Tiles of one label share their bytes; so only tiles
        that share them are asked for here, one of each kind.

    Raises:
        SlideError: A tile cannot be read.
    """
    found = tiles.levels[level]
    offsets = found.planes[0].offsets
    columns = -(-found.size.width // found.tile.width)
    labels = np.full(len(offsets), -1, np.int64)
    _, kind_of, counts = np.unique(offsets, return_inverse=True, return_counts=True)
    members_of = np.split(np.argsort(kind_of, kind="stable"), np.cumsum(counts)[:-1])
    whole_columns, whole_rows = found.size.width // found.tile.width, found.size.height // found.tile.height
    for members in (each for each in members_of if len(each) > 1):
        # One that is stored whole, if there is one: edge tiles show only a part of the bytes.
        inside = members[(members % columns < whole_columns) & (members // columns < whole_rows)]
        if len(inside):
            pixels = tiles.read_tile(level, int(inside[0] % columns), int(inside[0] // columns))
            if (pixels == pixels[0, 0, 0]).all():
                labels[members] = pixels[0, 0, 0]
    return labels.reshape(-1, columns)


def _place(tiles: TiffTiles, level: int, column: int, row: int) -> Region:
    """The pixels of a tile, without what lies past the edge of the level."""
    return tile_region(column, row, tiles.levels[level].tile, tiles.levels[level].size)


def _lookup(meanings: Mapping[int, int] | None) -> NDArray[np.int16] | None:
    """(256,) pixel value -> label, -1 where it has none."""
    if meanings is None:
        return None
    lookup = np.full(256, -1, np.int16)
    for value, label in meanings.items():
        if 0 <= value < len(lookup):
            lookup[value] = label
    return lookup


def _meant(
    pixels: NDArray[np.uint8], lookup: NDArray[np.int16] | None, tiles: TiffTiles
) -> NDArray[np.uint8]:
    """The labels that pixels mean.

    Raises:
        MaskError: A value has no meaning.
    """
    if lookup is None:
        return pixels
    labels = lookup[pixels]
    if (labels < 0).any():
        values = ", ".join(map(str, np.unique(pixels[labels < 0])))
        raise MaskError(
            f"mask {tiles.path}: holds {values}, which the class table gives no meaning. Needed each value of the mask "
            "among the values of a class or in unlabelled. Add it there, or take the classes.json beside the mask."
        )
    return labels.astype(np.uint8)


def _row(
    tiles: TiffTiles,
    level: int,
    row: int,
    labels: NDArray[np.int64],
    region: Region,
    lookup: NDArray[np.int16] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Ends, places and stack of the blocks of a row of tiles; tiles outside the region are void."""
    found = tiles.levels[level]
    ends: list[int] = []
    places: list[int] = []
    mixed: list[tuple[int, Region]] = []
    for column, label in enumerate(labels[row].tolist()):
        place = _place(tiles, level, column, row)
        wanted = place.x < region.right and region.x < place.right
        if label >= 0 or not wanted:
            meant = (
                label
                if label < 0 or not wanted
                else int(_meant(np.array([label], np.uint8), lookup, tiles)[0])
            )
            kind = -1 - max(0, meant)
            if places and places[-1] == kind:
                ends[-1] = place.right
                continue
        else:
            kind = len(mixed)
            mixed.append((column, place))
        ends.append(place.right)
        places.append(kind)
    width = -(-found.tile.width // WORD_PX) * WORD_PX
    stack = np.zeros((len(mixed), found.tile.height, width), np.uint8)
    for into, (column, place) in zip(stack, mixed, strict=True):
        into[: place.height, : place.width] = _meant(
            tiles.read_tile(level, column, row)[..., 0], lookup, tiles
        )
    return np.array(ends, np.int64), np.array(places, np.int64), stack
