"""Label maps from raster masks: the classes of any region, of any points, of the cells of any coarse grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.class_data import COLOUR_VALUE, LARGEST_VALUE, value_text
from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.labels import (
    fractions_of_cells,
    indices_of,
    pixels_of,
    unlabelled_beside,
    unlabelled_beside_grid,
)
from wsi_deform.annotation.mask_file import MaskFile
from wsi_deform.annotation.mask_frame import MaskFrame
from wsi_deform.annotation.value_text import nearest_text
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Region, Size, tile_grid, tile_region
from wsi_deform.slide.cache import TileCache

WHOLE_MASK_BYTES = 100 << 20  # masks that decode to less are decoded once and kept
CACHE_BYTES = 512 << 20
BAND_ROWS = 256  # of a tile of colours that are looked up at a time

# Masks and tiles of masks, already mapped to class indices, of all masks of this process.
LABEL_CACHE = TileCache(CACHE_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LABEL_CACHE.forget)


class LabelMask:
    """The labels of one slide, read from a raster file where they are asked for.

    It is safe in threads and pickles as its path: the file is opened again where it is unpickled.

    Attributes:
        path: The mask file.
        slide_size: Size of the slide's level 0, px.
        classes: What its raw values mean.
        channel: Channel that holds the labels, or None.
        region: What is labelled, level-0 px; all else is unlabelled, whatever the file says. None is all of it.
        frame: How it lies over the slide, where it is smaller.

    Convention:
        Every method speaks of the slide: level-0 px, edge frame. Pixel index = floor(x), clamped to the
        slide, so a point on the right edge belongs to the last pixel. Labels are class indices, 255 is
        unlabelled, never blended.
    """

    def __init__(
        self,
        path: Path,
        *,
        slide_size: Size,
        classes: ClassTable,
        channel: int | None = None,
        region: Region | None = None,
    ) -> None:
        """Open a mask; see ``open_label_mask``."""
        self.path, self.slide_size, self.classes, self.channel = Path(path), slide_size, classes, channel
        self.region = region
        self._file = MaskFile(self.path, channel, colours=classes.has_label_colours)
        self.frame = MaskFrame.of(self.path, self._file.size, slide_size)
        status = self.path.stat()
        # A mask that was written again is another mask; so is one that is read by another class table.
        self._key = (str(self.path.resolve()), status.st_mtime_ns, status.st_size, channel, classes)
        self._lookup = classes.lookup()
        colours = sorted((v, index) for v, index in classes.mapping.items() if v >= COLOUR_VALUE)
        self._colours = np.array([value for value, _ in colours], np.uint32)
        self._colour_labels = np.array([index for _, index in colours], np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments of ``open_label_mask``."""
        return _reopened, (self.path, self.slide_size, self.classes, self.channel, self.region)

    def read_region(self, region: Region) -> NDArray[np.uint8]:
        """Read the label map of a region.

        Args:
            region: Level-0 px of the slide.

        Returns:
            (region.height, region.width) uint8 class indices; 255 where unlabelled and outside the slide.

        Raises:
            AnnotationError: The mask holds a value that the class table does not know, or cannot be decoded.
        """
        labels = np.full((region.height, region.width), UNLABELLED, np.uint8)
        inside = region.intersection(Region.whole(self.slide_size))
        if self.region is not None:
            inside = inside.intersection(self.region)
        if inside.is_empty:
            return labels
        columns = self.frame.columns(np.arange(inside.x, inside.right))
        rows = self.frame.rows(np.arange(inside.y, inside.bottom))
        left, top = int(columns[0]), int(rows[0])
        needed = Region(left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)
        part = self._read_mask(needed)
        if not self.frame.is_same:
            part = part[np.ix_(rows - top, columns - left)]
        place = np.s_[
            inside.y - region.y : inside.bottom - region.y, inside.x - region.x : inside.right - region.x
        ]
        labels[place] = part
        return labels

    def at_points(self, points_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at points: that of the level-0 pixel each point lies in.

        Args:
            points_px: (N, 2) float64, (x, y) in the slide's edge frame, level-0 px; clamped to the slide.

        Returns:
            (N,) uint8 class indices, 255 is unlabelled. Only the tiles with points are read, each once.

        Raises:
            ShapeError: The points are not (N, 2), or one is not finite.
            AnnotationError: The mask holds an unknown value, or cannot be decoded.
        """
        pixels = pixels_of(points_px, slide_size=self.slide_size, path=self.path)
        return unlabelled_beside(self._at_pixels(pixels), pixels, self.region)

    def at_grid(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Read the labels at all points of a grid, as ``Labels.at_grid`` says; each tile with points is read once."""
        columns = indices_of(x_px, self.slide_size.width, path=self.path)
        rows = indices_of(y_px, self.slide_size.height, path=self.path)
        labels = self._of_lines(self.frame.columns(columns), self.frame.rows(rows))
        return unlabelled_beside_grid(labels, columns, rows, self.region)

    def _of_lines(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(H, W) labels where (W,) columns and (H,) rows of the mask cross."""
        if self._is_small:
            return self._whole()[rows[:, None], columns]
        tile = self._file.tile
        labels = np.empty((len(rows), len(columns)), np.uint8)
        across, down = columns // tile.width, rows // tile.height
        for row in np.unique(down):
            own_rows = np.flatnonzero(down == row)
            for column in np.unique(across):
                own_columns = np.flatnonzero(across == column)
                held = self._tile(int(column), int(row))
                labels[own_rows[:, None], own_columns] = held[
                    rows[own_rows, None] - row * tile.height, columns[own_columns] - column * tile.width
                ]
        return labels

    def _at_pixels(self, pixels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Labels of slide pixels, (N, 2) (x, y), whatever the region."""
        columns, rows = self.frame.columns(pixels[:, 0]), self.frame.rows(pixels[:, 1])
        if self._is_small:
            found: NDArray[np.uint8] = self._whole()[rows, columns]
            return found
        tile = self._file.tile
        across = tile_grid(self._file.size, tile).width
        number = rows // tile.height * across + columns // tile.width
        order = np.argsort(number, kind="stable")
        labels = np.empty(len(number), np.uint8)
        for group in np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []:
            tile_row, tile_column = divmod(int(number[group[0]]), across)
            held = self._tile(tile_column, tile_row)
            labels[group] = held[
                rows[group] - tile_row * tile.height, columns[group] - tile_column * tile.width
            ]
        return labels

    def cell_fractions(self, region: Region, size: Size, subsamples: int = 4) -> NDArray[np.float32]:
        """Estimate how much of each cell of a coarse grid each class covers.

        Args:
            region: What the grid covers, level-0 px of the slide.
            size: Columns and rows of the grid.
            subsamples: Points per cell and axis, evenly spread; the label at each is that of its pixel.

        Returns:
            (classes, size.height, size.width) float32, 0 to 1. The sum over classes is the labelled share of
            the cell.

        Raises:
            ShapeError: There are no subsamples, or the region is empty.
            AnnotationError: The mask holds an unknown value, or cannot be decoded.
        """
        return fractions_of_cells(
            self.at_grid, region, size, classes=self.classes.count, subsamples=subsamples
        )

    def class_counts(self) -> NDArray[np.int64]:
        """Count the mask's pixels per class, a tile at a time, whatever the region.

        Returns:
            (classes + 1,) int64 pixels of the mask; the last is unlabelled.

        Raises:
            AnnotationError: The mask holds an unknown value, or cannot be decoded.
        """
        counts = np.zeros(UNLABELLED + 1, np.int64)
        grid = tile_grid(self._file.size, self._file.tile)
        for row in range(grid.height):
            for column in range(grid.width):
                labels = self._mapped(self._file.read_tile(column, row), column, row)
                counts += np.bincount(labels.ravel(), minlength=UNLABELLED + 1)
        return np.append(counts[: self.classes.count], counts[UNLABELLED])

    @property
    def _is_small(self) -> bool:
        return self._file.decoded_bytes < WHOLE_MASK_BYTES

    def _read_mask(self, region: Region) -> NDArray[np.uint8]:
        """Labels of a region in mask px that lies inside the mask."""
        if self._is_small:
            return self._whole()[region.y : region.bottom, region.x : region.right]
        labels = np.empty(region.size.shape, np.uint8)
        for column, row in region.tiles(self._file.tile):
            place = tile_region(column, row, self._file.tile, self._file.size)
            part = place.intersection(region)
            held = self._tile(column, row)[
                part.y - place.y : part.bottom - place.y, part.x - place.x : part.right - place.x
            ]
            labels[part.y - region.y : part.bottom - region.y, part.x - region.x : part.right - region.x] = (
                held
            )
        return labels

    def _whole(self) -> NDArray[np.uint8]:
        """All labels of a small mask, decoded once."""
        return LABEL_CACHE.get(self._key, self._decode_whole)

    def _decode_whole(self) -> NDArray[np.uint8]:
        labels = np.empty(self._file.size.shape, np.uint8)
        for column, row in Region.whole(self._file.size).tiles(self._file.tile):
            place = tile_region(column, row, self._file.tile, self._file.size)
            labels[place.y : place.bottom, place.x : place.right] = self._mapped(
                self._file.read_tile(column, row), column, row
            )
        return labels

    def _tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """Labels of one tile of a large mask."""
        return LABEL_CACHE.get(
            (*self._key, column, row), lambda: self._mapped(self._file.read_tile(column, row), column, row)
        )

    def _mapped(self, raw: NDArray[Any], column: int, row: int) -> NDArray[np.uint8]:
        """Class indices of the raw values of a tile."""
        if self._file.by_colour:
            return self._of_colours(raw, Point(column * self._file.tile.width, row * self._file.tile.height))
        if raw.dtype == np.uint8:
            labels = self._lookup[:256].take(raw)
        else:
            labels = np.where(
                (raw >= 0) & (raw <= LARGEST_VALUE), self._lookup.take(raw, mode="clip"), np.int16(-1)
            )
        if labels.size and labels.min() < 0:
            value = int(raw[labels < 0].min())
            known = ", ".join(map(value_text, sorted(self.classes.mapping)))
            raise AnnotationError(
                f"mask {self.path}: value {value} is not in the class table. Known values: {known}. Add the "
                "value to a class or to "
                "unlabelled in the class table, or set mask_channel if the labels are in another channel."
            )
        return labels.astype(np.uint8)

    def _of_colours(self, raw: NDArray[np.uint32], corner: Point) -> NDArray[np.uint8]:
        """Class indices of raw values that stand for colours, of a tile whose corner lies there on the mask."""
        labels = np.empty(raw.shape, np.uint8)
        for top in range(0, len(raw), BAND_ROWS):
            band = raw[top : top + BAND_ROWS]
            place = np.searchsorted(self._colours, band).clip(max=len(self._colours) - 1)
            if not (known := self._colours[place] == band).all():
                y, x = np.argwhere(~known)[0]
                value = int(band[y, x])
                raise AnnotationError(
                    f"mask {self.path}: colour {value_text(value)} at ({corner.x + x:.0f}, {corner.y + top + y:.0f}), "
                    f"in {np.count_nonzero(raw == value):,} of its pixels, is not in the class table (nearest "
                    f"{nearest_text(value, self.classes)}). Known colours: "
                    f"{', '.join(value_text(int(each)) for each in self._colours)}. Add it to label_rgb of a class or "
                    "to unlabelled_rgb, or export the mask without blending colours."
                )
            labels[top : top + BAND_ROWS] = self._colour_labels[place]
        return labels


def open_label_mask(
    path: Path | str,
    *,
    slide_size: Size,
    classes: ClassTable,
    channel: int | None = None,
    region: Region | None = None,
) -> LabelMask:
    """Open the label mask of a slide.

    Args:
        path: Single-channel TIFF (tiled, stripped, pyramidal or not) or PNG of whole numbers; palettes count
            as indices. Or one of colours, where the class table says what they mean (``label_rgb``).
        slide_size: Size of the slide's level 0, px.
        classes: What the raw values mean.
        channel: Channel that holds the labels, from 0; needed where there are several (PANDA-like masks: 0) that are
            no colours.
        region: The part of the slide whose labels count, level-0 px: all else is unlabelled. None is all of it.

    Returns:
        The mask; pixels are read when asked for.

    Raises:
        AnnotationError: The file cannot be read, several channels and none named, or its size does not fit, see
            ``MaskFrame.of``.
    """
    return LabelMask(Path(path), slide_size=slide_size, classes=classes, channel=channel, region=region)


def _reopened(
    path: Path, slide_size: Size, classes: ClassTable, channel: int | None, region: Region | None = None
) -> LabelMask:
    """Open a mask from the arguments that it pickles as."""
    return LabelMask(path, slide_size=slide_size, classes=classes, channel=channel, region=region)
