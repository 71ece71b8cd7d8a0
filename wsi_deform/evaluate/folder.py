"""The files of an evaluation: one folder per split, so that one does not overwrite another."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_deform.cells import safe_row
from wsi_deform.evaluate.intervals import with_ends
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.rows import Row, class_rows
from wsi_deform.evaluate.summary import summary_text
from wsi_deform.evaluate.tables import evaluation_data, write_evaluation
from wsi_deform.files import name_aside, write_text
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.texts import read_json

WITH_INTERVALS = {
    "trimap": ("accuracy", "miou"),
    "boundary": ("mean", "percentile_95", "capped_share"),
    "objects": (
        "touched",
        "half_covered",
        "covered",
        "predicted_touching",
        "predicted_half_true",
        "predicted_false",
    ),
    "frequency": ("share_of_samples", "share_of_pixels", "ratio"),
}
"""Tables whose measures have intervals; those of counts of objects are of their share of all objects."""
DATA, SLIDES, SUMMARY = "evaluation.json", "slides.csv", "summary.md"


def write_all(
    evaluation: Evaluation, path: Path, *, provenance: Mapping[str, Any], figures: bool = True
) -> tuple[Path, ...]:
    """Write an evaluation with all its tables.

    Args:
        evaluation: What was measured.
        path: Where to: ``<path>.json`` and ``<path>.csv`` are of the newest evaluation, whichever split it is of, and
            the folder ``<path>/<split>`` holds the newest one of each split.
        provenance: Put into the JSON.
        figures: Whether figures are drawn.

    Returns:
        ``<path>.json``, ``<path>.csv`` and the summary in the folder.

    Convention:
        The folder is replaced as a whole. It holds ``summary.md``, ``evaluation.json`` (everything), ``slides.csv``,
        ``classes.csv``, ``cost.csv``, and of what was measured ``trimap.csv``, ``boundary.csv``, ``objects.csv``,
        ``missed_objects.csv``, ``calibration.csv``, ``frequency.csv``, and figures as PNG. What older versions
        left in ``<path>.json`` of another split is moved to the folder of that split first.
    """
    path = path.with_suffix("")
    _keep_older(path, evaluation.split)
    place = path / evaluation.split
    aside = name_aside(place)
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.mkdir()
        _fill(aside, evaluation, provenance, figures)
        _replace(place, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return *write_evaluation(evaluation, path, provenance=provenance), place / SUMMARY


def evaluations_in(out: Path) -> list[Path]:
    """The JSON files of the evaluations beside masks, of each split; of an older version, its only one."""
    folder = MaskFolder(out).evaluation
    found = sorted(folder.glob(f"[!.]*/{DATA}"))
    newest = folder.with_suffix(".json")
    if newest.is_file() and _split_of(newest) not in {each.parent.name for each in found}:
        found.append(newest)
    return found


def _fill(folder: Path, evaluation: Evaluation, provenance: Mapping[str, Any], figures: bool) -> None:
    data = evaluation_data(evaluation)
    _, slides = write_evaluation(evaluation, folder / DATA, provenance=provenance)
    slides.rename(folder / SLIDES)
    pooled, measured = data["pooled"]["predicted"], data["measured"]
    calibration, held = measured["calibration"], data["intervals"] or {}
    tables: dict[str, Sequence[Row]] = {
        "classes": class_rows(pooled, data["intervals"], pooled["confusion"]),
        "cost": [
            {
                "slide_id": slide["slide_id"],
                "miou": slide["predicted"]["miou"],
                "mean_over": "; ".join(slide["predicted"]["miou_classes"]["over"]),
                **slide["cost"],
            }
            for slide in data["slides"]
        ],
        **{
            kind: with_ends(measured[kind], held.get(kind), measures)
            for kind, measures in WITH_INTERVALS.items()
        },
        "missed_objects": data["missed"],
        "calibration": [] if calibration is None else calibration["bins"],
    }
    for name, rows in tables.items():
        if rows:
            _write_rows(folder / f"{name}.csv", rows)
    drawn = _draw(folder, data) if figures else {}
    write_text(folder / SUMMARY, summary_text(data, drawn))


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of the same keys as CSV; None is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(safe_row(rows[0]))
        writer.writerows(safe_row(_cell(value) for value in row.values()) for row in rows)


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else value


def _draw(folder: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """Draw what was measured; kind of figure -> file name."""
    # Matplotlib takes half a second to import.
    from wsi_deform.drawing import measure_figures as draw

    measured = data["measured"]
    colours = dict(zip(data["classes"], data["colours"], strict=True))
    pictures = {
        "objects": draw.objects_figure(measured["objects"], colours) if measured["objects"] else None,
        "trimap": draw.trimap_figure(measured["trimap"]) if measured["trimap"] else None,
        "calibration": draw.calibration_figure(measured["calibration"]) if measured["calibration"] else None,
        "frequency": draw.frequency_figure(measured["frequency"]) if measured["frequency"] else None,
    }
    names = {}
    for kind, picture in pictures.items():
        if picture is not None:
            names[kind] = f"{kind}.png"
            (folder / names[kind]).write_bytes(picture)
    return names


def _keep_older(path: Path, split: str) -> None:
    """Move what an older version wrote of another split to the folder of that split."""
    older = path.with_suffix(".json")
    of = _split_of(older) if older.is_file() else None
    if of in (None, split) or (path / str(of) / DATA).exists():
        return
    place = path / str(of)
    place.mkdir(parents=True, exist_ok=True)
    table = path.with_suffix(".csv")
    if table.is_file():
        shutil.copyfile(table, place / SLIDES)
    shutil.copyfile(older, place / DATA)


def _split_of(path: Path) -> str | None:
    """The split that an evaluation is of; None for any other file."""
    try:
        split = read_json(path).get("split")
    except (OSError, ValueError, AttributeError):
        return None
    return split if split in ("train", "val", "test", "all") else None


def _replace(place: Path, made: Path) -> None:
    """Put a folder in the place of another one."""
    gone = name_aside(place)
    if place.exists():
        place.rename(gone)
    made.rename(place)
    shutil.rmtree(gone, ignore_errors=True)
