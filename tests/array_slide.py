"""A slide made of arrays in memory, for tests of what reads tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Size, level_downsample, tile_region
from wsi_deform.slide.reader import Level


@dataclass
class ArraySlide:
    """Levels given as arrays; counts the tiles that are read. Pickles."""

    arrays: list[NDArray[np.uint8]]
    tile: Size = Size(16, 16)
    read: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def size(self) -> Size:
        return self.levels[0].size

    @property
    def levels(self) -> tuple[Level, ...]:
        sizes = [Size(array.shape[1], array.shape[0]) for array in self.arrays]
        return tuple(
            Level(size=size, downsample=level_downsample(sizes[0], size), tile=self.tile) for size in sizes
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        self.read.append((level, column, row))
        at = tile_region(column, row, self.tile, self.levels[level].size)
        return self.arrays[level][at.y : at.bottom, at.x : at.right]

    def read_tiles(self, tiles: Sequence[tuple[int, int, int]]) -> Iterator[NDArray[np.uint8]]:
        return (self.read_tile(*tile) for tile in tiles)


def random_slide(size: Size, *, levels: int = 1, tile: Size = Size(16, 16), seed: int = 0) -> ArraySlide:
    """Noise with a pyramid of box means."""
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 256, (*size.shape, 3), dtype=np.uint8)]
    for _ in range(levels - 1):
        last = arrays[-1]
        even = last[: last.shape[0] // 2 * 2, : last.shape[1] // 2 * 2].astype(float)
        means = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
        arrays.append(np.round(means).astype(np.uint8))
    return ArraySlide(arrays, tile)
