"""Pixels and area of each class, as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cells import safe_row
from wsi_deform.distribute.ledger import State
from wsi_deform.files import write_aside
from wsi_deform.mask.folder import MaskFolder

COLUMNS = (
    "slide_id",
    "class_index",
    "class_name",
    "pixels",
    "area_mm2",
    "share_of_slide",
    "tissue_mm2",
    "share_of_tissue",
    "model",
)
UM2_PER_MM2 = 1e6


def write_measurements(folder: MaskFolder, states: Iterable[State], classes: ClassTable) -> None:
    """Write ``measurements.csv``: one row per finished slide and class.

    Args:
        folder: The mask folder.
        states: The finished results of its slides, see ``Ledger.results``.
        classes: The class table of the masks.

    Convention:
        ``tissue_mm2`` is the slide's tissue, the same in all its rows; ``share_of_tissue`` is the class's pixels in
        the tissue / the tissue's pixels, so that the shares of all classes sum to 1. Both are empty where they are
        not known: without mpp, without tissue, or in a state that an older version wrote.
    """
    with write_aside(folder.measurements) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for state in states:
            slide_px, tissue_px = state.width_px * state.height_px, state.tissue_pixels
            in_tissue = state.class_pixels_in_tissue or (None,) * classes.count
            for index, (name, pixels, inside) in enumerate(
                zip(classes.names, state.class_pixels, in_tissue, strict=True)
            ):
                cells = [
                    state.slide_id,
                    index,
                    name,
                    pixels,
                    _mm2(pixels, state.mpp),
                    f"{pixels / slide_px:.9g}",
                    _mm2(tissue_px, state.mpp),
                    "" if inside is None or not tissue_px else f"{inside / tissue_px:.9g}",
                    state.model[:12],
                ]
                writer.writerow(safe_row(cells))


def _mm2(pixels: int | None, mpp: float | None) -> str:
    """An area, empty where it is not known."""
    return "" if pixels is None or mpp is None else f"{pixels * mpp**2 / UM2_PER_MM2:.9g}"
