"""Where the patches of a slide lie, which of them the network sees, and in which blocks they are worked on.

The places are those of MONAI's sliding window over the whole level: a patch every ``patch_px * (1 - overlap)`` px, the
last one moved back to the edge. A block is a square of the level whose pixels are decided together, from every patch
that covers one of them: then it does not matter that the slide was never one image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.baselines.patch_settings import MIN_PATCH_PX, PatchSettings
from wsi_deform.cover import spacing_px
from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide

BLOCK_PX = 2048
# Beyond this the level that was read is not what the network knows.
MAX_LEVEL_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A square of a level that is decided at once.

    Attributes:
        column: Column of the block.
        row: Row of the block.
        kept: What it decides, px of the level.
        patches: Columns and rows of the patches that cover a pixel of it, as a region of the grid of patches.
    """

    column: int
    row: int
    kept: Region
    patches: Region


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchGrid:
    """The patches of a slide.

    Attributes:
        slide_size: Size of level 0, px.
        level: Index of the level that is read.
        downsample: Level-0 px per px of it, a power of two.
        level_size: Its size, px.
        patch_px: Side of a patch, px of the level.
        overlap: See ``PatchSettings``.
        blend: See ``PatchSettings``.
        starts_x: Left edge of each column of patches, px of the level.
        starts_y: Top edge of each row.
        region: What is cut into patches, level-0 px.
        wanted: (rows, columns) bool, the patches that the network sees.
        block_px: Side of a block, px of the level, a power of two.
    """

    slide_size: Size
    level: int
    downsample: int
    level_size: Size
    patch_px: int
    overlap: float
    blend: str
    starts_x: tuple[int, ...]
    starts_y: tuple[int, ...]
    region: Region
    wanted: NDArray[np.bool_]
    block_px: int

    @property
    def part(self) -> Region:
        """The pixels of the level that the region has a part of; at least one."""
        return _level_part(self.region, self.level_size, self.downsample)

    @property
    def count(self) -> int:
        """Number of patches that the network sees."""
        return int(self.wanted.sum())

    @property
    def extents(self) -> tuple[int, int]:
        """Width and height of a patch inside the part: less than ``patch_px`` where that is smaller, px."""
        return min(self.patch_px, self.part.width), min(self.patch_px, self.part.height)

    @property
    def text(self) -> str:
        """What it is, for people."""
        return (
            f"patches of {self.patch_px} px at level {self.level} (1/{self.downsample}), overlap {self.overlap:g}, "
            f"{self.blend}"
        )

    def region_of(self, column: int, row: int) -> Region:
        """The part of the level that a patch covers, px of the level."""
        return Region(self.starts_x[column], self.starts_y[row], *self.extents)

    def regions(self) -> tuple[Region, ...]:
        """What the patches that the network sees cover of the slide, level-0 px, row by row; patches may overlap."""
        whole, scale = Region.whole(self.slide_size), self.downsample
        found = []
        for row, column in zip(*np.nonzero(self.wanted), strict=True):
            at = self.region_of(int(column), int(row))
            region = Region(at.x * scale, at.y * scale, at.width * scale, at.height * scale)
            found.append(region.intersection(whole))
        return tuple(found)

    def chosen(self, wanted: NDArray[np.bool_]) -> PatchGrid:
        """The same grid with only these of its patches, (rows, columns) bool."""
        return dataclasses.replace(self, wanted=self.wanted & wanted)

    def in_blocks(self, block_px: int) -> PatchGrid:
        """The same patches, worked on in blocks of another side, px of the level, a power of two."""
        return dataclasses.replace(self, block_px=block_px)

    def blocks(self) -> Iterator[Block]:
        """The blocks with a patch that the network sees, in Morton order: as a tree of squares is walked."""
        side = self.block_px * self.downsample
        places = sorted(self.region.tiles(Size(side, side)), key=lambda at: morton(*at))
        for column, row in places:
            block = self._block(column, row)
            across = block.patches
            if self.wanted[across.y : across.bottom, across.x : across.right].any():
                yield block

    def _block(self, column: int, row: int) -> Block:
        (width, height), part = self.extents, self.part
        left, right, first_x, last_x = _along(
            column * self.block_px, self.block_px, (part.x, part.right), self.starts_x, width
        )
        top, bottom, first_y, last_y = _along(
            row * self.block_px, self.block_px, (part.y, part.bottom), self.starts_y, height
        )
        return Block(
            column=column,
            row=row,
            kept=Region(left, top, right - left, bottom - top),
            patches=Region(first_x, first_y, last_x - first_x, last_y - first_y),
        )


def patch_grid(
    slide: Slide,
    settings: PatchSettings,
    *,
    patch_px: int,
    level: int,
    cells: NDArray[np.bool_] | None,
    block_px: int = BLOCK_PX,
) -> PatchGrid:
    """Lay patches over a level of a slide, or of its region: none reaches beyond it, but for part of a pixel.

    Args:
        slide: An open slide.
        settings: Overlap and blend.
        patch_px: Side of a patch, px of the level.
        level: The level.
        cells: (H, W) bool, cells that share out the slide evenly: the network sees the patches that touch a True one.
            None is all.
        block_px: Side of a block, px of the level, a power of two.

    Returns:
        The grid.

    Raises:
        ShapeError: There is no such level, its downsample is no power of two, or a size does not fit.
    """
    downsample = power_of_two(slide, level)
    if downsample is None:
        found = slide.levels[level].downsample if 0 <= level < len(slide.levels) else None
        said = "there is none" if found is None else f"its downsample is {found.x:g} x {found.y:g}"
        raise ShapeError(
            f"slide {slide.path}: patches of level {level}: {said}. Needed 0 to {len(slide.levels) - 1}, with a power "
            "of two. Choose another level."
        )
    if patch_px < MIN_PATCH_PX or block_px < MIN_PATCH_PX or block_px & (block_px - 1):
        raise ShapeError(
            f"patch of {patch_px} px, block of {block_px} px: needed at least {MIN_PATCH_PX}, and a power of two for "
            "the block."
        )
    size, region = slide.levels[level].size, slide.region
    part = _level_part(region, size, downsample)
    starts_x = tuple(part.x + each for each in patch_starts(part.width, patch_px, settings.overlap))
    starts_y = tuple(part.y + each for each in patch_starts(part.height, patch_px, settings.overlap))
    wanted = np.ones((len(starts_y), len(starts_x)), bool)
    if cells is not None:
        wanted = _touching(cells, slide.size, region, downsample, starts_x, starts_y, patch_px)
    return PatchGrid(
        slide_size=slide.size,
        level=level,
        downsample=downsample,
        level_size=size,
        patch_px=patch_px,
        overlap=settings.overlap,
        blend=settings.blend,
        starts_x=starts_x,
        starts_y=starts_y,
        region=region,
        wanted=wanted,
        block_px=block_px,
    )


def patch_starts(length_px: int, patch_px: int, overlap: float) -> tuple[int, ...]:
    """Where patches start along an axis, as MONAI's ``sliding_window_inference`` has it.

    Args:
        length_px: Length of the axis.
        patch_px: Side of a patch.
        overlap: Share of it that the next one covers too.

    Returns:
        One or more starts, px; an axis that is shorter than a patch has one patch at 0, which is padded.
    """
    if length_px <= patch_px:
        return (0,)
    step = max(1, int(patch_px * (1 - overlap)))
    return tuple(
        min(number * step, length_px - patch_px) for number in range(-(-(length_px - patch_px) // step) + 1)
    )


def patch_px_of(model: Model, settings: PatchSettings) -> int:
    """Side of a patch, px of the level, see ``PatchSettings.patch_px``."""
    if settings.patch_px is not None:
        return settings.patch_px
    short, long = model.config.sampling.budget
    return max(MIN_PATCH_PX, round(math.sqrt(short * long)))


def level_of(slide: Slide, model: Model, settings: PatchSettings) -> tuple[int, str]:
    """The level that patches are read from.

    Args:
        slide: An open slide.
        model: Says what its samples stand for, where the settings say nothing.
        settings: See ``PatchSettings``.

    Returns:
        Index of the level, and a remark where no level is near what is wanted, else "".

    Raises:
        SlideError: An mpp is wanted, and the slide has none.
        ShapeError: See ``patch_grid``.
    """
    if settings.level is not None:
        return settings.level, ""
    if settings.mpp is None:
        wanted = spacing_px(slide, model)
    elif slide.mpp_or_none is None:
        raise SlideError(
            f"slide {slide.path}: no mpp in file or manifest. Needed to find the level of {settings.mpp:g} um per px. "
            "Set the mpp column in its manifest row, or give --patch-level."
        )
    else:
        wanted = settings.mpp / slide.mpp_or_none
    # Levels whose pixels do not fill whole pixels of level 0 cannot be put back exactly.
    known = [(each, power_of_two(slide, each)) for each in range(len(slide.levels))]
    ratios = {each: abs(math.log(found / wanted)) for each, found in known if found is not None}
    level = min(ratios, key=lambda each: ratios[each])
    if ratios[level] < math.log(MAX_LEVEL_RATIO):
        return level, ""
    found = power_of_two(slide, level)
    return (
        level,
        f"patches were read at 1/{found} of level 0, the level nearest to the 1/{wanted:.3g} that is wanted",
    )


def power_of_two(slide: Slide, level: int) -> int | None:
    """Level-0 px per px of a level where that is one power of two, else None."""
    if not 0 <= level < len(slide.levels):
        return None
    found = slide.levels[level].downsample
    whole = int(found.x)
    return whole if found.x == found.y == whole and not whole & (whole - 1) else None


def morton(column: int, row: int) -> int:
    """The bits of both numbers in turn: the order in which a tree of squares is walked depth first."""
    code = 0
    for bit in range(max(column, row).bit_length()):
        code |= (column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1
    return code


def _level_part(region: Region, level: Size, downsample: int) -> Region:
    """The pixels of a level that a region of level-0 px has a part of; a level that is rounded down lacks the last."""

    def along(start: int, end: int, length: int) -> tuple[int, int]:
        first = min(start // downsample, length - 1)
        return first, max(first + 1, min(-(-end // downsample), length))

    left, right = along(region.x, region.right, level.width)
    top, bottom = along(region.y, region.bottom, level.height)
    return Region(left, top, right - left, bottom - top)


def _along(
    start: int, side: int, part: tuple[int, int], starts: Sequence[int], extent: int
) -> tuple[int, int, int, int]:
    """Along one axis: what a block keeps, and first and last + 1 of the patches that cover a pixel of that."""
    # A level may be rounded down: the slide's last pixels have none of their own, and share the last one.
    left = min(max(start, part[0]), part[1] - 1)
    right = max(left + 1, min(start + side, part[1]))
    first = int(np.searchsorted(starts, left - extent, side="right"))
    last = int(np.searchsorted(starts, right, side="left"))
    return left, right, first, last


def _touching(
    cells: NDArray[np.bool_],
    size: Size,
    region: Region,
    downsample: int,
    starts_x: Sequence[int],
    starts_y: Sequence[int],
    patch_px: int,
) -> NDArray[np.bool_]:
    """Which patches touch a cell that is True."""

    def within(
        starts: Sequence[int], end: int, length: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first = np.asarray(starts, np.int64) * downsample
        last = np.minimum(first + patch_px * downsample, end)
        return first * count // length, -(-last * count // length)

    left, right = within(starts_x, region.right, size.width, cells.shape[1])
    top, bottom = within(starts_y, region.bottom, size.height, cells.shape[0])
    above = np.zeros((cells.shape[0] + 1, cells.shape[1] + 1), np.int64)
    above[1:, 1:] = cells.cumsum(0, np.int64).cumsum(1)
    found: NDArray[np.bool_] = (
        above[np.ix_(bottom, right)]
        - above[np.ix_(top, right)]
        - above[np.ix_(bottom, left)]
        + above[np.ix_(top, left)]
    ) > 0
    return found
