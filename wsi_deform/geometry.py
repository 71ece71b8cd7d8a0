"""Sizes, points, regions and every conversion between frames.

Convention:
    A coordinate is a distance in pixels from the top-left *edge* of an image: pixel ``i`` covers
    ``[i, i + 1)`` and its centre is ``i + 0.5``. Frames are named by prefix: ``slide_`` (level-0 px),
    ``level_`` (px of one level), ``view_`` (low-res view), ``map_`` (deformation map), ``sampled_``
    (sampled image), ``mask_``; ``unit_`` is [0, 1] edge to edge of a region. Arrays are (..., H, W); the last axis of
    a set of points is (x, y).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from wsi_deform.errors import ShapeError


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in whole pixels of the frame that the variable's name says."""

    width: int
    height: int

    def __post_init__(self) -> None:
        """Refuse sizes without pixels."""
        if self.width < 1 or self.height < 1:
            raise ShapeError(f"size {self.width} x {self.height}: needed at least 1 x 1 pixel.")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the order of array axes."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def short(self) -> int:
        """The shorter side."""
        return min(self.width, self.height)

    @property
    def long(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    def __str__(self) -> str:
        """Width x height, as people say it."""
        return f"{self.width} x {self.height}"


@dataclass(frozen=True, slots=True)
class Point:
    """A pair of numbers along x and y: a position, or a downsample per axis."""

    x: float
    y: float


SQUARE_RATIO = 1.01
"""Pixels whose sides differ by more than this are not taken for square."""

Mpp: TypeAlias = "float | Point"
"""um per pixel: one number for both axes, or one along x and one along y."""


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A rectangle of whole pixels in a named frame: left edge, top edge, width, height."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def whole(cls, size: Size) -> Region:
        """The region that covers an image of this size."""
        return cls(0, 0, size.width, size.height)

    @property
    def right(self) -> int:
        """The right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The bottom edge."""
        return self.y + self.height

    @property
    def size(self) -> Size:
        """Its size; an empty region has none and raises ShapeError."""
        return Size(self.width, self.height)

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixel."""
        return self.width <= 0 or self.height <= 0

    def intersection(self, other: Region) -> Region:
        """The part that both regions cover; empty (width or height 0) when they do not meet."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Region(x, y, max(0, right - x), max(0, bottom - y))

    def grown(self, margin_px: int, within: Size) -> Region:
        """The region with a margin on every side, clipped to an image of size ``within``."""
        grown = Region(
            self.x - margin_px, self.y - margin_px, self.width + 2 * margin_px, self.height + 2 * margin_px
        )
        return grown.intersection(Region.whole(within))

    def tiles(self, tile: Size) -> Iterator[tuple[int, int]]:
        """Columns and rows of the tiles of a fixed grid that the region touches, row by row."""
        if self.is_empty:
            return
        for row in range(self.y // tile.height, -(-self.bottom // tile.height)):
            for column in range(self.x // tile.width, -(-self.right // tile.width)):
                yield column, row


def tile_grid(size: Size, tile: Size) -> Size:
    """Number of tile columns and rows that cover an image."""
    return Size(-(-size.width // tile.width), -(-size.height // tile.height))


def tile_region(column: int, row: int, tile: Size, size: Size) -> Region:
    """The pixels of one tile, clipped to the image: edge tiles are padded in storage, never here."""
    whole = Region.whole(size)
    return Region(column * tile.width, row * tile.height, tile.width, tile.height).intersection(whole)


def both_axes(mpp: Mpp) -> Point:
    """Um per pixel along x and y."""
    return mpp if isinstance(mpp, Point) else Point(mpp, mpp)


def mean_mpp(mpp: Mpp) -> float:
    """Side of the square with the area of a pixel, um: its square turns pixels into um^2.

    Convention:
        Square pixels keep their number to the last digit.
    """
    both = both_axes(mpp)
    return both.x if both.x == both.y else math.sqrt(both.x * both.y)


def steps_of(mpp: Mpp) -> Point:
    """Lengths of a pixel along x and y, um, for distances.

    Convention:
        Sides that differ by 1 % or less, as a scanner's calibration makes them, count as equal: both are the mean then,
        and no distance is wrong by more than half a percent.
    """
    both = both_axes(mpp)
    mean = mean_mpp(both)
    return Point(mean, mean) if max(both.x / both.y, both.y / both.x) <= SQUARE_RATIO else both


def squared(size: Size, pixel: Point) -> Size:
    """The size that something has in square pixels of the same area.

    Args:
        size: In pixels as they are.
        pixel: Their sides in sides of the square; (1, 1) for square ones.

    Returns:
        The size, to whole pixels; the same for square ones.
    """
    return Size(max(1, round(size.width * pixel.x)), max(1, round(size.height * pixel.y)))


def level_downsample(level_0: Size, level: Size) -> Point:
    """Level-0 pixels per pixel of a level.

    Args:
        level_0: Size of the finest level.
        level: Size of the level in question.

    Returns:
        The nominal whole number where ``|W_l - W_0 / d| < 1`` on both axes (writers round sizes up
        or down), else the plain ratio per axis.
    """
    ratio_x, ratio_y = level_0.width / level.width, level_0.height / level.height
    nominal = float(max(1, round(math.sqrt(ratio_x * ratio_y))))
    fits_x = abs(level.width - level_0.width / nominal) < 1
    fits_y = abs(level.height - level_0.height / nominal) < 1
    return Point(nominal, nominal) if fits_x and fits_y else Point(ratio_x, ratio_y)


def sampled_size(region: Size, budget: Size, *, min_px: int = 1) -> Size:
    """Size of the sampled image of a region: the aspect ratio is kept, the budget is not exceeded.

    Args:
        region: Size of what is to be sampled, level-0 px.
        budget: The largest sampled image wanted; its short side applies to the region's short side.
        min_px: The smallest side that the network accepts.

    Returns:
        Size with sides ``floor(side * r)``, ``r = min(S / short, L / long)``, at least ``min_px``.

    Source:
        Jin et al., ICLR 2022, appendix A.6 (368 x 7986 with 80 x 800 gives 36 x 800).
    """
    # Whole numbers first: floor(side * (S / side)) can lose a pixel to rounding.
    use_short = budget.short * region.long <= budget.long * region.short
    numerator, denominator = (budget.short, region.short) if use_short else (budget.long, region.long)
    return Size(
        max(min_px, region.width * numerator // denominator),
        max(min_px, region.height * numerator // denominator),
    )


def size_of_area(region: Size, samples: int, *, min_px: int = 1) -> Size:
    """Size of a sampled image with about so many samples, in the aspect ratio of a region.

    Args:
        region: Size of what is to be sampled, level-0 px.
        samples: Number of samples; rounding the sides may change it by half a row or column.
        min_px: The smallest side that the network accepts; the long side shrinks to make up for it.

    Returns:
        The size.
    """
    short = max(min_px, round(math.sqrt(samples * region.short / region.long)))
    long = max(min_px, round(samples / short))
    return Size(long, short) if region.width >= region.height else Size(short, long)
