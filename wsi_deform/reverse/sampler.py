"""The reverse sampler: from labels at sampling points back to a label for every pixel of the slide.

A slide is covered by *fields*, each with its own samples; one field over everything is the common case. A
pixel takes the label of the nearest sample of the field that keeps it (``nearest``), or the class of the
highest probability interpolated between the samples around it (``linear``). The sampler answers for any
region of any level, and hands out the tiles of the whole pyramid in one traversal of the tree that
`quadtree.py` explains; `mesh.py` explains what is different for ``linear``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size, tile_grid
from wsi_deform.kernels.compiled import MIXED
from wsi_deform.kernels.ordered import map_in_order
from wsi_deform.limits import LONGEST_SIDE_PX
from wsi_deform.reverse import mesh, mesh_pixels, nearest_pixels, quadtree
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.packed import packed_kept, packed_lattices, packed_samples, packed_scores
from wsi_deform.reverse.pieces import piece_count
from wsi_deform.reverse.samples import FieldSamples

Pruned = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]


@dataclass(slots=True, kw_only=True, eq=False)  # Not frozen: there are many, and that takes thrice the time.
class _Node:
    """A tile (column, row) of a level with the fields and samples that may decide its pixels.

    ``candidates[starts[i] : starts[i + 1]]`` are those of ``fields[i]``; nodes of one parent share the arrays.
    """

    level: int
    column: int
    row: int
    label: int
    fields: NDArray[np.int32]
    starts: NDArray[np.int64]
    candidates: NDArray[np.int32]


class ReverseSampler:
    """Labels of mask pixels from the samples, exactly, for any region of any level.

    Args:
        fields: Samples and kept regions; kept regions are disjoint. May be empty (a slide without tissue).
        size: The slide's level-0 size, px.
        outside_label: Label of pixels that no field keeps.
        tile_px: Side of the tiles that `tiles` yields.
        interpolation: "nearest" uses positions and labels; "linear" positions, probabilities and lattice.
        values: Per field (N,) uint16, put back in place of the labels; "nearest" only. Pixels are uint16.

    Raises:
        ShapeError: Kept regions overlap, the slide is too large, a number is out of range, or a field lacks
            what its interpolation needs.

    Convention:
        The pixel (x, y) of level k takes what its centre ((x + 1/2) 2^k, (y + 1/2) 2^k) takes. Positions are
        rounded to 1/256 px and compared as integers.

        "nearest": the label of the nearest sample; ties go to the lower index within the field.

        "linear": the class with the highest interpolated probability, ties to the lower class. Quads of
        samples are cut from (i, j) to (i + 1, j + 1); beyond the outermost samples the probabilities are
        those of the lattice's border straight above, below or beside. Probabilities are rounded to 1/65535
        (coarser where neighbouring samples are more than 10,000 px apart).

        A pixel belongs to the field whose kept region, ``[left, right) x [top, bottom)``, holds its centre; a
        kept region that reaches the slide's right or bottom edge also holds the centres of partial pixels of
        coarser levels past that edge. A sample of a field never decides a pixel of another.

    Source:
        Jin et al., ICLR 2022, section 2.1 (reverse sampler; here in the slide plane).
    """

    def __init__(
        self,
        fields: Sequence[FieldSamples],
        *,
        size: Size,
        outside_label: int = 0,
        tile_px: int = 512,
        interpolation: Interpolation = "nearest",
        values: Sequence[NDArray[np.uint16]] | None = None,
    ) -> None:
        if size.long > LONGEST_SIDE_PX:
            raise ShapeError(f"slide size {size}: needed at most {LONGEST_SIDE_PX:,} px per side.")
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if values is None else np.uint16)
        if not 0 <= outside_label <= np.iinfo(self.dtype).max:
            raise ShapeError(
                f"outside_label {outside_label}: needed 0 to {np.iinfo(self.dtype).max}, "
                "what a pixel can store."
            )
        if interpolation not in get_args(Interpolation) or (interpolation == "linear" and values is not None):
            raise ShapeError(f'interpolation "{interpolation}": needed nearest, or linear without values.')
        if not 16 <= tile_px <= 4096 or tile_px % 16:
            raise ShapeError(f"tile_px {tile_px}: needed a multiple of 16 from 16 to 4096.")
        self.size = size
        self.outside_label = outside_label
        self.tile_px = tile_px
        self.level_sizes = pyramid_sizes(size, tile_px)
        self.interpolation: Interpolation = interpolation
        seen = [i for i, each in enumerate(fields) if not each.kept.intersection(Region.whole(size)).is_empty]
        self._kept = packed_kept([fields[i].kept for i in seen], size)
        labels = [fields[i].labels if values is None else values[i] for i in seen]
        self._samples = packed_samples([fields[i].points_px for i in seen], labels)
        counts = [len(each) for each in labels]
        self._data: tuple[NDArray[Any], ...] = (self._samples,)
        candidates = np.arange(sum(counts), dtype=np.int32)
        if interpolation == "linear":
            lattices = packed_lattices([fields[i] for i in seen], self._samples)
            scores = packed_scores([fields[i] for i in seen], self._samples, lattices)
            if scores.size:
                self._samples[:, 2] = scores.argmax(axis=1)
            self._data = (self._samples, scores, lattices)
            counts = [piece_count(int(row[1]), int(row[2])) for row in lattices]
            candidates = np.concatenate(
                [np.empty(0, np.int32), *(np.arange(n, dtype=np.int32) for n in counts)]
            )
        self._whole = _Node(
            level=len(self.level_sizes),
            column=0,
            row=0,
            label=MIXED,
            fields=np.arange(len(seen), dtype=np.int32),
            starts=np.cumsum([0, *counts], dtype=np.int64),
            candidates=candidates,
        )

    # Looked up, not kept: a kernel that is pickled is compiled anew where it arrives, for seconds.
    @property
    def _prune(self) -> Callable[..., Pruned]:
        return mesh.prune if self.interpolation == "linear" else quadtree.prune

    @property
    def _render(self) -> Callable[..., int]:
        return mesh_pixels.render if self.interpolation == "linear" else nearest_pixels.render

    @property
    def class_count(self) -> int:
        """Number of classes with probabilities; 0 where there is no field, or without "linear"."""
        return int(self._data[1].shape[1]) if self.interpolation == "linear" else 0

    def region(self, region: Region, level: int = 0) -> NDArray[Any]:
        """Labels of a rectangle of a level.

        Args:
            region: In px of the level, inside the level.
            level: 0 is the finest.

        Returns:
            (region.height, region.width) uint8 labels; uint16 where the sampler has values.

        Raises:
            ShapeError: There is no such level, or the region is empty or not inside it.
        """
        self._check_region(region, level)
        near = self._node(region, level)
        return self._pixels(near, region, level)[0]

    def probabilities(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Interpolated probabilities of all classes in a rectangle of a level; for samplers with "linear".

        Args:
            region: In px of the level, inside the level.
            level: 0 is the finest.

        Returns:
            (class_count, region.height, region.width) uint8, 255 for 1; 0 in all classes where no field keeps.

        Raises:
            ShapeError: There is no such level, the region is empty or not inside it, or the sampler is not
                linear.
        """
        self._check_region(region, level)
        if self.interpolation != "linear":
            raise ShapeError(f'interpolation "{self.interpolation}" has no probabilities: needed "linear".')
        near = self._node(region, level)
        shares = np.zeros((self.class_count, *region.size.shape), np.uint8)
        mesh_pixels.render_scores(
            self._samples,
            self._data[1],
            self._data[2],
            self._kept,
            near.fields,
            near.starts,
            near.candidates,
            level,
            (region.x, region.y),
            shares,
        )
        return shares

    def _check_region(self, region: Region, level: int) -> None:
        """Refuse regions outside the pyramid."""
        if not 0 <= level < len(self.level_sizes):
            raise ShapeError(
                f"level {level}: needed 0 to {len(self.level_sizes) - 1} for a slide of {self.size}."
            )
        whole = Region.whole(self.level_sizes[level])
        if region.is_empty or region.intersection(whole) != region:
            raise ShapeError(f"{region}: needed a region inside level {level}, {whole.size} px, not empty.")

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
        return map_in_order(self._tile, nodes, threads)

    def _nodes(self, level_count: int) -> Iterator[_Node | MaskTile]:
        """Walk the tree from the top, depth first; a node of one label ends its branch."""
        grids = [tile_grid(size, Size(self.tile_px, self.tile_px)) for size in self.level_sizes]
        waiting = self._split(self._whole)
        while waiting:
            node = waiting.pop()
            level, column, row = node.level, node.column, node.row
            if node.label != MIXED:
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
            if level:
                waiting += self._split(node)

    def _tile(self, node: _Node | MaskTile) -> MaskTile:
        """Render a node; blocks of one label pass as they are."""
        if isinstance(node, MaskTile):
            return node
        region = self._tile_region(node.level, node.column, node.row)
        pixels, found = self._pixels(node, region, node.level)
        # Candidates of several labels may leave a tile with one: worth a look, since it need not be encoded.
        label = None if found == MIXED else found
        return MaskTile(
            level=node.level,
            column=node.column,
            row=node.row,
            label=label,
            pixels=pixels if label is None else None,
        )

    def _tile_region(self, level: int, column: int, row: int) -> Region:
        """The pixels of a tile, clipped to its level."""
        x, y, size = column * self.tile_px, row * self.tile_px, self.level_sizes[level]
        return Region(x, y, min(self.tile_px, size.width - x), min(self.tile_px, size.height - y))

    def _node(self, region: Region, level: int) -> _Node:
        """What may decide a region of a level, as a node without a place."""
        box = (region.x << level, region.y << level, region.right << level, region.bottom << level)
        (node,) = self._pruned(self._whole, [(level, 0, 0)], [box])
        return node

    def _split(self, parent: _Node) -> list[_Node]:
        """The tiles of the next finer level that a tile covers, last first; the one top tile of the whole."""
        level, side = parent.level - 1, self.tile_px
        size = self.level_sizes[level]
        places, boxes = [], []
        for child in (3, 2, 1, 0):
            column, row = 2 * parent.column + child % 2, 2 * parent.row + child // 2
            left, top = column * side, row * side
            if left < size.width and top < size.height:
                right, bottom = min(left + side, size.width), min(top + side, size.height)
                places.append((level, column, row))
                boxes.append((left << level, top << level, right << level, bottom << level))
        return self._pruned(parent, places, boxes)

    def _pruned(
        self,
        parent: _Node,
        places: Sequence[tuple[int, int, int]],
        boxes: Sequence[tuple[int, int, int, int]],
    ) -> list[_Node]:
        """Nodes (level, column, row) with what of a parent's fields and samples may decide pixels in their boxes."""
        labels, ends, fields, starts, candidates = self._prune(
            *self._data,
            self._kept,
            self.outside_label,
            parent.fields,
            parent.starts,
            parent.candidates,
            np.array(boxes, np.int64),
        )
        bounds = ends.tolist()
        return [
            _Node(
                level=level,
                column=column,
                row=row,
                label=label,
                fields=fields[begin:end],
                starts=starts[begin : end + 1],
                candidates=candidates,
            )
            for (level, column, row), label, begin, end in zip(
                places, labels.tolist(), bounds[:-1], bounds[1:], strict=True
            )
        ]

    def _pixels(self, node: _Node, region: Region, level: int) -> tuple[NDArray[Any], int]:
        """Labels of a region of a level that the node was pruned for, and the one label of all or MIXED."""
        pixels = np.empty((region.height, region.width), self.dtype)
        if node.label != MIXED:
            pixels.fill(node.label)
            return pixels, node.label
        label = self._render(
            *self._data,
            self._kept,
            self.outside_label,
            node.fields,
            node.starts,
            node.candidates,
            level,
            (region.x, region.y),
            pixels,
        )
        return pixels, label
