"""Readers that need no file: pixels that spell their own address, or a picture held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size, level_downsample, tile_region
from wsi_deform.slide.reader import WHITE, Level, SlideInfo


def address_pixels(level: int, x: ArrayLike, y: ArrayLike) -> NDArray[np.uint8]:
    """The RGB that the pixel at column x, row y of a level has: (..., 3), a hash of all three numbers."""
    mixed = np.asarray(x, np.uint32) * np.uint32(0x9E3779B1)
    mixed = mixed ^ np.asarray(y, np.uint32) * np.uint32(0x85EBCA77)
    mixed = mixed ^ np.uint32((level + 1) * 0xC2B2AE3D & 0xFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    mixed = (mixed ^ (mixed >> np.uint32(12))) * np.uint32(0x297A2D39)
    mixed = mixed ^ (mixed >> np.uint32(15))
    channels = [mixed >> np.uint32(shift) & np.uint32(255) for shift in (0, 8, 16)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def smooth_pixels(slide_x: ArrayLike, slide_y: ArrayLike, size: Size) -> NDArray[np.uint8]:
    """Waves across the slide, nearly the same at every level: (..., 3), for positions in level-0 px."""
    unit_x, unit_y = np.asarray(slide_x) / size.width, np.asarray(slide_y) / size.height
    waves = (np.sin(7 * unit_x + 1), np.sin(9 * unit_y), np.sin(5 * unit_x - 6 * unit_y))
    return np.rint(127.5 + 120 * np.stack(np.broadcast_arrays(*waves), axis=-1)).astype(np.uint8)


class AddressReader:
    """A slide of any size that takes no memory; implements ``Reader`` and pickles.

    ``pattern="address"`` gives every pixel the hash of its level, column and row (``address_pixels``), so
    that a pixel from the wrong place is never right; ``"smooth"`` gives waves over the slide
    (``smooth_pixels``).
    """

    def __init__(
        self,
        size: Size = Size(100_000, 80_000),
        *,
        downsamples: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
        tile: Size = Size(256, 256),
        mpp: float | None = 0.25,
        pattern: str = "address",
        background: tuple[int, int, int] = WHITE,
    ) -> None:
        self.pattern = pattern
        levels = []
        for downsample in downsamples:
            level = Size(-(-size.width // downsample), -(-size.height // downsample))
            levels.append(Level(size=level, downsample=level_downsample(size, level), tile=tile))
        self.info = SlideInfo(
            levels=tuple(levels), mpp=mpp, vendor="drawn", bounds=Region.whole(size), background=background
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        if region.is_empty or column < 0 or row < 0:
            raise SlideError(f"tile (column {column}, row {row}) of level {level} does not exist")
        x = np.arange(region.x, region.right)[None, :]
        y = np.arange(region.y, region.bottom)[:, None]
        if self.pattern == "address":
            return address_pixels(level, x, y)
        return smooth_pixels((x + 0.5) * found.downsample.x, (y + 0.5) * found.downsample.y, self.info.size)

    def close(self) -> None:
        pass


class ArrayReader:
    """A picture in memory with box-mean levels of a factor of 2; implements ``Reader`` and pickles."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        *,
        levels: int = 1,
        tile: Size = Size(64, 64),
        mpp: float | None = 0.5,
        background: tuple[int, int, int] = WHITE,
    ) -> None:
        self.pixels = [pixels]
        for _ in range(levels - 1):
            last = self.pixels[-1].astype(np.uint32)
            last = last[: len(last) // 2 * 2, : last.shape[1] // 2 * 2]
            sums = last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]
            self.pixels.append(((sums + 2) // 4).astype(np.uint8))
        size = Size(pixels.shape[1], pixels.shape[0])
        sizes = [Size(one.shape[1], one.shape[0]) for one in self.pixels]
        self.info = SlideInfo(
            levels=tuple(Level(size=one, downsample=level_downsample(size, one), tile=tile) for one in sizes),
            mpp=mpp,
            vendor="drawn",
            bounds=Region.whole(size),
            background=background,
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        if region.is_empty or column < 0 or row < 0:
            raise SlideError(f"tile (column {column}, row {row}) of level {level} does not exist")
        return self.pixels[level][region.y : region.bottom, region.x : region.right].copy()

    def close(self) -> None:
        pass


def constant_reader(size: Size, colour: tuple[int, int, int], *, levels: int = 1) -> ArrayReader:
    """A slide of one colour."""
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    pixels[...] = colour
    return ArrayReader(pixels, levels=levels)


__all__ = ["AddressReader", "ArrayReader", "address_pixels", "constant_reader", "smooth_pixels"]
