"""The labels of a slide from a file of outlines, asked for as those of a mask are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.class_data import OutlineOrder
from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.labels import fractions_of_cells, pixels_of, unlabelled_beside
from wsi_deform.annotation.outlines.held import OUTLINE_CACHE
from wsi_deform.annotation.outlines.meanings import ground_of, with_meanings
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.raster import OutlineRaster
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Region, Size

COUNTED_TILE = Size(512, 512)


class OutlineLabels:
    """The labels that outlines give a slide; see ``Labels`` and ``OutlineRaster``.

    It is safe in threads and pickles as its path: the file is parsed again where it is unpickled, and once in a process
    for all who open it.

    Attributes:
        path: The file of outlines.
        slide_size: Size of the slide's level 0, px.
        classes: What its names mean.
        region: What is labelled, level-0 px; all else is unlabelled. None is all of it.
        corner: Where viewers begin to show the slide, level-0 px: see ``read_outlines``.
        image: File name of the slide, for files of several slides, or None.
        order: Which outline has a pixel that several have.
        outside: What pixels outside every outline are, as ``ground_of`` takes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        slide_size: Size,
        classes: ClassTable,
        region: Region | None = None,
        corner: Point = Point(0, 0),
        image: str | None = None,
        order: OutlineOrder | None = None,
        outside: str | int | None = None,
    ) -> None:
        """Open a file of outlines; see ``open_outline_labels``."""
        self.path, self.slide_size, self.classes, self.region = Path(path), slide_size, classes, region
        self.corner, self.image = corner, image
        self.order, self.outside = order or classes.outline_order, outside
        self._ground = ground_of(classes, outside)
        try:
            status = self.path.stat()
        except OSError as error:
            raise AnnotationError(
                f"annotation {self.path}: cannot be read ({error.strerror}). Needed a file of outlines. Correct the "
                "path."
            ) from error
        # A file that was written again is another file; so is one that is read by another class table.
        place = (str(self.path.resolve()), status.st_mtime_ns, status.st_size)
        self._key = (*place, slide_size, classes, corner, image, self.order, self._ground)
        _ = self.raster  # what is wrong with the file is known from the start

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments of ``open_outline_labels``."""
        kept = (self.path, self.slide_size, self.classes, self.region, self.corner, self.image, self.order)
        return _reopened, (*kept, self.outside)

    @property
    def raster(self) -> OutlineRaster:
        """The indexed outlines, parsed where this process does not hold them."""
        return OUTLINE_CACHE.get(self._key, self._parsed)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out of the file, repaired or taken for something else, with numbers."""
        return self.raster.remarks

    def read_region(self, region: Region) -> NDArray[np.uint8]:
        """Read the label map of a region, as ``Labels.read_region`` says."""
        labels = np.full((region.height, region.width), UNLABELLED, np.uint8)
        inside = region.intersection(self._labelled)
        if not inside.is_empty:
            place = np.s_[
                inside.y - region.y : inside.bottom - region.y, inside.x - region.x : inside.right - region.x
            ]
            labels[place] = self.raster.read(inside)
        return labels

    def at_points(self, points_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at points, as ``Labels.at_points`` says; nothing is rasterised for it."""
        pixels = pixels_of(points_px, slide_size=self.slide_size, path=self.path)
        return unlabelled_beside(self.raster.at_pixels(pixels), pixels, self.region)

    def at_grid(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at all points of a grid, as ``Labels.at_grid`` says; nothing is rasterised for it."""
        points = np.empty((len(y_px), len(x_px), 2))
        points[..., 0], points[..., 1] = x_px, np.asarray(y_px)[:, None]
        return self.at_points(points.reshape(-1, 2)).reshape(points.shape[:2])

    def cell_fractions(self, region: Region, size: Size, subsamples: int = 4) -> NDArray[np.float32]:
        """Estimate how much of each cell of a coarse grid each class covers; see ``fractions_of_cells``."""
        return fractions_of_cells(
            self.at_grid, region, size, classes=self.classes.count, subsamples=subsamples
        )

    def class_counts(self) -> NDArray[np.int64]:
        """Count the level-0 pixels per class, whatever the region: (classes + 1,) int64; the last is unlabelled."""
        return self.counts_in(Region.whole(self.slide_size))

    def counts_in(self, region: Region) -> NDArray[np.int64]:
        """Count the level-0 pixels per class in a region: (classes + 1,) int64; the last is unlabelled.

        Only tiles that an outline passes through are looked at pixel by pixel.
        """
        counts = np.zeros(UNLABELLED + 1, np.int64)
        for part, labels in self.raster.parts(
            region.intersection(Region.whole(self.slide_size)), COUNTED_TILE
        ):
            if isinstance(labels, int):
                counts[labels] += part.size.area
            else:
                counts += np.bincount(labels.ravel(), minlength=UNLABELLED + 1)
        return np.append(counts[: self.classes.count], counts[UNLABELLED])

    @property
    def _labelled(self) -> Region:
        whole = Region.whole(self.slide_size)
        return whole if self.region is None else whole.intersection(self.region)

    def _parsed(self) -> OutlineRaster:
        found = read_outlines(self.path, bounds=self.corner, slide_size=self.slide_size, image=self.image)
        outlines, meanings = with_meanings(found, self.classes)
        try:
            raster = OutlineRaster.of(
                outlines, meanings, slide_size=self.slide_size, order=self.order, ground=self._ground
            )
            return replace(raster, remarks=found.remarks)
        except AnnotationError as error:
            raise AnnotationError(f"annotation {self.path}: {error}") from error


def open_outline_labels(
    path: Path | str,
    *,
    slide_size: Size,
    classes: ClassTable,
    region: Region | None = None,
    corner: Point = Point(0, 0),
    image: str | None = None,
    order: OutlineOrder | None = None,
    outside: str | int | None = None,
) -> OutlineLabels:
    """Open a file of outlines as the labels of a slide.

    Args:
        path: In any format that ``read_outlines`` knows.
        slide_size: Size of the slide's level 0, px.
        classes: What its names mean: names of classes and ``source_names``, ``unlabelled_names``, ``regions`` and
            ``ignored``.
        region: The part of the slide whose labels count, level-0 px: all else is unlabelled. None is all of it.
        corner: Where viewers begin to show the slide (``Slide.bounds``), level-0 px.
        image: File name of the slide, for files of several slides.
        order: Which outline has a pixel that several have: "drawing", the one that was drawn last; "classes", that of
            the last class. None is ``outline_order`` of the class table.
        outside: What pixels outside every outline are; see ``ground_of``.

    Returns:
        The labels.

    Raises:
        AnnotationError: The file cannot be read, names classes that the table does not know, or ``outside`` is none.
    """
    return OutlineLabels(
        Path(path),
        slide_size=slide_size,
        classes=classes,
        region=region,
        corner=corner,
        image=image,
        order=order,
        outside=outside,
    )


def _reopened(
    path: Path,
    slide_size: Size,
    classes: ClassTable,
    region: Region | None,
    corner: Point,
    image: str | None,
    order: OutlineOrder,
    outside: str | int | None,
) -> OutlineLabels:
    """Open a file from the arguments that it pickles as."""
    return OutlineLabels(
        path,
        slide_size=slide_size,
        classes=classes,
        region=region,
        corner=corner,
        image=image,
        order=order,
        outside=outside,
    )
