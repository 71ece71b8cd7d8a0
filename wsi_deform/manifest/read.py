"""Reading a manifest: a CSV, of which all problems are told at once.

One row per slide. ``slide`` is required (also written wsi, image or path); ``slide_id``, ``patient``,
``split`` (train, val, test), ``mask`` or ``annotation``, ``mask_channel``, ``tissue_mask``, ``mpp``,
``region`` and ``data_licence`` may follow, and every other column is kept as it is. Relative paths start at the
folder of the CSV. Slides are not opened here: ``annotation/check.py`` does that.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Mpp, Point, Region
from wsi_deform.manifest.problems import Problem, problem_text
from wsi_deform.manifest.rows import (
    COLUMNS,
    MAX_MPP,
    MIN_MPP,
    SPLITS,
    Manifest,
    ManifestRow,
    slide_id_from_path,
    unit_of_mpp,
)
from wsi_deform.manifest.table import canonical, read_cells
from wsi_deform.paths import SPECIAL_FILES, id_key, id_problem, split_image, trouble_at
from wsi_deform.redact import redacted

PATH_COLUMNS = ("slide", "mask", "annotation", "tissue_mask")
SPLIT_SYNONYMS = {"training": "train", "dev": "val", "valid": "val", "validation": "val", "testing": "test"}
CHANNELS = {"red": 0, "green": 1, "blue": 2}

# A drive, C:, is not a scheme.
_URL = re.compile(r"(?:[A-Za-z][\w+.-]+::)*[A-Za-z][\w+.-]+://")

logger = logging.getLogger(__name__)


def read_manifest(path: Path | str, *, check_files: bool = True) -> Manifest:
    """Read a manifest and check everything that can be checked without opening a slide.

    Args:
        path: A CSV (commas, semicolons or tabs; UTF-8 with or without a byte-order mark) with a header line.
        check_files: Whether slides, masks and annotations must exist.

    Returns:
        The manifest; it has at least one row, unique slide ids, and no patient in two splits.

    Raises:
        ManifestError: Something is wrong; the message lists all problems, each with line, column, value and
            remedy.
    """
    path = Path(path)
    names, lines = read_cells(path, "manifest")
    columns = _columns(path, names)
    problems: list[Problem] = []
    rows: list[ManifestRow] = []
    partial = _partly_filled(columns, lines)
    for line, cells in lines:
        reader = _RowReader(path, line, problems, check_files)
        if len(cells) > len(names):
            reader.refuse(
                "",
                f"{len(cells)} cells",
                f"{len(names)}, as in the header",
                'Quote cells that hold a "," or ";"',
            )
        padded = cells + [""] * (len(names) - len(cells))
        found = {column: padded[place] for column, place in columns.items()}
        extra = {names[i]: padded[i] for i in range(len(names)) if i not in columns.values()}
        before = len(problems)
        values = reader.row(found, partial)
        if len(problems) == before:
            rows.append(ManifestRow(**values, line=line, extra=extra))
    problems += _between_rows(path, rows)
    if problems:
        raise ManifestError(problem_text(f"manifest {path}", problems))
    known = set(columns.values())
    extra_columns = tuple(name for i, name in enumerate(names) if i not in known)
    return Manifest(rows=tuple(rows), folder=path.parent, extra_columns=extra_columns)


@dataclass(frozen=True, slots=True)
class _RowReader:
    """Turns the cells of one line into values and notes every cell that cannot be one."""

    path: Path
    line: int
    problems: list[Problem]
    check_files: bool

    def refuse(self, column: str, found: str, needed: str, remedy: str) -> None:
        """Note a problem of this line."""
        place = f"line {self.line}, column {column}" if column else f"line {self.line}"
        self.problems.append(
            Problem(where=f"{self.path.name} {place}", found=found, needed=needed, remedy=remedy)
        )

    def row(self, cells: Mapping[str, str], partial: set[str]) -> dict[str, Any]:
        """Values of a ``ManifestRow``; only complete when no problem was noted."""
        values: dict[str, Any] = {column: self.file(column, cells.get(column, "")) for column in PATH_COLUMNS}
        if not cells["slide"]:
            self.refuse("slide", "an empty cell", "the path of a slide", "Fill it in or remove the line")
        if "patient" in partial and not cells["patient"]:
            self.refuse("patient", "an empty cell", "a value, as other lines have one", "Fill it in")
        if "split" in partial and not cells["split"] and (values["mask"] or values["annotation"]):
            # Slides without labels may stay out of all splits; labels that nobody uses are an oversight.
            needed = "train, val or test, as other lines have one"
            self.refuse(
                "split", "an empty cell beside labels", needed, "Fill it in or empty the cell of the labels"
            )
        values["slide_id"] = self.slide_id(cells.get("slide_id", ""), cells["slide"])
        values["patient"] = cells.get("patient") or None
        values["data_licence"] = cells.get("data_licence") or None
        values["split"] = self.split(cells.get("split", ""))
        values["mpp"] = self.mpp(cells.get("mpp", ""))
        values["region"] = self.region(cells.get("region", ""))
        values["mask_channel"] = self.channel(cells.get("mask_channel", ""))
        if values["mask"] and values["annotation"]:
            found = f"both mask {cells['mask']!r} and annotation {cells['annotation']!r}"
            self.refuse("mask", found, "one source of labels per slide", "Empty one of the two cells")
        if values["mask_channel"] is not None and not values["mask"]:
            self.refuse(
                "mask_channel",
                repr(cells["mask_channel"]),
                "a mask beside it",
                "Fill in mask or empty this cell",
            )
        return values

    def file(self, column: str, cell: str) -> Path | None:
        """A path from the manifest's folder, or None for an empty cell."""
        if not cell:
            return None
        if _URL.match(cell):
            remedy = "Download it, or give the URL of a slide to `wsi-deform segment --slides`"
            self.refuse(column, f"the URL {redacted(cell)}", "the path of a file", remedy)
            return None
        found = self.path.parent / Path(cell).expanduser()
        file = split_image(found)[0] if column == "slide" else found
        trouble = trouble_at(file) if self.check_files else ""
        if trouble in SPECIAL_FILES:
            self.refuse(column, f"{cell!r} {trouble}", "a file or folder", "Correct the path")
        elif trouble:
            near = difflib.get_close_matches(file.name, _names_in(file.parent), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            remedy = f"Correct the path (relative paths start at {self.path.parent.resolve()})"
            self.refuse(column, f"{cell!r} {trouble}{hint}", "an existing file", remedy)
        return found

    def slide_id(self, cell: str, slide: str) -> str:
        """The id of a slide: as written, else from its file name."""
        found = cell or slide_id_from_path(redacted(slide))
        if needed := id_problem(found):
            remedy = "Rename it" if cell else "Give it a short name of its own in a column slide_id"
            self.refuse("slide_id", repr(found), needed, remedy)
        return found

    def split(self, cell: str) -> str | None:
        """A split, or None for an empty cell."""
        lower = cell.lower()
        if lower in ("", *SPLITS):
            return lower or None
        near = SPLIT_SYNONYMS.get(lower) or next(iter(difflib.get_close_matches(lower, SPLITS, 1, 0.5)), None)
        self.refuse(
            "split", repr(cell), "train, val or test", f"Write {near}" if near else "Write one of them"
        )
        return None

    def mpp(self, cell: str) -> Mpp | None:
        """Level-0 um per pixel, of both axes or of x and y, or None for an empty cell."""
        if not cell:
            return None
        numbers = [_number(part) for part in cell.split()]
        if len(numbers) in (1, 2) and all(MIN_MPP <= number <= MAX_MPP for number in numbers):
            return numbers[0] if len(numbers) == 1 else Point(numbers[0], numbers[1])
        comma = " with a point, not a comma" if "," in cell else ""
        self.refuse(
            "mpp",
            repr(cell),
            f"a number from {MIN_MPP} to {MAX_MPP:g} um per level-0 pixel, or two, of x and y{unit_of_mpp(numbers[0])}",
            f"Write it{comma} (0.25 is usual for 40x, 0.5 for 20x), or empty the cell to use what the slide "
            "says",
        )
        return None

    def region(self, cell: str) -> Region | None:
        """A part of the slide, or None for an empty cell."""
        if not cell:
            return None
        numbers = cell.replace(",", " ").split()
        if len(numbers) == 4 and all(number.isdecimal() for number in numbers):
            found = Region(*map(int, numbers))
            if not found.is_empty:
                return found
        self.refuse(
            "region",
            repr(cell),
            "x y width height of a part of the slide, whole level-0 px, such as 512 0 1024 1024",
            "Write it so, or empty the cell for the whole slide",
        )
        return None

    def channel(self, cell: str) -> int | None:
        """Channel index of a mask, or None for an empty cell."""
        if not cell:
            return None
        if cell.lower() in CHANNELS:
            return CHANNELS[cell.lower()]
        if cell.isdecimal() and int(cell) < 64:
            return int(cell)
        self.refuse(
            "mask_channel",
            repr(cell),
            "red, green, blue, or an index from 0",
            "Name the channel with the labels",
        )
        return None


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except (OSError, ValueError):
        return []


def _columns(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Known column -> its place in the table."""
    columns: dict[str, int] = {}
    for place, name in enumerate(names):
        key = canonical(name)
        if key not in COLUMNS:
            if near := difflib.get_close_matches(key, COLUMNS, 1, 0.75):
                logger.warning(
                    "manifest %s: column %r is kept but not used; did you mean %r?", path, name, near[0]
                )
        elif key in columns:
            raise ManifestError(
                f"manifest {path}: columns {names[columns[key]]!r} and {name!r} both mean {key}. Needed one. "
                "Remove or rename one."
            )
        else:
            columns[key] = place
    if "slide" not in columns:
        raise ManifestError(
            f"manifest {path}: no column slide; found {', '.join(map(repr, names))}. Needed a column slide "
            "(or wsi, image, path) "
            "with the path of each slide. Rename the column that holds the paths to slide."
        )
    return columns


def _partly_filled(columns: Mapping[str, int], lines: Sequence[tuple[int, Sequence[str]]]) -> set[str]:
    """Columns with a value in at least one line."""
    return {
        column
        for column, place in columns.items()
        if any(place < len(cells) and cells[place].strip() for _, cells in lines)
    }


def _between_rows(path: Path, rows: Sequence[ManifestRow]) -> list[Problem]:
    """Problems that only show between rows: repeated ids and files, patients in two splits."""
    problems = []
    for column, remedy in (
        ("slide_id", "Give each slide an id of its own in column slide_id"),
        ("slide", "Remove the line that repeats it"),
    ):
        first: dict[str, ManifestRow] = {}
        for row in rows:
            # Ids become file names, and some disks do not tell "A" from "a".
            key = id_key(row.slide_id) if column == "slide_id" else str(row.slide)
            earlier = first.setdefault(key, row)
            if earlier is not row:
                found = f"{str(getattr(row, column))!r} again, as in line {earlier.line}"
                where = f"{path.name} line {row.line}, column {column}"
                problems.append(Problem(where=where, found=found, needed="every slide once", remedy=remedy))
    lines: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row.patient and row.split:
            lines.setdefault(row.patient, {}).setdefault(row.split, []).append(row.line)
    for patient, splits in lines.items():
        if len(splits) > 1:
            places = " and ".join(
                f"{split} (line{'s' if len(at) > 1 else ''} {', '.join(map(str, at))})"
                for split, at in splits.items()
            )
            where = f"{path.name} line {max(at[0] for at in splits.values())}, column patient"
            remedy = (
                "Give all slides of this patient the same split, or measures on unseen slides mean nothing"
            )
            problems.append(
                Problem(
                    where=where,
                    found=f"patient {patient!r} is in {places}",
                    needed="one split per patient",
                    remedy=remedy,
                )
            )
    return problems


def _number(text: str) -> float:
    """A number, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan
