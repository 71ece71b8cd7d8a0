"""Patches: the network slides over all tissue at full resolution with MONAI's inferer, as most users do today.

MONAI's ``SlidingWindowInferer`` wants one image; a slide is worked on in blocks, each with all patches that cover one
of its pixels. A pixel is then blended from the very patches that one call over the whole level would take, so that
there are no seams, and memory is that of a block. Patches that two blocks share are seen by the network once, as long
as their scores fit into a cache; patches without tissue are not read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.baselines.patch_grid import Block, PatchGrid
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.kernels.ahead import ahead
from wsi_deform.memory import SHARED_BYTES
from wsi_deform.slide.slide import Slide

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledBlock:
    """The labels of a block.

    Attributes:
        block: The block.
        labels: (h, w) uint8 of ``block.kept``.
        probabilities: (C, h', w') float32, means over squares of ``mean_px`` px of the level from the block's corner
            on, over those pixels of them that a patch covers; 0 where there is none. None where they were not asked
            for.
        blanks: What could not be read of the slide until then, level-0 px, where such tiles are left out.
    """

    block: Block
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None
    blanks: tuple[Region, ...] = ()


class Patches:
    """The patches of a slide on their way through the network.

    Args:
        slide: An open slide.
        network: From (B, 3, H, W) RGB in [0, 255], float32, to (B, classes, H, W) scores: ``Model.scores``.
        grid: Where the patches lie.
        classes: Number of classes.
        batch: Most patches per forward pass.
        device: Where the network is; blocks are blended there.
        outside_label: Class of pixels that no patch covers.
        mean_px: Side of the squares whose probabilities are averaged, px of the level; None gives labels alone.
        shared_bytes: Most memory of scores that wait for a neighbouring block.
        reads_ahead: Whether the next block is read while this one is scored.
        on_patch: Called with how many patches the network has seen and how many there are.

    Attributes:
        tiles: (rows, columns) bool, the tiles of the level that were read.
        runs: Patches that went through the network; more than there are where the scores that wait did not fit.
    """

    def __init__(
        self,
        slide: Slide,
        network: Network,
        grid: PatchGrid,
        *,
        classes: int,
        batch: int = 1,
        device: torch.device | str = "cpu",
        outside_label: int = 0,
        mean_px: int | None = None,
        shared_bytes: int = SHARED_BYTES,
        reads_ahead: bool = True,
        on_patch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.slide, self.network, self.grid, self.classes = slide, network, grid, classes
        self.batch, self.device = batch, torch.device(device)
        self.outside_label, self.mean_px = outside_label, mean_px
        self.reads_ahead, self.on_patch = reads_ahead, on_patch
        self.runs = 0
        level = slide.levels[grid.level]
        self.tiles = np.zeros(tile_grid(level.size, level.tile).shape, bool)
        self.blocks = tuple(grid.blocks())
        self._seen = np.zeros_like(grid.wanted)
        self._shared = _SharedScores(self.blocks, grid.wanted.shape, shared_bytes)

    def labelled(self) -> Iterator[LabelledBlock]:
        """The labels of each block, in the order of ``PatchGrid.blocks``.

        Raises:
            SlideError: A tile cannot be read.
        """
        # MONAI takes seconds to import: only for those who need it.
        from monai.inferers import SlidingWindowInferer

        grid = self.grid
        inferer = SlidingWindowInferer(
            roi_size=(grid.patch_px, grid.patch_px),
            sw_batch_size=self.batch,
            overlap=grid.overlap,
            mode=grid.blend,
            padding_mode="replicate",
            with_coord=True,
        )
        # One block is read ahead of the one that the network works on; more would only take memory.
        read: Iterator[tuple[NDArray[np.uint8], tuple[Region, ...]]] = map(self._read, self.blocks)
        if self.reads_ahead:
            read = ahead(self._read, self.blocks, threads=1, max_waiting=2)
        for block, (pixels, blanks) in zip(self.blocks, read, strict=True):
            yield replace(self._labelled(inferer, block, pixels), blanks=blanks)

    def _labelled(self, inferer: Any, block: Block, pixels: NDArray[np.uint8]) -> LabelledBlock:
        """Blend the patches of a block, and cut it out of what they cover."""
        grid, covered = self.grid, _covered(self.grid, block)
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float()
        all_seen = bool(_of_block(grid.wanted, block).all())
        with torch.inference_mode():
            found = inferer(image, _Predictor(self, block, with_share=not all_seen))[0]
            left, top = block.kept.x - covered.x, block.kept.y - covered.y
            found = found[:, top : top + block.kept.height, left : left + block.kept.width]
            known = None
            if not all_seen:
                # The last channel is 1 for patches that the network saw: blended alike, it is their share.
                found, share = found[:-1], found[-1]
                known = share > 0
            labels = found.max(dim=0).indices.to(torch.uint8)
            if known is not None:
                labels[~known] = self.outside_label
            means = None
            if self.mean_px is not None:
                if known is not None:
                    found = torch.where(known, found / share.clamp_min(torch.finfo(share.dtype).tiny), 0.0)
                # A region may begin inside the block: what lies before it nobody looked at.
                before = block.kept.x - block.column * grid.block_px, block.kept.y - block.row * grid.block_px
                if max(before) > 0:
                    known = torch.ones_like(labels, dtype=torch.bool) if known is None else known
                    found, known = (F.pad(each, (before[0], 0, before[1], 0)) for each in (found, known))
                means = _means(found, known, self.mean_px).cpu().numpy()
            return LabelledBlock(block=block, labels=labels.cpu().numpy(), probabilities=means)

    def _read(self, block: Block) -> tuple[NDArray[np.uint8], tuple[Region, ...]]:
        """The pixels that the patches of a block cover, (H, W, 3), and what could not be read until then.

        What only unseen patches cover is 0.
        """
        grid, covered = self.grid, _covered(self.grid, block)
        pixels = np.zeros((covered.height, covered.width, 3), np.uint8)
        for region in _needed(grid, block):
            place = np.s_[
                region.y - covered.y : region.bottom - covered.y,
                region.x - covered.x : region.right - covered.x,
            ]
            pixels[place] = self.slide.read_region(grid.level, region)
            for column, row in region.tiles(self.slide.levels[grid.level].tile):
                self.tiles[row, column] = True
        return pixels, self.slide.blank_regions

    def _scored(self, images: Tensor, places: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Probabilities of patches, (classes, H, W) each; those that another block was given are taken from it."""
        found = [self._shared.taken(place) for place in places]
        new = [number for number, each in enumerate(found) if each is None]
        if new:
            scores = self.network(images[new]).float().softmax(dim=1)
            self.runs += len(new)
            for number, own in zip(new, scores, strict=True):
                found[number] = own
                self._shared.keep(places[number], own)
                self._seen[places[number]] = True
            if self.on_patch is not None:
                self.on_patch(int(self._seen.sum()), self.grid.count)
        return [each for each in found if each is not None]


class _Predictor:
    """What MONAI calls with patches of a block and where they lie: probabilities of those that are wanted, else 0."""

    def __init__(self, patches: Patches, block: Block, *, with_share: bool) -> None:
        self.patches = patches
        self.with_share = with_share
        grid, across = patches.grid, block.patches
        covered = _covered(grid, block)
        self.columns = {grid.starts_x[each] - covered.x: each for each in range(across.x, across.right)}
        self.rows = {grid.starts_y[each] - covered.y: each for each in range(across.y, across.bottom)}

    def __call__(self, images: Tensor, slices: Sequence[Sequence[slice]]) -> Tensor:
        """(B, 3, H, W) to (B, classes, H, W), with one channel more for what was seen where not all is."""
        places = [(self.rows[at[2].start], self.columns[at[3].start]) for at in slices]
        wanted = [number for number, place in enumerate(places) if self.patches.grid.wanted[place]]
        scored = self.patches._scored(images[wanted], [places[number] for number in wanted]) if wanted else []
        if not self.with_share:
            return torch.stack(scored)
        found = images.new_zeros((len(images), self.patches.classes + 1, *images.shape[2:]))
        for number, own in zip(wanted, scored, strict=True):
            found[number, :-1], found[number, -1] = own, 1.0
        return found


class _SharedScores:
    """Probabilities of patches that a later block needs too; the oldest go where memory ends."""

    def __init__(self, blocks: Sequence[Block], shape: tuple[int, ...], limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._left = np.zeros(shape, np.int64)
        for block in blocks:
            _of_block(self._left, block)[...] += 1
        self._kept: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def taken(self, place: tuple[int, int]) -> Tensor | None:
        """What is known of a patch, or None; a block asks once."""
        self._left[place] -= 1
        found = self._kept.get(place)
        if found is not None and self._left[place] == 0:
            self._drop(place)
        return found

    def keep(self, place: tuple[int, int], scores: Tensor) -> None:
        """Keep what the network said of a patch, if another block needs it."""
        if self._left[place] == 0:
            return
        # A copy: a view would keep the whole batch.
        self._kept[place] = scores.clone()
        self.bytes += scores.nbytes
        while self.bytes > self.limit_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, place: tuple[int, int]) -> None:
        self.bytes -= self._kept.pop(place).nbytes


def _of_block(of_grid: NDArray[Any], block: Block) -> NDArray[Any]:
    """The patches of a block, a view."""
    at = block.patches
    return of_grid[at.y : at.bottom, at.x : at.right]


def _covered(grid: PatchGrid, block: Block) -> Region:
    """What the patches of a block cover, px of the level."""
    first = grid.region_of(block.patches.x, block.patches.y)
    last = grid.region_of(block.patches.right - 1, block.patches.bottom - 1)
    return Region(first.x, first.y, last.right - first.x, last.bottom - first.y)


def _needed(grid: PatchGrid, block: Block) -> list[Region]:
    """What of it the patches that the network sees cover, as few disjoint regions, px of the level."""
    across, wanted = block.patches, _of_block(grid.wanted, block)
    width, height = grid.extents
    lefts, tops = grid.starts_x[across.x : across.right], grid.starts_y[across.y : across.bottom]
    # Cells between all edges of patches: a cell is covered whole or not at all.
    edges_x = np.unique([*lefts, *(left + width for left in lefts)])
    edges_y = np.unique([*tops, *(top + height for top in tops)])
    needed = np.zeros((len(edges_y) - 1, len(edges_x) - 1), bool)
    first_x, last_x = (np.searchsorted(edges_x, np.add(lefts, more)) for more in (0, width))
    first_y, last_y = (np.searchsorted(edges_y, np.add(tops, more)) for more in (0, height))
    for row, column in zip(*np.nonzero(wanted), strict=True):
        needed[first_y[row] : last_y[row], first_x[column] : last_x[column]] = True
    regions = []
    starts = [
        0,
        *(row for row in range(1, len(needed)) if (needed[row] != needed[row - 1]).any()),
        len(needed),
    ]
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        ends = np.flatnonzero(np.diff(np.concatenate(([False], needed[start], [False])).astype(np.int8)))
        for left, right in zip(ends[::2], ends[1::2], strict=True):
            x, y = int(edges_x[left]), int(edges_y[start])
            regions.append(Region(x, y, int(edges_x[right]) - x, int(edges_y[stop]) - y))
    return regions


def _means(probabilities: Tensor, known: Tensor | None, side_px: int) -> Tensor:
    """(C, H, W) to (C, ceil(H / side), ceil(W / side)): means over squares, of the (H, W) pixels that are known."""
    if side_px == 1:
        return probabilities

    def mean(values: Tensor) -> Tensor:
        found: Tensor = F.avg_pool2d(values[None], side_px, ceil_mode=True, count_include_pad=False)[0]
        return found

    means = mean(probabilities)
    return means if known is None else means / mean(known[None].float()).clamp_min(1e-12)


def slide_labels(patches: Patches) -> Iterator[tuple[Region, NDArray[np.uint8]]]:
    """The labels of a whole slide, square by square; what no patch covers has the outside label.

    Yields:
        Disjoint level-0 regions that cover the slide, each with its labels, (region.height, region.width) uint8.
    """
    grid = patches.grid
    side = grid.block_px * grid.downsample
    seen = set()
    for block in patches.labelled():
        seen.add((block.block.column, block.block.row))
        square = tile_region(block.block.column, block.block.row, Size(side, side), grid.slide_size)
        yield square, labels_of(block, grid, square)
    for column, row in Region.whole(grid.slide_size).tiles(Size(side, side)):
        if (column, row) not in seen:
            square = tile_region(column, row, Size(side, side), grid.slide_size)
            yield square, np.full(square.size.shape, patches.outside_label, np.uint8)


def labels_of(block: LabelledBlock, grid: PatchGrid, region: Region) -> NDArray[np.uint8]:
    """Labels of a level-0 region that a block decides: each label of the level is repeated.

    Args:
        block: The block.
        grid: Its grid.
        region: Level-0 px, inside the block's square.

    Returns:
        (region.height, region.width) uint8.
    """
    rows = own_pixels(np.arange(region.y, region.bottom), grid, block.block.kept.y, block.labels.shape[0])
    columns = own_pixels(np.arange(region.x, region.right), grid, block.block.kept.x, block.labels.shape[1])
    return block.labels[rows[:, None], columns]


def own_pixels(slide_px: NDArray[np.int64], grid: PatchGrid, start: int, length: int) -> NDArray[np.int64]:
    """Rows or columns of a block's labels that level-0 rows or columns show."""
    found: NDArray[np.int64] = np.clip(slide_px // grid.downsample - start, 0, length - 1)
    return found
