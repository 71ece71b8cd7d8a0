"""The reverse sampler: from labels at sampling points back to a label for every pixel of the slide.

A slide is covered by *fields*, each with its own samples; one field over everything is the common case. A
pixel takes the label of the nearest sample of the field that keeps it. The sampler answers for any region of
any level, and hands out the tiles of the whole pyramid in one traversal of the tree that `quadtree.py`
explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform import quadtree
from wsi_deform.deform.ordered import map_in_order
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size, tile_grid

LONGEST_SIDE_PX = 1 << 20
"""The longest side of a slide, such that 64-bit integers hold every squared distance."""

_FAR_PX = 1 << 21
"""Beyond every pixel of every level, also of the partial pixels at the right and bottom edge."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldSamples:
    """The labelled samples of one field, and the pixels that they decide.

    Attributes:
        kept: Level-0 px whose mask pixels these samples decide. Samples may lie outside it (context margin).
        points_px: (N, 2) float64, (x, y), slide edge frame: pixel i covers [i, i + 1).
        labels: (N,) uint8.

    Raises:
        ShapeError: The arrays have another shape or type, no sample, or a position that is not finite or too
            far.
    """

    kept: Region
    points_px: NDArray[np.float64]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check the arrays once, here."""
        points, labels = self.points_px, self.labels
        if points.ndim != 2 or points.shape[1] != 2 or points.dtype != np.float64:
            raise ShapeError(
                f"points_px: shape {points.shape}, {points.dtype}. Needed (N, 2) float64, last axis (x, y)."
            )
        if labels.shape != points.shape[:1] or labels.dtype != np.uint8:
            raise ShapeError(
                f"labels: shape {labels.shape}, {labels.dtype}. Needed {points.shape[:1]} uint8, one a point."
            )
        if len(points) == 0:
            raise ShapeError(
                "points_px: no points. Needed at least one sample; leave out fields without samples."
            )
        bad = ~(np.abs(points) <= LONGEST_SIDE_PX)  # also true where a position is NaN
        if bad.any():
            first = int(np.argmax(bad.any(axis=1)))
            raise ShapeError(
                f"points_px[{first}] = {points[first].tolist()}. Needed finite level-0 pixels, at most "
                f"{LONGEST_SIDE_PX:,} px from the slide's top-left corner. Is it in another frame?"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskTile:
    """One tile of one level of a mask, or a block of tiles that share one label.

    Attributes:
        level: 0 is the finest; a pixel of level k is 2^k level-0 px wide.
        column: Tile column, from 0 at the left edge.
        row: Tile row, from 0 at the top edge.
        label: The label of all pixels of all tiles of the block; None where ``pixels`` say it.
        pixels: (H, W) uint8 labels of one tile, clipped to the level; None where all are ``label``.
        columns: Number of tile columns of the block; 1 where there are pixels.
        rows: Number of tile rows of the block; 1 where there are pixels.
    """

    level: int
    column: int
    row: int
    label: int | None = None
    pixels: NDArray[np.uint8] | None = None
    columns: int = 1
    rows: int = 1


def pyramid_sizes(size: Size, tile_px: int = 512) -> tuple[Size, ...]:
    """Sizes of the levels of a mask: each half of the one before, rounded up, until one tile holds it.

    Args:
        size: Size of level 0, px.
        tile_px: Side of a tile.

    Returns:
        Sizes in px of the level, finest first, at least one.
    """
    sizes = [size]
    while sizes[-1].long > tile_px:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
    return tuple(sizes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Node:
    """A tile (column, row) of a level with the fields and samples that may decide its pixels."""

    level: int
    column: int
    row: int
    label: int
    fields: NDArray[np.int32]
    starts: NDArray[np.int64]
    candidates: NDArray[np.int32]


class ReverseSampler:
    """Labels of mask pixels from the nearest sample, exactly, for any region of any level.

    Args:
        fields: Samples and kept regions; kept regions are disjoint. May be empty (a slide without tissue).
        size: The slide's level-0 size, px.
        outside_label: Label of pixels that no field keeps.
        tile_px: Side of the tiles that `tiles` yields.

    Raises:
        ShapeError: Kept regions overlap, the slide is too large, or a number is out of range.

    Convention:
        The pixel (x, y) of level k takes the label of the sample nearest to its centre ((x + 1/2) 2^k, (y +
        1/2) 2^k). Positions are rounded to 1/256 px and distances compared as integers; ties go to the lower
        index within the field. A pixel belongs to the field whose kept region, ``[left, right) x [top,
        bottom)``, holds its centre; a kept region that reaches the slide's right or bottom edge also holds
        the centres of partial pixels of coarser levels past that edge. A sample of a field never decides a
        pixel of another.

    Source:
        Jin et al., ICLR 2022, section 2.1 (reverse sampler; here nearest in the slide plane).
    """

    def __init__(
        self, fields: Sequence[FieldSamples], *, size: Size, outside_label: int = 0, tile_px: int = 512
    ) -> None:
        if size.long > LONGEST_SIDE_PX:
            raise ShapeError(f"slide size {size}: needed at most {LONGEST_SIDE_PX:,} px per side.")
        if not 0 <= outside_label <= 255:
            raise ShapeError(f"outside_label {outside_label}: needed 0 to 255, a mask stores bytes.")
        if not 16 <= tile_px <= 4096 or tile_px % 16:
            raise ShapeError(f"tile_px {tile_px}: needed a multiple of 16 from 16 to 4096.")
        self.size = size
        self.outside_label = outside_label
        self.tile_px = tile_px
        self.level_sizes = pyramid_sizes(size, tile_px)
        fields = [field for field in fields if not field.kept.intersection(Region.whole(size)).is_empty]
        self._kept = _kept_edges([field.kept for field in fields], size)
        starts = np.concatenate([[0], np.cumsum([len(field.labels) for field in fields], dtype=np.int64)])
        self._samples = np.empty((starts[-1], 3), np.int32)
        for field, start, stop in zip(fields, starts[:-1], starts[1:], strict=True):
            self._samples[start:stop, :2] = np.rint(field.points_px * quadtree.UNITS_PER_PX)
            self._samples[start:stop, 2] = field.labels
        self._whole = _Node(
            level=len(self.level_sizes),
            column=0,
            row=0,
            label=quadtree.MIXED,
            fields=np.arange(len(fields), dtype=np.int32),
            starts=starts.astype(np.int64),
            candidates=np.arange(starts[-1], dtype=np.int32),
        )

    def region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Labels of a rectangle of a level.

        Args:
            region: In px of the level, inside the level.
            level: 0 is the finest.

        Returns:
            (region.height, region.width) uint8 labels.

        Raises:
            ShapeError: There is no such level, or the region is empty or not inside it.
        """
        if not 0 <= level < len(self.level_sizes):
            raise ShapeError(
                f"level {level}: needed 0 to {len(self.level_sizes) - 1} for a slide of {self.size}."
            )
        whole = Region.whole(self.level_sizes[level])
        if region.is_empty or region.intersection(whole) != region:
            raise ShapeError(f"{region}: needed a region inside level {level}, {whole.size} px, not empty.")
        near = self._pruned(self._whole, region, level, column=0, row=0)
        return self._pixels(near, region, level)

    def tiles(self, level_count: int | None = None, threads: int = 1) -> Iterator[MaskTile]:
        """All tiles of the pyramid, each exactly once, in one traversal.

        Args:
            level_count: Number of levels, from the finest; default all of ``level_sizes``.
            threads: Number of threads that render; the tiles and their order do not depend on it.

        Yields:
            Tiles with pixels, and blocks of tiles of one label, in the order of the tree (not level by
            level).

        Raises:
            ShapeError: The pyramid has fewer levels than asked for.
        """
        if level_count is not None and not 1 <= level_count <= len(self.level_sizes):
            raise ShapeError(
                f"level_count {level_count}: needed 1 to {len(self.level_sizes)} for a slide of {self.size} "
                f"and tiles of {self.tile_px} px."
            )
        nodes = self._nodes(level_count or len(self.level_sizes))
        return map_in_order(self._tile, nodes, threads, heavy=lambda node: isinstance(node, _Node))

    def _nodes(self, level_count: int) -> Iterator[_Node | MaskTile]:
        """Walk the tree from the top, depth first; a node of one label ends its branch."""
        grids = [tile_grid(size, Size(self.tile_px, self.tile_px)) for size in self.level_sizes]
        top = len(self.level_sizes) - 1
        waiting = [(self._whole, top, 0, 0)]
        while waiting:
            parent, level, column, row = waiting.pop()  # a node's candidates are taken from its parent's
            node = self._pruned(parent, self._tile_region(level, column, row), level, column, row)
            if node.label != quadtree.MIXED:
                for finer in range(min(level, level_count - 1), -1, -1):
                    scale = 1 << (level - finer)
                    yield MaskTile(
                        level=finer,
                        column=column * scale,
                        row=row * scale,
                        label=node.label,
                        columns=min(scale, grids[finer].width - column * scale),
                        rows=min(scale, grids[finer].height - row * scale),
                    )
                continue
            if level < level_count:
                yield node
            for child in (3, 2, 1, 0) if level else ():
                child_column, child_row = 2 * column + child % 2, 2 * row + child // 2
                if child_column < grids[level - 1].width and child_row < grids[level - 1].height:
                    waiting.append((node, level - 1, child_column, child_row))

    def _tile(self, node: _Node | MaskTile) -> MaskTile:
        """Render a node; blocks of one label pass as they are."""
        if isinstance(node, MaskTile):
            return node
        region = self._tile_region(node.level, node.column, node.row)
        pixels = self._pixels(node, region, node.level)
        # Candidates of several labels may leave a tile with one: worth a look, since it need not be encoded.
        label = int(pixels[0, 0]) if (pixels == pixels[0, 0]).all() else None
        return MaskTile(
            level=node.level,
            column=node.column,
            row=node.row,
            label=label,
            pixels=pixels if label is None else None,
        )

    def _tile_region(self, level: int, column: int, row: int) -> Region:
        """The pixels of a tile, clipped to its level."""
        tile = Region(column * self.tile_px, row * self.tile_px, self.tile_px, self.tile_px)
        return tile.intersection(Region.whole(self.level_sizes[level]))

    def _pruned(self, parent: _Node, region: Region, level: int, column: int, row: int) -> _Node:
        """What of a parent's fields and samples may decide pixels of levels 0 to ``level`` in a region."""
        fields, starts = np.empty_like(parent.fields), np.empty_like(parent.starts)
        candidates = np.empty_like(parent.candidates)
        count, label = quadtree.prune(
            self._samples,
            self._kept,
            self.outside_label,
            parent.fields,
            parent.starts,
            parent.candidates,
            (region.x << level, region.y << level, region.right << level, region.bottom << level),
            fields,
            starts,
            candidates,
        )
        return _Node(  # copies: views would keep the parent's long lists alive
            level=level,
            column=column,
            row=row,
            label=label,
            fields=fields[:count].copy(),
            starts=starts[: count + 1].copy(),
            candidates=candidates[: starts[count]].copy(),
        )

    def _pixels(self, node: _Node, region: Region, level: int) -> NDArray[np.uint8]:
        """Labels of a region of a level that the node was pruned for."""
        pixels = np.empty(region.size.shape, np.uint8)
        if node.label != quadtree.MIXED:
            pixels.fill(node.label)
            return pixels
        quadtree.render(
            self._samples,
            self._kept,
            self.outside_label,
            node.fields,
            node.starts,
            node.candidates,
            level,
            (region.x, region.y),
            pixels,
        )
        return pixels


def _kept_edges(regions: Sequence[Region], size: Size) -> NDArray[np.int64]:
    """(F, 4) left, top, right, bottom, level-0 px; those on the slide's right or bottom edge move far out."""
    edges = np.array([(r.x, r.y, r.right, r.bottom) for r in regions], np.int64).reshape(-1, 4)
    edges[:, :2] = np.maximum(edges[:, :2], 0)
    edges[edges[:, 2] >= size.width, 2] = _FAR_PX
    edges[edges[:, 3] >= size.height, 3] = _FAR_PX
    order = np.argsort(edges[:, 0], kind="stable")
    ordered = edges[order]
    stops = np.searchsorted(ordered[:, 0], ordered[:, 2])  # later ones that begin before this one ends
    for i, stop in enumerate(stops):
        rest = ordered[i + 1 : stop]
        meets = (rest[:, 1] < ordered[i, 3]) & (rest[:, 3] > ordered[i, 1])
        if meets.any():
            other = regions[order[i + 1 + int(np.argmax(meets))]]
            raise ShapeError(
                f"kept regions {regions[order[i]]} and {other} overlap. Needed disjoint regions."
            )
    return edges
