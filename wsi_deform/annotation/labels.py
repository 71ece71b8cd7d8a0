"""What every source of labels gives, whatever its file: the class of any region, of any points, of coarse cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.cell_shares import cell_shares


class Labels(Protocol):
    """The labels of one slide, read where they are asked for: a raster mask, or outlines.

    It is safe in threads and pickles as its path.

    Attributes:
        path: The file.
        slide_size: Size of the slide's level 0, px.
        classes: What the file's values or names mean.
        region: What is labelled, level-0 px; all else is unlabelled, whatever the file says. None is all of it.

    Convention:
        Every method speaks of the slide: level-0 px, edge frame. Pixel index = floor(x), clamped to the slide, so a
        point on the right edge belongs to the last pixel. Labels are class indices, 255 is unlabelled, never blended.
    """

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def slide_size(self) -> Size:
        """Size of the slide's level 0, px."""

    @property
    def classes(self) -> ClassTable:
        """What the file's values or names mean."""

    @property
    def region(self) -> Region | None:
        """What is labelled, level-0 px; None is all of it."""

    def read_region(self, region: Region) -> NDArray[np.uint8]:
        """Read the label map of a region.

        Args:
            region: Level-0 px of the slide.

        Returns:
            (region.height, region.width) uint8 class indices; 255 where unlabelled and outside the slide.

        Raises:
            AnnotationError: The file says something that the class table does not know, or cannot be read.
        """

    def at_points(self, points_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at points: that of the level-0 pixel each point lies in.

        Args:
            points_px: (N, 2) float64, (x, y) in the slide's edge frame, level-0 px; clamped to the slide.

        Returns:
            (N,) uint8 class indices, 255 is unlabelled.

        Raises:
            ShapeError: The points are not (N, 2), or one is not finite.
            AnnotationError: As ``read_region``.
        """

    def at_grid(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at all points of a grid, much faster than one by one.

        Args:
            x_px: (W,) float64, x of each column of points in the slide's edge frame, level-0 px; clamped to the slide.
            y_px: (H,) float64, y of each row, likewise.

        Returns:
            (H, W) uint8 class indices, 255 is unlabelled.

        Raises:
            ShapeError: One of them is not (N,), or not finite.
            AnnotationError: As ``read_region``.
        """

    def cell_fractions(self, region: Region, size: Size, subsamples: int = 4) -> NDArray[np.float32]:
        """Estimate how much of each cell of a coarse grid each class covers; see ``fractions_of_cells``."""

    def class_counts(self) -> NDArray[np.int64]:
        """Count the file's pixels per class, whatever the region: (classes + 1,) int64; the last is unlabelled."""


def pixels_of(points_px: NDArray[np.float64], *, slide_size: Size, path: Path) -> NDArray[np.int64]:
    """The level-0 pixels that points lie in.

    Args:
        points_px: (N, 2) float64, (x, y) in the slide's edge frame, level-0 px.
        slide_size: Size of the slide's level 0, px.
        path: The file of labels, for errors.

    Returns:
        (N, 2) int64 (x, y), inside the slide.

    Raises:
        ShapeError: The points are not (N, 2), or one is not finite.
    """
    points_px = np.asarray(points_px, np.float64)
    if points_px.ndim != 2 or points_px.shape[1] != 2 or not np.isfinite(points_px).all():
        raise ShapeError(
            f"labels {path}: points of shape {points_px.shape}, or not finite. Needed (N, 2) finite "
            "(x, y), level-0 px."
        )
    pixels = np.empty(points_px.shape, np.int64)
    pixels[:, 0] = _within(points_px[:, 0], slide_size.width)
    pixels[:, 1] = _within(points_px[:, 1], slide_size.height)
    return pixels


def indices_of(positions_px: NDArray[np.float64], length: int, *, path: Path) -> NDArray[np.int64]:
    """The columns, or rows, of level-0 pixels that positions along one axis lie in.

    Args:
        positions_px: (N,) float64 in the slide's edge frame, level-0 px.
        length: Of the slide along the axis, px.
        path: The file of labels, for errors.

    Returns:
        (N,) int64, inside the slide.

    Raises:
        ShapeError: The positions are not (N,), or one is not finite.
    """
    positions = np.asarray(positions_px, np.float64)
    if positions.ndim != 1 or not np.isfinite(positions).all():
        raise ShapeError(
            f"labels {path}: positions of shape {positions.shape}, or not finite. Needed (N,) finite, level-0 px."
        )
    return _within(positions, length)


def _within(positions: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    """Pixels along an axis, clamped to its length."""
    return np.clip(np.floor(positions), 0, length - 1).astype(np.int64)


def unlabelled_beside(
    labels: NDArray[np.uint8], pixels: NDArray[np.int64], region: Region | None
) -> NDArray[np.uint8]:
    """Labels of pixels, (N,), unlabelled where the pixel, (N, 2) (x, y), is outside a region."""
    if region is None:
        return labels
    x, y = pixels.T
    outside = (x < region.x) | (x >= region.right) | (y < region.y) | (y >= region.bottom)
    return np.where(outside, np.uint8(UNLABELLED), labels)


def unlabelled_beside_grid(
    labels: NDArray[np.uint8], columns: NDArray[np.int64], rows: NDArray[np.int64], region: Region | None
) -> NDArray[np.uint8]:
    """Labels of a grid of pixels, (H, W), unlabelled, in place, where column or row is outside a region."""
    if region is not None:
        labels[:, (columns < region.x) | (columns >= region.right)] = UNLABELLED
        labels[(rows < region.y) | (rows >= region.bottom)] = UNLABELLED
    return labels


def fractions_of_cells(
    at_grid: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.uint8]],
    region: Region,
    size: Size,
    *,
    classes: int,
    subsamples: int,
) -> NDArray[np.float32]:
    """Estimate how much of each cell of a coarse grid each class covers.

    Args:
        at_grid: Says the labels of a grid of points, see ``Labels.at_grid``.
        region: What the grid covers, level-0 px of the slide.
        size: Columns and rows of the grid.
        classes: Number of classes.
        subsamples: Points per cell and axis, evenly spread; the label at each is that of its pixel.

    Returns:
        (classes, size.height, size.width) float32, 0 to 1. The sum over classes is the labelled share of
        the cell.

    Raises:
        ShapeError: There are no subsamples, or the region is empty.
        AnnotationError: As ``at_grid``.
    """
    if subsamples < 1 or region.is_empty:
        raise ShapeError(
            f"{subsamples} subsamples over {region}: needed at least 1 and a region with pixels."
        )
    x_px = _middles(region.x, region.width, size.width * subsamples)
    y_px = _middles(region.y, region.height, size.height * subsamples)
    # What is unlabelled, or of another table, is in no class.
    return cell_shares(at_grid(x_px, y_px), subsamples, classes)


def _middles(begin: int, length: int, count: int) -> NDArray[np.float64]:
    """Middles of the parts of a length that is cut into as many of one size."""
    return np.asarray(begin + (np.arange(count) + 0.5) * (length / count), np.float64)
