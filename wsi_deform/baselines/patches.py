"""Patches: the network slides over all tissue at full resolution, as most users do today.

The same slide reader, tissue mask and mask writer as the method, and no more memory than a few windows: what
differs from the method is only where the network looks. Labels are not limited to tissue within a window that touches
it, and the benchmarks do not limit the method's either.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size, tile_grid
from wsi_deform.look.tissue import TissueMask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.slide.slide import Slide

Network = Callable[[Tensor], Tensor]
_NodeTiles = Generator[MaskTile, None, NDArray[np.uint8] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How a slide is cut into windows.

    Attributes:
        level: Index of the slide's level that the network sees; 0 is full resolution.
        window_px: Side of the part of a window that the mask keeps, px of the level; a power of two.
        margin_px: Context that the network sees around it on every side and that is cut off, px of the level.
        batch: Windows per forward pass.
    """

    level: int = 0
    window_px: int = 512
    margin_px: int = 0
    batch: int = 1

    def __post_init__(self) -> None:
        """Refuse windows that do not fit the tree of mask tiles."""
        if self.window_px < 16 or self.window_px & (self.window_px - 1):
            raise ShapeError(f"window_px {self.window_px}: needed a power of two, at least 16.")
        if self.margin_px < 0 or self.batch < 1 or self.level < 0:
            raise ShapeError(
                f"level {self.level}, margin_px {self.margin_px}, batch {self.batch}: needed a level from 0, "
                "a margin from 0 and a batch from 1."
            )


def tissue_windows(slide: Slide, tissue: TissueMask | None, windows: Windows) -> tuple[Region, ...]:
    """The windows that touch tissue.

    Args:
        slide: An open slide.
        tissue: Where its tissue is; None takes every window.
        windows: How it is cut.

    Returns:
        Kept parts, level-0 px, in the order in which ``patch_tiles`` needs them (Morton order); those at the
        right and bottom edge are clipped to the slide.

    Raises:
        ShapeError: There is no such level, or its downsample is not a power of two.
    """
    side = _kept_px(slide, windows)
    whole = Region.whole(slide.size)
    found = [
        Region(column * side, row * side, side, side).intersection(whole)
        for column, row in whole.tiles(Size(side, side))
    ]
    kept = [each for each in found if tissue is None or tissue.fraction_of(each) > 0.0]
    return tuple(sorted(kept, key=lambda region: _morton(region.x // side, region.y // side)))


def patch_labels(
    slide: Slide, network: Network, regions: Sequence[Region], windows: Windows
) -> Iterator[tuple[Region, NDArray[np.uint8]]]:
    """Run the network over windows.

    Args:
        slide: An open slide.
        network: From (B, 3, H, W) RGB in [0, 255], float32, to (B, classes, H, W) scores: ``Model.scores``.
        regions: Kept parts, level-0 px, as ``tissue_windows`` gives them.
        windows: How they were cut.

    Yields:
        Each kept part with its labels at the level's resolution, (h, w) uint8, in the order given.

    Raises:
        SlideError: A tile cannot be read.
    """
    downsample = _downsample(slide, windows.level)
    seen = windows.window_px + 2 * windows.margin_px
    for first in range(0, len(regions), windows.batch):
        batch = regions[first : first + windows.batch]
        # Windows at the slide's edge are read whole: what lies outside is background.
        images = [
            slide.read_region(
                windows.level,
                Region(
                    region.x // downsample - windows.margin_px,
                    region.y // downsample - windows.margin_px,
                    seen,
                    seen,
                ),
            )
            for region in batch
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            labels = network(pixels).argmax(dim=1).to(torch.uint8).cpu().numpy()
        for region, own in zip(batch, labels, strict=True):
            height, width = -(-region.height // downsample), -(-region.width // downsample)
            inner = own[windows.margin_px :, windows.margin_px :][:height, :width]
            yield region, inner


def patch_tiles(
    slide: Slide,
    network: Network,
    *,
    tissue: TissueMask | None,
    windows: Windows = Windows(),  # noqa: B008 - frozen
    regions: Sequence[Region] | None = None,
    outside_label: int = 0,
    tile_px: int = 512,
    on_window: Callable[[int, int], None] | None = None,
) -> Iterator[MaskTile]:
    """Segment a slide window by window and hand on the tiles of its mask: what ``write_mask`` takes.

    Args:
        slide: An open slide.
        network: See ``patch_labels``.
        tissue: Where the tissue is; None looks everywhere.
        windows: How the slide is cut.
        regions: Only these of ``tissue_windows``, in its order; None takes all.
        outside_label: Class of everything that no window covers.
        tile_px: Side of a mask tile, a power of two of at least 16.
        on_window: Called after each window with how many are done and how many there are.

    Yields:
        Every tile of every level of the mask once; windows are read as their tiles are asked for.

    Raises:
        ShapeError: A size does not fit.
        SlideError: A tile cannot be read.

    Convention:
        The mask has the slide's level-0 size: a label of a coarser level is repeated. A pixel of mask level k
        is the top left one of the 2 x 2 pixels of level k - 1 that it covers.
    """
    if tile_px < 16 or tile_px & (tile_px - 1):
        raise ShapeError(f"tile_px {tile_px}: needed a power of two, at least 16.")
    chosen = tissue_windows(slide, tissue, windows) if regions is None else tuple(regions)
    side = max(tile_px, _kept_px(slide, windows))
    sizes = pyramid_sizes(slide.size, tile_px)
    tree = _Tree(
        sizes=sizes,
        tile_px=tile_px,
        side_px=side,
        outside=outside_label,
        downsample=_downsample(slide, windows.level),
        occupied=frozenset(
            (level, region.x // (tile_px << level), region.y // (tile_px << level))
            for level in range(len(sizes))
            for region in chosen
        ),
        counts=Counter((region.x // side, region.y // side) for region in chosen),
        stream=_Stream(patch_labels(slide, network, chosen, windows), len(chosen), on_window),
    )
    yield from tree.tiles()


class _Stream:
    """Labels of windows as they come."""

    def __init__(
        self,
        labels: Iterator[tuple[Region, NDArray[np.uint8]]],
        total: int,
        on_window: Callable[[int, int], None] | None,
    ) -> None:
        self.labels = labels
        self.total = total
        self.done = 0
        self.on_window = on_window

    def next(self) -> tuple[Region, NDArray[np.uint8]]:
        found = next(self.labels)
        self.done += 1
        if self.on_window is not None:
            self.on_window(self.done, self.total)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tree:
    """The tree of mask tiles, walked depth first in Morton order, so that each window is needed once."""

    sizes: tuple[Size, ...]
    tile_px: int
    side_px: int
    outside: int
    downsample: int
    occupied: frozenset[tuple[int, int, int]]
    counts: Mapping[tuple[int, int], int]
    stream: _Stream

    def tiles(self) -> Iterator[MaskTile]:
        """All tiles of the pyramid."""
        yield from self._node(len(self.sizes) - 1, 0, 0)

    def _node(self, level: int, column: int, row: int) -> _NodeTiles:
        """Tiles of a node and all below; the generator returns the node's own pixels, None without windows."""
        span = self.tile_px << level
        if (level, column, row) not in self.occupied:
            yield from self._constant(level, column, row)
            return None
        if span <= self.side_px:
            block = self._block(span, column, row)
            yield from self._cut(block, level, column, row)
            return block[:: 1 << level, :: 1 << level]
        size = self._size(level, column, row)
        pixels = np.full(size.shape, self.outside, np.uint8)
        for child_row, child_column in itertools.product((0, 1), (0, 1)):
            place = (2 * column + child_column, 2 * row + child_row)
            if not self._exists(level - 1, *place):
                continue
            child = yield from self._node(level - 1, *place)
            if child is not None:
                top, left = child_row * self.tile_px // 2, child_column * self.tile_px // 2
                half = child[::2, ::2]
                pixels[top : top + half.shape[0], left : left + half.shape[1]] = half
        yield MaskTile(level=level, column=column, row=row, pixels=pixels)
        return pixels

    def _block(self, span: int, column: int, row: int) -> NDArray[np.uint8]:
        """Level-0 labels of a node as large as a window, or a tile where that is larger: all its windows."""
        count = self.counts[column * span // self.side_px, row * span // self.side_px]
        whole = Region(column * span, row * span, span, span).intersection(Region.whole(self.sizes[0]))
        block = np.full(whole.size.shape, self.outside, np.uint8)
        for _ in range(count):
            region, labels = self.stream.next()
            full = labels.repeat(self.downsample, axis=0).repeat(self.downsample, axis=1)
            top, left = region.y - whole.y, region.x - whole.x
            block[top : top + region.height, left : left + region.width] = full[
                : region.height, : region.width
            ]
        return block

    def _cut(self, block: NDArray[np.uint8], level: int, column: int, row: int) -> Iterator[MaskTile]:
        """The tiles of all levels that a block of level-0 labels holds."""
        for finer in range(level, -1, -1):
            scaled = block[:: 1 << finer, :: 1 << finer]
            scale = 1 << (level - finer)
            for inner_row, inner_column in itertools.product(range(scale), range(scale)):
                top, left = inner_row * self.tile_px, inner_column * self.tile_px
                part = scaled[top : top + self.tile_px, left : left + self.tile_px]
                if part.size:
                    label = int(part[0, 0]) if (part == part[0, 0]).all() else None
                    yield MaskTile(
                        level=finer,
                        column=column * scale + inner_column,
                        row=row * scale + inner_row,
                        label=label,
                        pixels=None if label is not None else np.ascontiguousarray(part),
                    )

    def _constant(self, level: int, column: int, row: int) -> Iterator[MaskTile]:
        """One block per level for a node that no window touches."""
        for finer in range(level, -1, -1):
            grid = tile_grid(self.sizes[finer], Size(self.tile_px, self.tile_px))
            scale = 1 << (level - finer)
            yield MaskTile(
                level=finer,
                column=column * scale,
                row=row * scale,
                label=self.outside,
                columns=min(scale, grid.width - column * scale),
                rows=min(scale, grid.height - row * scale),
            )

    def _exists(self, level: int, column: int, row: int) -> bool:
        grid = tile_grid(self.sizes[level], Size(self.tile_px, self.tile_px))
        return column < grid.width and row < grid.height

    def _size(self, level: int, column: int, row: int) -> Size:
        whole = Region.whole(self.sizes[level])
        tile = Region(column * self.tile_px, row * self.tile_px, self.tile_px, self.tile_px)
        return tile.intersection(whole).size


def _downsample(slide: Slide, level: int) -> int:
    """Level-0 px per px of a level, a power of two."""
    if not 0 <= level < len(slide.levels):
        raise ShapeError(f"slide {slide.path}: level {level}: needed 0 to {len(slide.levels) - 1}.")
    found = slide.levels[level].downsample
    whole = int(found.x)
    if found.x != found.y or found.x != whole or whole & (whole - 1):
        raise ShapeError(
            f"slide {slide.path}: level {level} has downsample {found.x:g} x {found.y:g}. Needed a power of two. "
            "Choose another level."
        )
    return whole


def _kept_px(slide: Slide, windows: Windows) -> int:
    """Side of the kept part of a window, level-0 px."""
    return windows.window_px * _downsample(slide, windows.level)


def _morton(column: int, row: int) -> int:
    """The bits of both numbers in turn: the order in which a tree of squares is walked depth first."""
    code = 0
    for bit in range(max(column, row).bit_length()):
        code |= (column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1
    return code
