"""Pixels and area of each class, counted while the mask streams by."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cells import safe_row
from wsi_deform.deform.histogram import add_label_counts
from wsi_deform.deform.reverse import MaskTile
from wsi_deform.distribute.ledger import State
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.provenance import write_aside

COLUMNS = ("slide_id", "class_index", "class_name", "pixels", "area_mm2", "share_of_slide", "model")
UM2_PER_MM2 = 1e6


class LabelCounts:
    """Counts the level-0 pixels of each label in a stream of mask tiles.

    Attributes:
        pixels: (256,) int64, complete when the stream has ended.
    """

    def __init__(self, size: Size, tile_px: int) -> None:
        """Count nothing yet.

        Args:
            size: Size of the mask's level 0, px.
            tile_px: Side of its tiles.
        """
        self.pixels = np.zeros(256, np.int64)
        self._whole = Region.whole(size)
        self._tile_px = tile_px

    def counted(self, tiles: Iterable[MaskTile]) -> Iterator[MaskTile]:
        """Pass tiles on and count those of level 0; a block of one label is never expanded."""
        side = self._tile_px
        for tile in tiles:
            if tile.level == 0 and tile.label is not None:
                block = Region(tile.column * side, tile.row * side, tile.columns * side, tile.rows * side)
                inside = block.intersection(self._whole)
                self.pixels[tile.label] += inside.width * inside.height
            elif tile.level == 0 and tile.pixels is not None:
                add_label_counts(tile.pixels.astype(np.uint8, copy=False), self.pixels)
            yield tile


def write_measurements(folder: MaskFolder, states: Iterable[State], classes: ClassTable) -> None:
    """Write ``measurements.csv``: one row per finished slide and class.

    Args:
        folder: The mask folder.
        states: The states of its slides; those that are not done are left out.
        classes: The class table of the masks.
    """
    with write_aside(folder.measurements) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for state in states:
            if state.status != "done":
                continue
            slide_px = state.width_px * state.height_px
            for index, (name, pixels) in enumerate(zip(classes.names, state.class_pixels, strict=True)):
                area = "" if state.mpp is None else f"{pixels * state.mpp**2 / UM2_PER_MM2:.9g}"
                share = f"{pixels / slide_px:.9g}"
                cells = [state.slide_id, index, name, pixels, area, share, state.model[:12]]
                writer.writerow(safe_row(cells))
