"""A map of a slide at a coarse resolution, put together field by field on disk, then written as a pyramid.

A map has about as many pixels as the slide has samples, in several channels; it waits for its last field in
a scratch file beside its place, so memory does not grow with the slide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.files import name_aside
from wsi_deform.geometry import Mpp, Point, Region, Size, both_axes, tile_grid, tile_region
from wsi_deform.mask.ome import Channel, image_xml
from wsi_deform.mask.pyramid import write_pyramid
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes
from wsi_deform.reverse.samples import FieldSamples

TILE_PX = 256

SMALLEST_MAP_PX = 16
"""A map is longer than half of this, or it has the slide's own size."""

Halve = Callable[[NDArray[Any]], NDArray[Any]]
"""From (C, 2, h, 2, w) blocks of two by two pixels, of the type of the map, to (C, h, w)."""


def map_downsample(samples: int, area_px: float, size: Size) -> int:
    """Level-0 px per pixel of a map that shows what the samples can tell.

    Args:
        samples: Number of samples.
        area_px: Area that they stand for, level-0 px^2.
        size: The slide's level-0 size, px.

    Returns:
        The largest power of two that is not above half the mean spacing of the samples (where a learned
        sampling grid looks closely, samples lie about twice as dense as on average) and leaves a map of more
        than a few pixels.
    """
    spacing_px = math.sqrt(area_px / max(1, samples))
    wanted = 1 << max(0, math.floor(math.log2(max(1.0, spacing_px / 2))))
    return min(wanted, _max_downsample(size))


class CoarseMap:
    """The pixels of a map while its fields come; a context manager whose file is whole or absent.

    Args:
        path: The map, by custom ``<slide_id>.<what>.ome.tif``. Replaced if it exists; its folder must exist.
        size: The slide's level-0 size, px.
        mpp: Level-0 um per pixel of the slide, or None when unknown.
        downsample: Level-0 px per pixel of the map, a power of two.
        channels: Channels of the map.
        dtype: uint8 or uint16.
        halve: Makes the next coarser level.
        annotations: Names and values to store in the file's OME-XML.
        threads: Number of threads that encode.

    Raises:
        ShapeError: The downsample is no power of two, or leaves too small a map.
        MaskError: The file cannot be written; nothing is left behind.

    Convention:
        Pixel (x, y) shows the slide at its centre, ((x + 1/2) d, (y + 1/2) d). Coarser levels are made from
        it by ``halve``. Pixels that no field keeps are 0 in all channels.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: Size,
        mpp: Mpp | None,
        downsample: int,
        channels: Sequence[Channel],
        dtype: DTypeLike,
        halve: Halve,
        annotations: Mapping[str, str],
        threads: int = 1,
    ) -> None:
        self.path = Path(path)
        most = _max_downsample(size)
        if not 1 <= downsample <= most or downsample & (downsample - 1):
            raise ShapeError(
                f"map {self.path.name}: downsample {downsample}. Needed a power of two, 1 to {most} for a slide "
                f"of {size} px."
            )
        self.slide_size = size
        self.level = downsample.bit_length() - 1
        self.size = Size(-(-size.width // downsample), -(-size.height // downsample))
        self.level_sizes = pyramid_sizes(self.size, TILE_PX)
        own = None if mpp is None else both_axes(mpp)
        self.mpp = None if own is None else Point(own.x * downsample, own.y * downsample)
        self.channels = tuple(channels)
        self.dtype = np.dtype(dtype)
        self._halve = halve
        self._annotations = annotations
        self._threads = threads
        self._scratch: list[Path] = []
        self._pixels: NDArray[Any] = np.empty(0, self.dtype)

    def __enter__(self) -> CoarseMap:
        self._pixels = self._on_disk(self.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write()
        finally:
            self._pixels = np.empty(0, self.dtype)  # closes the scratch file
            for path in self._scratch:
                path.unlink(missing_ok=True)

    def region_of(self, field: FieldSamples) -> Region:
        """The pixels of the map that a field keeps; may be empty."""
        return kept_at_level(field.kept, self.slide_size, self.level)

    def put(self, region: Region, pixels: NDArray[Any]) -> None:
        """Write the (C, region.height, region.width) pixels of a region."""
        self._pixels[:, region.y : region.bottom, region.x : region.right] = pixels

    def _write(self) -> None:
        write_pyramid(
            self.path,
            self._tiles(),
            sizes=self.level_sizes,
            mpp=self.mpp,
            description=image_xml(
                self.path.name.split(".")[0],
                self.size,
                self.mpp,
                self._annotations,
                channels=self.channels,
                pixel_type=self.dtype.name,
            ),
            tile_px=TILE_PX,
            channels=len(self.channels),
            dtype=self.dtype,
            threads=self._threads,
        )

    def _tiles(self) -> Iterator[MaskTile]:
        """All tiles, level by level; each level is made from the one before, in bands of tiles."""
        pixels = self._pixels
        for level, size in enumerate(self.level_sizes):
            last = level + 1 == len(self.level_sizes)
            coarser = None if last else self._on_disk(self.level_sizes[level + 1])
            grid = tile_grid(size, Size(TILE_PX, TILE_PX))
            for row in range(grid.height):
                for column in range(grid.width):
                    place = tile_region(column, row, Size(TILE_PX, TILE_PX), size)
                    tile = np.array(pixels[:, place.y : place.bottom, place.x : place.right])
                    yield self._tile(level, column, row, tile)
                    if coarser is not None:
                        halved = self._halve(_by_two(tile))
                        y, x = place.y // 2, place.x // 2
                        coarser[:, y : y + halved.shape[1], x : x + halved.shape[2]] = halved
            if coarser is not None:
                pixels = coarser

    def _tile(self, level: int, column: int, row: int, pixels: NDArray[Any]) -> MaskTile:
        if not pixels.any():
            return MaskTile(level=level, column=column, row=row, label=0)
        pixels = pixels[0] if len(self.channels) == 1 else pixels
        return MaskTile(level=level, column=column, row=row, pixels=pixels)

    def _on_disk(self, size: Size) -> NDArray[Any]:
        """(C, H, W) zeros in a scratch file, which takes no room where nothing is written."""
        path = name_aside(self.path)
        self._scratch.append(path)
        shape = (len(self.channels), *size.shape)
        try:
            zeros: NDArray[Any] = np.memmap(path, self.dtype, mode="w+", shape=shape)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise MaskError(
                f"map {self.path}: cannot be written ({error}). Check folder, rights and free space."
            ) from error
        return zeros


def _max_downsample(size: Size) -> int:
    """The largest downsample for which the reverse sampler has a level."""
    return 1 << (len(pyramid_sizes(size, SMALLEST_MAP_PX)) - 1)


def _by_two(pixels: NDArray[Any]) -> NDArray[Any]:
    """(C, 2, h, 2, w): pixels in blocks of two by two, an odd last row or column twice."""
    channels, height, width = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return even.reshape(channels, (height + 1) // 2, 2, (width + 1) // 2, 2).transpose(0, 2, 1, 4, 3)
