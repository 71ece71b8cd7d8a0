"""Masks on disk: a stream of tiles becomes a pyramidal OME-TIFF that every common reader opens.

Single channel uint8, Deflate tiles, 2x pyramid, physical size in um. Tiles of one label are encoded once per
label and shared, so a mask of 100,000 x 100,000 px takes a few megabytes. Tile data come first, as they are
made; the directories come last; the header is written when it is known whether 32-bit offsets suffice.

Convention:
    Pixel values are labels. They are never blended: a pixel of a coarse level is a label too. (OpenSlide
    blends levels above 0 by itself where the size of the slide does not divide; its level 0 is exact. libvips
    refuses a tile more than four times as large as the image: 128 x 128 px or less with tiles of 512.)
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform.ordered import map_in_order
from wsi_deform.deform.reverse import FieldSamples, MaskTile, ReverseSampler, pyramid_sizes
from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.directories import (
    CLASSIC_LIMIT_BYTES,
    HEADER_BYTES,
    TileTable,
    header_and_directories,
)
from wsi_deform.mask.ome import SOFTWARE, mask_xml

_DEFLATE_LEVEL = 3


def write_nearest_mask(
    path: str | Path,
    *,
    points_px: NDArray[np.float64],
    labels: NDArray[np.uint8],
    size: Size,
    mpp: float | None,
    fields: Sequence[tuple[Region, slice]] | None = None,
    outside_label: int = 0,
    tile_px: int = 512,
    threads: int = 1,
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Write the mask in which every pixel has the label of its nearest sample, with all levels.

    Args:
        path: The mask file, by custom ``<slide_id>.ome.tif``. Replaced if it exists.
        points_px: (N, 2) float64, (x, y), slide edge frame (level-0 px from the slide's top-left edge).
        labels: (N,) uint8.
        size: The slide's level-0 size, px.
        mpp: Level-0 um per pixel, or None when unknown.
        fields: Kept region (level-0 px) and rows of ``points_px`` of each field; kept regions are disjoint.
            Default: one field that keeps the whole slide.
        outside_label: Label of pixels that no field keeps.
        tile_px: Side of a tile, a multiple of 16.
        threads: Number of threads that render and encode; the file does not depend on it.
        annotations: Names and values to store in the file's OME-XML.

    Raises:
        ShapeError: Points, labels, fields or size cannot be used.
        MaskError: The file cannot be written; nothing is left behind.

    Convention:
        See `ReverseSampler`: distance from pixel centres, ties to the lower index.
    """
    parts = [(Region.whole(size), slice(None))] if fields is None else fields
    sampler = ReverseSampler(
        [FieldSamples(kept=kept, points_px=points_px[rows], labels=labels[rows]) for kept, rows in parts],
        size=size,
        outside_label=outside_label,
        tile_px=tile_px,
    )
    write_mask(
        path,
        sampler.tiles(threads=threads),
        size=size,
        mpp=mpp,
        tile_px=tile_px,
        threads=threads,
        annotations=annotations,
    )


def write_mask(
    path: str | Path,
    tiles: Iterable[MaskTile],
    *,
    size: Size,
    mpp: float | None,
    level_count: int | None = None,
    tile_px: int = 512,
    threads: int = 1,
    annotations: Mapping[str, str] | None = None,
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES,
) -> None:
    """Write a stream of tiles as a pyramidal OME-TIFF, aside first, moved into place when complete.

    Args:
        path: The mask file, by custom ``<slide_id>.ome.tif``. Replaced if it exists; its folder must exist.
        tiles: Every tile of every level once, in any order; read lazily.
        size: Size of level 0, px.
        mpp: Level-0 um per pixel, or None when unknown.
        level_count: Number of levels, from the finest; default until one tile holds the level.
        tile_px: Side of a tile, a multiple of 16.
        threads: Number of threads that encode; the file does not depend on it.
        annotations: Names and values to store in the file's OME-XML.
        classic_limit_bytes: A file that would be larger becomes BigTIFF.

    Raises:
        ShapeError: A setting is out of range.
        MaskError: A tile is missing, given twice, of the wrong shape or outside the mask, or the file cannot
            be written; nothing is left behind, and an older file of this name stays as it was.
    """
    path = Path(path)
    if tile_px < 16 or tile_px % 16:
        raise ShapeError(f"mask {path.name}: tile_px {tile_px}. TIFF needs a multiple of 16.")
    sizes = pyramid_sizes(size, tile_px)
    if level_count is not None and not 1 <= level_count <= len(sizes):
        raise ShapeError(
            f"mask {path.name}: level_count {level_count}. Needed 1 to {len(sizes)} for {size} px."
        )
    if mpp is not None and not 1e-4 <= mpp <= 1e4:
        raise ShapeError(f"mask {path.name}: mpp {mpp}. Needed um per pixel, 0.0001 to 10,000, or None.")
    tables = [TileTable(level_size, tile_px) for level_size in sizes[:level_count]]
    description = mask_xml(path.name.split(".")[0], size, mpp, annotations or {})
    with _written_aside(path) as file:
        end = _write_tiles(file, path.name, tables, tiles, tile_px, threads)
        start = end + end % 2
        header, directories = header_and_directories(
            tables,
            start=start,
            classic_limit_bytes=classic_limit_bytes,
            tile_px=tile_px,
            mpp=mpp,
            description=description,
            software=SOFTWARE,
        )
        file.write(bytes(start - end) + directories)
        file.seek(0)
        file.write(header)


def _write_tiles(
    file: BinaryIO,
    name: str,
    tables: Sequence[TileTable],
    tiles: Iterable[MaskTile],
    tile_px: int,
    threads: int,
) -> int:
    """Write the data of all tiles behind room for the header, note their places; returns the end."""
    end = file.write(bytes(HEADER_BYTES))
    shared: dict[int, tuple[int, int]] = {}  # label -> offset, length
    prepare = partial(_encoded, name, tables, tile_px)
    for tile, data in map_in_order(prepare, tiles, threads, heavy=lambda tile: tile.label is None):
        if tile.label is not None and tile.label in shared:
            place = shared[tile.label]
        else:
            if tile.label is not None:
                data = _deflated(np.full((tile_px, tile_px), tile.label, np.uint8))
                shared[tile.label] = (end, len(data))
            place = (end, len(data))
            end += file.write(data)
        table = tables[tile.level]
        rows, columns = slice(tile.row, tile.row + tile.rows), slice(tile.column, tile.column + tile.columns)
        if table.lengths[rows, columns].any():
            raise MaskError(f"mask {name}: {_where(tile)} was given twice. Needed every tile once.")
        table.offsets[rows, columns], table.lengths[rows, columns] = place
    for level, table in enumerate(tables):
        missing = np.argwhere(table.lengths == 0)
        if len(missing):
            row, column = missing[0]
            raise MaskError(
                f"mask {name}: {len(missing)} of {table.lengths.size} tiles of level {level} were not given, "
                f"first (column {column}, row {row}). Needed every tile; are they of a mask of another size?"
            )
    return end


def _encoded(name: str, tables: Sequence[TileTable], tile_px: int, tile: MaskTile) -> tuple[MaskTile, bytes]:
    """Check a tile and compress its pixels; no bytes for tiles of one label."""
    if not 0 <= tile.level < len(tables):
        raise MaskError(f"mask {name}: {_where(tile)}: needed a level from 0 to {len(tables) - 1}.")
    table = tables[tile.level]
    rows, columns = table.lengths.shape
    if (
        min(tile.column, tile.row) < 0
        or min(tile.columns, tile.rows) < 1
        or tile.column + tile.columns > columns
        or tile.row + tile.rows > rows
    ):
        raise MaskError(f"mask {name}: {_where(tile)} does not fit; the level has {columns} x {rows} tiles.")
    if tile.label is not None:
        if not 0 <= tile.label <= 255:
            raise MaskError(f"mask {name}: {_where(tile)} has label {tile.label}. Needed 0 to 255.")
        return tile, b""
    height = min(tile_px, table.size.height - tile.row * tile_px)
    width = min(tile_px, table.size.width - tile.column * tile_px)
    pixels = tile.pixels
    if (
        pixels is None
        or pixels.shape != (height, width)
        or pixels.dtype != np.uint8
        or tile.columns * tile.rows != 1
    ):
        found = "no label and no pixels" if pixels is None else f"pixels {pixels.shape} {pixels.dtype}"
        raise MaskError(
            f"mask {name}: {_where(tile)} has {found}. "
            f"Needed one tile of ({height}, {width}) uint8, or a label."
        )
    if height < tile_px or width < tile_px:
        # Stored tiles are whole; repeating the edge adds no label and few bytes.
        pixels = np.pad(pixels, ((0, tile_px - height), (0, tile_px - width)), mode="edge")
    return tile, _deflated(np.ascontiguousarray(pixels))


def _where(tile: MaskTile) -> str:
    """Say which tile a message is about."""
    block = "" if tile.columns * tile.rows == 1 else f", a block of {tile.columns} x {tile.rows} tiles"
    return f"tile (column {tile.column}, row {tile.row}) of level {tile.level}{block}"


def _deflated(pixels: NDArray[np.uint8]) -> bytes:
    """A zlib stream of the pixels; releases the GIL."""
    buffer = cast(bytes, pixels)  # any buffer will do; the stubs of imagecodecs know only bytes
    if imagecodecs.ZLIBNG.available:
        return cast(bytes, imagecodecs.zlibng_encode(buffer, level=_DEFLATE_LEVEL))
    return cast(bytes, imagecodecs.zlib_encode(buffer, level=_DEFLATE_LEVEL))


@contextmanager
def _written_aside(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file next to ``path`` that takes its place on success and vanishes on any failure."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise MaskError(
            f"mask {path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
