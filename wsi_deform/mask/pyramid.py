"""A stream of tiles becomes a tiled pyramid in TIFF, aside first, moved into place when complete.

Deflate tiles, one or several channels of 8 or 16 bits. Tiles of one value are encoded once per value and
shared, so a mask of 100,000 x 100,000 px takes a few megabytes. Tile data come first, as they are made; the
directories come last; the header is written when it is known whether 32-bit offsets suffice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.files import write_aside
from wsi_deform.geometry import Mpp, Size, both_axes
from wsi_deform.kernels.ordered import map_in_order
from wsi_deform.mask.directories import (
    CLASSIC_LIMIT_BYTES,
    HEADER_BYTES,
    TileTable,
    header_and_directories,
)
from wsi_deform.mask.ome import SOFTWARE
from wsi_deform.reverse.levels import MaskTile

DEFLATE_LEVEL = 1
"""Of ISA-L, 0 to 3. On label tiles 2 gives the same bytes, 0 twice as many, and 3 more in three times the time."""


def write_pyramid(
    path: Path,
    tiles: Iterable[MaskTile],
    *,
    sizes: Sequence[Size],
    mpp: Mpp | None,
    description: str,
    tile_px: int,
    channels: int = 1,
    dtype: DTypeLike = np.uint8,
    palette: NDArray[np.uint8] | None = None,
    threads: int = 1,
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES,
) -> None:
    """Write a stream of tiles as a pyramid that every common reader opens.

    Args:
        path: The file, by custom ``<slide_id>.ome.tif``. Replaced if it exists; its folder must exist.
        tiles: Every tile of every level once, in any order; read lazily. Pixels are (H, W), or (C, H, W)
            where there are several channels; a label fills all channels.
        sizes: Sizes of the levels, px, finest first, each half of the one before, rounded up.
        mpp: Level-0 um per pixel, or None when unknown.
        description: ImageDescription, written as UTF-8.
        tile_px: Side of a tile, a multiple of 16.
        channels: Number of channels.
        dtype: uint8 or uint16.
        palette: (256, 3) RGB of each label of one channel of uint8: the file holds these colours instead of the labels.
        threads: Number of threads that encode; the file does not depend on it.
        classic_limit_bytes: A file that would be larger becomes BigTIFF.

    Raises:
        ShapeError: A setting is out of range.
        MaskError: A tile is missing, given twice, of the wrong shape or outside the mask, or the file cannot
            be written; nothing is left behind, and an older file of this name stays as it was.
    """
    both = None if mpp is None else both_axes(mpp)
    if both is not None and not all(1e-4 <= one <= 1e5 for one in (both.x, both.y)):
        raise ShapeError(f"mask {path.name}: mpp {mpp}. Needed um per pixel, 0.0001 to 100,000, or None.")
    layout = _Layout(path.name, sizes, tile_px, channels, np.dtype(dtype).newbyteorder("<"), palette)
    with _written(path) as file:
        end = _write_tiles(file, layout, tiles, threads)
        start = end + end % 2
        header, directories = header_and_directories(
            layout.tables,
            start=start,
            classic_limit_bytes=classic_limit_bytes,
            tile_px=tile_px,
            mpp=mpp,
            description=description,
            software=SOFTWARE,
            bits=8 * layout.dtype.itemsize,
            rgb=palette is not None,
        )
        file.write(bytes(start - end) + directories)
        file.seek(0)
        file.write(header)


class _Layout:
    """What the tiles of a file must look like, and where they went."""

    def __init__(
        self,
        name: str,
        sizes: Sequence[Size],
        tile_px: int,
        channels: int,
        dtype: np.dtype[Any],
        palette: NDArray[np.uint8] | None,
    ) -> None:
        self.name = name
        self.tile_px = tile_px
        self.channels = channels
        self.dtype = dtype
        self.palette = palette
        self.most = int(np.iinfo(dtype).max)
        self.tables = [TileTable(size, tile_px, channels) for size in sizes]

    def stored(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """What the file holds of the pixels of a channel."""
        return pixels if self.palette is None else np.take(self.palette, pixels, axis=0)


def deflated(pixels: NDArray[np.generic]) -> bytes:
    """A zlib stream of the pixels of a tile; releases the GIL.

    Args:
        pixels: Any shape and dtype; stored row by row.

    Returns:
        What every inflater turns back into the bytes of ``pixels``; the same for the same pixels on the same kind of
        processor (ISA-L chooses its matches with the instructions that it finds).
    """
    return isal_zlib.compress(np.ascontiguousarray(pixels), DEFLATE_LEVEL)


def _write_tiles(file: BinaryIO, layout: _Layout, tiles: Iterable[MaskTile], threads: int) -> int:
    """Write the data of all tiles behind room for the header, note their places; returns the end."""
    end = file.write(bytes(HEADER_BYTES))
    shared: dict[int, tuple[int, int]] = {}  # label -> offset, length
    side = layout.tile_px
    for tile, blobs in map_in_order(partial(_encoded, layout), tiles, threads):
        table = layout.tables[tile.level]
        window: Any = (tile.row, tile.column)  # Twice as fast as a slice; most blocks are of one tile.
        if tile.rows * tile.columns > 1:
            window = np.s_[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns]
        if np.count_nonzero(table.lengths[0][window]):  # several times faster than any()
            raise MaskError(f"mask {layout.name}: {_where(tile)} was given twice. Needed every tile once.")
        if tile.label is not None:
            if tile.label not in shared:
                data = deflated(layout.stored(np.full((side, side), tile.label, layout.dtype)))
                shared[tile.label] = (end, len(data))
                end += file.write(data)
            for channel in range(layout.channels):
                table.offsets[channel][window], table.lengths[channel][window] = shared[tile.label]
        for channel, data in enumerate(blobs):
            table.offsets[channel][window], table.lengths[channel][window] = end, len(data)
            end += file.write(data)
    for level, table in enumerate(layout.tables):
        missing = np.argwhere(table.lengths[0] == 0)
        if len(missing):
            row, column = missing[0]
            raise MaskError(
                f"mask {layout.name}: {len(missing)} of {table.lengths[0].size} tiles of level {level} were not given, "
                f"first (column {column}, row {row}). Needed every tile; are they of a mask of another size?"
            )
    return end


def _encoded(layout: _Layout, tile: MaskTile) -> tuple[MaskTile, list[bytes]]:
    """Check a tile and compress its pixels, channel by channel; no bytes for tiles of one label."""
    name, side, channels = layout.name, layout.tile_px, layout.channels
    if not 0 <= tile.level < len(layout.tables):
        raise MaskError(f"mask {name}: {_where(tile)}: needed a level from 0 to {len(layout.tables) - 1}.")
    table = layout.tables[tile.level]
    _, rows, columns = table.lengths.shape
    if (
        min(tile.column, tile.row) < 0
        or min(tile.columns, tile.rows) < 1
        or tile.column + tile.columns > columns
        or tile.row + tile.rows > rows
    ):
        raise MaskError(f"mask {name}: {_where(tile)} does not fit; the level has {columns} x {rows} tiles.")
    if tile.label is not None:
        if not 0 <= tile.label <= layout.most:
            raise MaskError(f"mask {name}: {_where(tile)} has label {tile.label}. Needed 0 to {layout.most}.")
        return tile, []
    height = min(side, table.size.height - tile.row * side)
    width = min(side, table.size.width - tile.column * side)
    shape = (height, width) if channels == 1 else (channels, height, width)
    pixels = tile.pixels
    if (
        pixels is None
        or pixels.shape != shape
        or pixels.dtype != layout.dtype
        or tile.columns * tile.rows != 1
    ):
        found = "no label and no pixels" if pixels is None else f"pixels {pixels.shape} {pixels.dtype}"
        raise MaskError(
            f"mask {name}: {_where(tile)} has {found}. Needed one tile of {shape} {layout.dtype}, or a label."
        )
    padded: NDArray[Any] = pixels
    if height < side or width < side:
        # Stored tiles are whole; repeating the edge adds no label and few bytes.
        padding = [(0, 0)] * (len(shape) - 2) + [(0, side - height), (0, side - width)]
        padded = np.pad(padded, padding, mode="edge")
    # The pixels end here: their memory serves the next tile while it is still in the cache.
    return MaskTile(level=tile.level, column=tile.column, row=tile.row), [
        deflated(layout.stored(each)) for each in padded.reshape(channels, side, side)
    ]


def _where(tile: MaskTile) -> str:
    """Say which tile a message is about."""
    block = "" if tile.columns * tile.rows == 1 else f", a block of {tile.columns} x {tile.rows} tiles"
    return f"tile (column {tile.column}, row {tile.row}) of level {tile.level}{block}"


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` that takes its place on success and vanishes on any failure."""
    try:
        # Which would be made: a mask never makes the folder that it was meant for.
        path.parent.stat()
        with write_aside(path) as aside, aside.open("xb") as file:
            yield file
    except OSError as error:
        raise MaskError(
            f"mask {path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
