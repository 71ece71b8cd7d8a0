"""From outlines to label maps: of any region at any scale, and of any pixels, without an array of the whole slide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.class_data import OutlineOrder
from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.annotation.outlines.outline import Outline
from wsi_deform.errors import AnnotationError, ShapeError
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.kernels.edge_index import Edges, edges_of_rings, indexed
from wsi_deform.kernels.scanline import (
    ERASE,
    NOTHING,
    REGION,
    Frame,
    codes_of_pixels,
    is_crossed,
    labels_of_codes,
    paint,
)

ORDERS: tuple[OutlineOrder, ...] = get_args(OutlineOrder)
LEVEL_0 = Point(1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What pixels are where no outline of a class is.

    Attributes:
        outside: Label outside every outline.
        in_region: Label inside an annotated region and outside all other outlines.
    """

    outside: int = UNLABELLED
    in_region: int = UNLABELLED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutlineRaster:
    """Outlines of a slide that give every pixel a label.

    Attributes:
        edges: The index of their edges.
        slide_size: Size of the slide's level 0, px.
        order: Which outline has a pixel that several have: "drawing", the one that was drawn last; "classes", that of
            the last class of the class table.
        ground: What is where no outline is.
        remarks: What is to be said of the file that they are from, see ``OutlineSet``.

    Convention:
        A pixel belongs to an outline when its centre lies inside it, even-odd. A centre on an edge belongs to the
        outline right of it or below it: neighbours that share an edge share no pixel and leave none out. Of a coarser
        level it is the centre of the level's pixel, or where that lies beyond the slide's edge the centre of the last
        level-0 pixel. Nothing depends on the region that is asked for.
    """

    edges: Edges
    slide_size: Size
    order: OutlineOrder
    ground: Ground
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        outlines: Sequence[Outline],
        meanings: Sequence[int],
        *,
        slide_size: Size,
        order: OutlineOrder = "drawing",
        ground: Ground | None = None,
    ) -> OutlineRaster:
        """Index outlines.

        Args:
            outlines: In the order they were drawn.
            meanings: Of each outline its class index, ``UNLABELLED``, or ``REGION`` of an annotated region; of those
                that erase it does not matter.
            slide_size: Size of the slide's level 0, px.
            order: See ``OutlineRaster``.
            ground: What is where no outline is; default: unlabelled everywhere.

        Raises:
            AnnotationError: An outline has a point that is not finite.
            ShapeError: There is no such order, or a meaning is no label.

        Convention:
            An outline that erases takes away what those before it gave, annotated regions too, in either order; what is
            drawn later stands. Among classes, unlabelled counts as the last one.
        """
        if order not in ORDERS or not all(REGION <= each <= UNLABELLED for each in meanings):
            raise ShapeError(
                f"order {order!r}, meanings {sorted(set(meanings))[:5]}: needed one of {', '.join(ORDERS)}, "
                f"and {REGION} to {UNLABELLED}."
            )
        rings = [ring for outline in outlines for ring in outline.rings]
        lengths = np.array([len(ring) for ring in rings], np.int64)
        owners = np.repeat(
            np.arange(len(outlines), dtype=np.int32), [len(outline.rings) for outline in outlines]
        )
        points = np.concatenate([*rings, np.empty((0, 2))]).astype(np.float64, copy=False)
        polygons = np.repeat(owners, lengths)
        if not np.isfinite(points).all():
            first = outlines[int(polygons[~np.isfinite(points).all(axis=1)][0])]
            raise AnnotationError(
                f"outline {first.number}: a point that is not finite. Needed numbers. Export the outlines again."
            )
        codes = [
            ERASE if outline.erases else meaning for outline, meaning in zip(outlines, meanings, strict=True)
        ]
        edges = edges_of_rings(points, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))))
        return cls(
            edges=indexed(
                edges,
                polygons,
                np.array(codes, np.int16),
                width=slide_size.width,
                height=slide_size.height,
            ),
            slide_size=slide_size,
            order=order,
            ground=ground or Ground(),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds."""
        return sum(part.nbytes for part in self.edges if isinstance(part, np.ndarray))

    def read(self, region: Region, downsample: Point = LEVEL_0) -> NDArray[np.uint8]:
        """The label map of a region.

        Args:
            region: In px of a level, not empty.
            downsample: Level-0 px per px of that level.

        Returns:
            (region.height, region.width) uint8 labels; what lies outside the slide has that of ``ground.outside``.
        """
        codes = np.full(region.size.shape, NOTHING, np.int16)
        paint(self.edges, self._frame(region, downsample), codes, self.order == "drawing")
        return self._labels(codes)

    def label(self, region: Region, downsample: Point = LEVEL_0) -> int | None:
        """The label of all pixels of a region, where no outline passes through it; None where one does.

        Args:
            region: In px of a level, not empty, with a pixel inside the slide.
            downsample: Level-0 px per px of that level.
        """
        if is_crossed(self.edges, self._frame(region, downsample), region.size.shape):
            return None
        return int(self.read(Region(region.x, region.y, 1, 1), downsample)[0, 0])

    def at_pixels(self, pixels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The labels of level-0 pixels.

        Args:
            pixels: (N, 2) int64 (x, y), inside the slide.

        Returns:
            (N,) uint8 labels, those of ``read``.
        """
        codes = np.empty(len(pixels), np.int16)
        codes_of_pixels(self.edges, np.ascontiguousarray(pixels), codes, self.order == "drawing")
        return self._labels(codes)

    def parts(
        self, region: Region, tile: Size, downsample: Point = LEVEL_0
    ) -> Iterator[tuple[Region, int | NDArray[np.uint8]]]:
        """A region tile by tile: each part with its one label, or with its label map where it may hold several.

        Args:
            region: In px of a level, inside it.
            tile: Size of the tiles of a fixed grid.
            downsample: Level-0 px per px of that level.

        Yields:
            Tiles, clipped to the region, row by row.
        """
        whole = Size(region.right, region.bottom)
        for column, row in region.tiles(tile):
            part = tile_region(column, row, tile, whole).intersection(region)
            label = self.label(part, downsample)
            yield part, self.read(part, downsample) if label is None else label

    def _frame(self, region: Region, downsample: Point) -> Frame:
        return Frame(
            left=region.x,
            top=region.y,
            x_step=downsample.x,
            y_step=downsample.y,
            x_last=self.slide_size.width - 0.5,
            y_last=self.slide_size.height - 0.5,
        )

    def _labels(self, codes: NDArray[np.int16]) -> NDArray[np.uint8]:
        labels = np.empty(codes.shape, np.uint8)
        labels_of_codes(codes.ravel(), self.ground.outside, self.ground.in_region, labels.ravel())
        return labels
