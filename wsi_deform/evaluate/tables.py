"""An evaluation as plain data, JSON and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.cells import safe_row
from wsi_deform.evaluate.class_groups import group_measures
from wsi_deform.evaluate.cost import COSTS
from wsi_deform.evaluate.intervals import intervals_data
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.means import mean_classes, measured_miou
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.rows import measured_data, missed_row, number
from wsi_deform.files import write_aside, write_json

POOLED = "all slides"
OBJECT_COLUMNS = ("objects", "touched", "half_covered", "predicted_objects", "predicted_false")


def measures_of(counts: Confusion, classes: ClassTable) -> dict[str, Any]:
    """All measures of some counts.

    Args:
        counts: Pixels by true and predicted class.
        classes: The class table.

    Returns:
        ``iou``, ``dice``, ``precision`` and ``recall`` (class name -> value), ``miou``, ``mdice`` (mean of the same
        classes), ``miou_without_background``, ``miou_classes`` (which classes the means
        are over, see ``MeanClasses.to_data``), ``accuracy``, ``pixels``, and ``groups`` where the table has
        some (``class_groups.group_measures``). Shares in [0, 1]; None where nothing was
        there to measure, means also where the labels hold one class only, and where no class is the background.
    """
    background = classes.background
    without = None if background is None else measured_miou(counts, without=background)
    measured = {
        "iou": counts.iou(),
        "dice": counts.dice(),
        "precision": counts.precision(),
        "recall": counts.recall(),
    }
    return {
        **{
            key: {name: number(value) for name, value in zip(classes.names, values.tolist(), strict=True)}
            for key, values in measured.items()
        },
        "miou": measured_miou(counts),
        "mdice": _mean_dice(counts),
        "miou_without_background": without,
        "miou_classes": mean_classes(counts, classes.names).to_data(),
        "accuracy": number(counts.accuracy()),
        "pixels": int(counts.counts.sum()),
        **({"groups": group_measures(counts, classes)} if classes.groups else {}),
    }


def evaluation_data(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as lists, numbers and text.

    Returns:
        ``pooled`` and, per slide, ``slides``: ``predicted`` (the mask against the labels, Y^ and Y) and
        ``sampled`` (Y' and Y, or None), each as ``measures_of`` and with ``confusion`` (rows true, columns
        predicted); ``unmeasured``; over all slides ``measured`` (see ``rows.measured_data``), ``missed`` objects and
        ``intervals`` (see ``intervals.intervals_data``); per slide also its ``patient``, ``mpp`` and ``cost``.
    """
    classes = evaluation.classes
    measured = measured_data(evaluation.measured, classes)

    def both(predicted: Confusion, sampled: Confusion | None) -> dict[str, Any]:
        return {
            name: None
            if counts is None
            else {**measures_of(counts, classes), "confusion": counts.counts.tolist()}
            for name, counts in (("predicted", predicted), ("sampled", sampled))
        }

    return {
        "masks": str(evaluation.masks),
        "split": evaluation.split,
        "classes": list(classes.names),
        "colours": [list(colour) for colour in classes.colours],
        "background": None if classes.background is None else classes.names[classes.background],
        "pooled": both(evaluation.pooled, evaluation.pooled_sampled),
        "slides": [
            {
                "slide_id": slide.slide_id,
                **both(slide.predicted, slide.sampled),
                "patient": slide.patient,
                "mpp": slide.mpp,
                "cost": asdict(slide.cost),
                "measured": _slide_summary(slide, classes),
            }
            for slide in evaluation.slides
        ],
        "measured": measured,
        "missed": [
            missed_row(slide.slide_id, missed, classes)
            for slide in evaluation.slides
            if slide.measured.objects is not None
            for missed in slide.measured.objects.missed
        ],
        "intervals": intervals_data(evaluation, measured),
        "unmeasured": [{"slide_id": each.slide_id, "reason": each.reason} for each in evaluation.unmeasured],
    }


def _slide_summary(slide: SlideEvaluation, classes: ClassTable) -> dict[str, Any]:
    """What stands beside a slide in its row: objects of all sizes, distances of each class, calibration."""
    data = measured_data(slide.measured, classes)
    whole = [row for row in data["objects"] if row["from"] is None]
    unit = "um" if slide.mpp is not None else "px"
    calibration = data["calibration"]
    return {
        **{key: sum(row[key] for row in whole) if slide.measured.objects else None for key in OBJECT_COLUMNS},
        "boundary_unit": unit,
        "boundary_mean": {row["class"]: row["mean"] for row in data["boundary"] if row["unit"] == unit},
        "expected_calibration_error": calibration and calibration["expected_calibration_error"],
    }


def mean_notes(evaluation: Evaluation | Mapping[str, Any]) -> list[str]:
    """What must be said beside the pooled means: which classes they are over, or why there are none.

    Args:
        evaluation: What was measured, or ``evaluation_data`` of it.

    Returns:
        One sentence for the masks, and one for Y' where it differs; none where the means are over all classes, or
        the evaluation is of an older version, which does not say.
    """
    data = evaluation_data(evaluation) if isinstance(evaluation, Evaluation) else evaluation
    notes: list[str] = []
    for kind, name in (("predicted", "The mean IoU"), ("sampled", "The mean IoU(Y', Y)")):
        over = MeanClasses.from_data((data["pooled"][kind] or {}).get("miou_classes"))
        if over is None or over.is_whole:
            continue
        said = over.text()
        verb = "is " if over.is_measured else ""
        notes.append(f"{name} {verb}{said}.")
    return notes


def write_evaluation(
    evaluation: Evaluation, path: Path, *, provenance: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write an evaluation as JSON and as CSV, each whole or absent.

    Args:
        evaluation: What was measured.
        path: Where to; its suffix becomes ``.json`` and ``.csv``.
        provenance: Put into the JSON.

    Returns:
        Both files. The CSV has a row "all slides" (pooled) and one per slide; an empty cell is a class that
        does not occur, or a mean that cannot be measured. Columns "mean over" and "mean without" name the classes
        that "miou" is the mean of and those that do not occur.
    """
    json_path, csv_path = path.with_suffix(".json"), path.with_suffix(".csv")
    data = evaluation_data(evaluation)
    write_json(json_path, {**data, "provenance": dict(provenance)})
    with write_aside(csv_path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        rows = [{"slide_id": POOLED, **data["pooled"]}, *data["slides"]]
        for number, row in enumerate(rows):
            cells = dict(_cells(row, data["classes"]))
            if number == 0:
                writer.writerow(safe_row(cells))
            writer.writerow(safe_row(cells.values()))
    return json_path, csv_path


def _cells(row: Mapping[str, Any], names: list[str]) -> Iterator[tuple[str, object]]:
    """Column and value of each cell of a row; NaN and None are empty."""
    yield "slide_id", row["slide_id"]
    yield "pixels", row["predicted"]["pixels"]
    for kind, prefix in (("predicted", ""), ("sampled", "sampled ")):
        held = row[kind] or {"iou": dict.fromkeys(names)}
        for column in ("miou", "miou_without_background", "accuracy"):
            yield prefix + column, _cell(held.get(column))
        over = held.get("miou_classes", {})
        yield f"{prefix}mean over", "; ".join(over.get("over", []))
        yield f"{prefix}mean without", "; ".join(over.get("absent", []))
        for name in names:
            yield f"{prefix}iou {name}", _cell(held["iou"][name])
    for key in ("dice", "precision", "recall"):
        for name in names:
            yield f"{key} {name}", _cell(row["predicted"][key][name])
    yield "mdice", _cell(row["predicted"]["mdice"])
    yield "patient", row.get("patient") or ""
    measured = row.get("measured", {})
    for key in OBJECT_COLUMNS:
        yield key.replace("_", " "), "" if measured.get(key) is None else measured[key]
    yield "boundary unit", measured.get("boundary_unit", "")
    for name in names:
        yield f"boundary distance {name}", _cell(measured.get("boundary_mean", {}).get(name))
    yield "expected calibration error", _cell(measured.get("expected_calibration_error"))
    for key in COSTS:
        value = row.get("cost", {}).get(key)
        yield key.replace("_", " "), "" if value is None else value


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _mean_dice(counts: Confusion) -> float | None:
    """Mean Dice coefficient over the classes that the mean IoU is over; None where that measures nothing."""
    if measured_miou(counts) is None:
        return None
    values = counts.dice()
    return float(values[~np.isnan(values)].mean())
