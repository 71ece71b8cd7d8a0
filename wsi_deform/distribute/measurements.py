"""Pixels and area of each class, as a table: ``measurements.csv`` of a mask folder, written and read."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cells import plain_text, safe_row
from wsi_deform.distribute.ledger import State
from wsi_deform.errors import MaskError
from wsi_deform.files import write_aside
from wsi_deform.mask.folder import MaskFolder

log = logging.getLogger(__name__)

COLUMNS = (
    "slide", "class", "pixels", "mm2", "tissue_mm2", "share_of_tissue", "share_of_slide", "remarks",
)  # fmt: skip
# How earlier versions called them; what they had beside these was in no table that people read.
EARLIER_NAMES = {
    "slide_id": "slide",
    "class_name": "class",
    "pixels": "pixels",
    "area_mm2": "mm2",
    "tissue_mm2": "tissue_mm2",
    "share_of_tissue": "share_of_tissue",
    "share_of_slide": "share_of_slide",
}
EARLIER_COLUMNS = {"slide_id", "class_index", "class_name", "pixels", "area_mm2", "share_of_slide", "model"}
KEPT = "from an earlier measurements.csv: the folder has no state of this slide"
UNKNOWN_TISSUE = "made by an earlier version, which did not look for tissue"
UM2_PER_MM2 = 1e6

Row = dict[str, str]


def write_measurements(
    folder: MaskFolder, states: Iterable[State], classes: ClassTable, *, known: Iterable[str] = ()
) -> None:
    """Write ``measurements.csv``: one row per finished slide and class.

    Args:
        folder: The mask folder.
        states: The finished results of its slides, see ``Ledger.results``.
        classes: The class table of the masks.
        known: Ids of all slides with a state, finished or not.

    Raises:
        MaskError: What lies there is another table.

    Convention:
        ``tissue_mm2`` is the slide's tissue that has a class, the same in all its rows; ``share_of_tissue`` is the
        class's pixels in the tissue / the tissue's pixels, so that the shares of all classes sum to 1, and
        ``share_of_slide`` its pixels / those of the slide. Empty is what is not known: areas without mpp, tissue where
        there is none or in a state that an older version wrote. Rows of a table of an earlier version stay, where
        nothing else is known of their slide, and say so.
    """
    states = tuple(states)
    own = {*known, *(state.slide_id for state in states)}
    kept = [row for row in read_measurements(folder.measurements) if row["slide"] not in own]
    with write_aside(folder.measurements) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for state in states:
            if not _is_of(state, classes):
                log.warning(
                    "%s: its state is damaged, %s does not have it. Segment it again.",
                    state.slide_id,
                    folder.measurements.name,
                )
                continue
            for row in _rows_of(state, classes):
                writer.writerow(safe_row(row))
        for earlier in kept:
            if KEPT in earlier["remarks"]:
                writer.writerow(safe_row(earlier[name] for name in COLUMNS))


def read_measurements(path: Path) -> list[Row]:
    """Read a table of this or an earlier version.

    Args:
        path: A ``measurements.csv``, or nothing.

    Returns:
        Column of ``COLUMNS`` -> text, of each row; those of an earlier version say so in ``remarks``. None where there
        is no file.

    Raises:
        MaskError: It cannot be read, or is no such table.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, f"cannot be read ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header, *lines = [cells for cells in reader if cells] or [[]]
    except csv.Error as error:
        raise _refused(path, f"is no CSV ({error})") from error
    if tuple(header) == COLUMNS:
        names: Mapping[str, str] = {name: name for name in COLUMNS}
    elif set(header) >= EARLIER_COLUMNS:
        names = EARLIER_NAMES
    else:
        raise _refused(path, f"has the columns {', '.join(header) or 'of an empty file'}")
    rows = []
    for cells in lines:
        if len(cells) != len(header):
            raise _refused(path, f"has {len(cells)} cells under {len(header)} columns in a line")
        row = dict.fromkeys(COLUMNS, "")
        row |= {
            names[name]: plain_text(cell) for name, cell in zip(header, cells, strict=True) if name in names
        }
        if names is EARLIER_NAMES:
            row["remarks"] = KEPT
        rows.append(row)
    return rows


def _refused(path: Path, found: str) -> MaskError:
    return MaskError(
        f"{path}: {found}. Needed a measurements.csv of wsi-deform, which is written anew with the slides of its "
        "folder. Move the file away, or choose another --out."
    )


def _rows_of(state: State, classes: ClassTable) -> Iterator[list[object]]:
    slide_px, tissue_px = state.width_px * state.height_px, state.tissue_pixels
    in_tissue = state.class_pixels_in_tissue or (None,) * classes.count
    remark = state.remark if tissue_px is not None else f"{state.remark}; {UNKNOWN_TISSUE}".removeprefix("; ")
    for name, pixels, inside in zip(classes.names, state.class_pixels, in_tissue, strict=True):
        yield [
            state.slide_id,
            name,
            pixels,
            _mm2(pixels, state.mpp),
            _mm2(tissue_px, state.mpp),
            "" if inside is None or not tissue_px else f"{inside / tissue_px:.9g}",
            f"{pixels / slide_px:.9g}",
            " ".join(remark.split()),
        ]


def _is_of(state: State, classes: ClassTable) -> bool:
    """Whether a state has a slide's size, and pixels of each class."""
    lengths = {len(state.class_pixels), len(state.class_pixels_in_tissue) or classes.count}
    return state.width_px * state.height_px > 0 and lengths == {classes.count}


def _mm2(pixels: int | None, mpp: float | None) -> str:
    """An area, empty where it is not known."""
    return "" if pixels is None or mpp is None else f"{pixels * mpp**2 / UM2_PER_MM2:.9g}"
