"""What was measured as rows of plain data: the same for JSON, CSV, pages and figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.boundary import BoundaryDistances
from wsi_deform.evaluate.calibration import Calibration
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.means import mean_classes, measured_miou
from wsi_deform.evaluate.objects import COVERED, HALF, OBJECTS, PIXELS, SIZES, TOUCHED, Missed, ObjectCounts
from wsi_deform.evaluate.slide_measures import Measured
from wsi_deform.evaluate.trimap import TrimapCounts

Row = dict[str, Any]


def measured_data(measured: Measured, classes: ClassTable) -> dict[str, Any]:
    """Everything beyond confusion counts.

    Returns:
        ``trimap``, ``boundary``, ``objects`` and ``frequency``, each a list of rows (empty where it was not
        measured), and ``calibration``, None or see ``calibration_data``. Shares are in [0, 1]; None is what there was
        nothing to measure of.
    """
    calibration = measured.calibration
    return {
        "trimap": [] if measured.trimap is None else trimap_rows(measured.trimap, classes),
        "boundary": [] if measured.boundary is None else boundary_rows(measured.boundary, classes),
        "objects": [] if measured.objects is None else object_rows(measured.objects, classes),
        "frequency": [] if measured.frequency is None else frequency_rows(measured.frequency, classes),
        "calibration": None
        if calibration is None
        else {
            "of": " and ".join(sorted(measured.probabilities_of)),
            **calibration_data(calibration, classes),
        },
    }


def trimap_rows(trimap: TrimapCounts, classes: ClassTable) -> list[Row]:
    """One row per band: ``unit``, ``width``, ``pixels``, ``accuracy``, ``miou``, and in ``mean_over`` its classes."""
    return [
        {
            "unit": unit,
            "width": width,
            "pixels": int(counts.counts.sum()),
            "accuracy": number(counts.accuracy()),
            "miou": measured_miou(counts),
            "mean_over": "; ".join(mean_classes(counts, classes.names).over),
        }
        for (unit, width), counts in sorted(
            trimap.bands.items(), key=lambda band: (band[0][0] == "um", band[0][1])
        )
    ]


def boundary_rows(boundary: BoundaryDistances, classes: ClassTable) -> list[Row]:
    """One row per class and unit: ``mean``, ``percentile_95``, ``capped_share``, border pixels on both sides."""
    return [
        {
            "class": name,
            "unit": unit,
            "mean": number(pair.mean()),
            "percentile_95": number(pair.percentile_95()),
            "capped_share": number(pair.capped_share()),
            "true_border_pixels": pair.to_predicted.count,
            "predicted_border_pixels": pair.to_true.count,
        }
        for unit, pairs in boundary.units.items()
        for name, pair in zip(classes.names, pairs, strict=True)
    ]


def object_rows(objects: ObjectCounts, classes: ClassTable) -> list[Row]:
    """One row per class, unit and size that occurs, and one for all sizes.

    Returns:
        ``class``, ``unit`` (of areas: um^2 or px^2), ``from`` and ``to`` (None: no end; both None: all sizes);
        ``objects`` of the labels, ``touched`` and ``half_covered`` of them, and the share of their area that is
        ``covered``; ``predicted_objects``, ``predicted_touching``, ``predicted_half_true`` and ``predicted_false``
        (not a pixel is true).
    """
    rows: list[Row] = []
    for unit, true in objects.true.items():
        predicted = objects.predicted[unit]
        begins = SIZES[unit]
        for index, name in enumerate(classes.names):
            if not true[index].any() and not predicted[index].any():
                continue
            total = (None, None, true[index].sum(axis=0), predicted[index].sum(axis=0))
            sizes = [
                (
                    begins[size],
                    None if size + 1 == len(begins) else begins[size + 1],
                    true[index, size],
                    predicted[index, size],
                )
                for size in range(len(begins))
            ]
            for begin, end, ours, theirs in (total, *sizes):
                if not ours[OBJECTS] and not theirs[OBJECTS]:
                    continue
                rows.append(
                    {
                        "class": name,
                        "unit": f"{unit}^2",
                        "from": begin,
                        "to": end,
                        "objects": int(ours[OBJECTS]),
                        "touched": int(ours[TOUCHED]),
                        "half_covered": int(ours[HALF]),
                        "covered": float(ours[COVERED] / ours[PIXELS]) if ours[PIXELS] else None,
                        "predicted_objects": int(theirs[OBJECTS]),
                        "predicted_touching": int(theirs[TOUCHED]),
                        "predicted_half_true": int(theirs[HALF]),
                        "predicted_false": int(theirs[OBJECTS] - theirs[TOUCHED]),
                    }
                )
    return rows


def missed_row(slide_id: str, missed: Missed, classes: ClassTable) -> Row:
    """An object that was missed, with its bounding box in level-0 px."""
    return {
        "slide_id": slide_id,
        "class": classes.names[missed.class_index],
        "x": missed.box.x,
        "y": missed.box.y,
        "width": missed.box.width,
        "height": missed.box.height,
        "pixels": missed.pixels,
        "area_um2": missed.area_um2,
        "covered": missed.covered,
    }


def frequency_rows(frequency: ClassFrequency, classes: ClassTable) -> list[Row]:
    """One row per class: samples and pixels, their shares, and ``ratio``, share of samples / share of pixels."""
    return [
        {
            "class": name,
            "samples": int(frequency.samples[index]),
            "pixels": int(frequency.pixels[index]),
            "share_of_samples": number(frequency.sample_shares()[index]),
            "share_of_pixels": number(frequency.pixel_shares()[index]),
            "ratio": number(frequency.ratios()[index]),
        }
        for index, name in enumerate(classes.names)
    ]


def calibration_data(calibration: Calibration, classes: ClassTable) -> dict[str, Any]:
    """``expected_calibration_error``, ``class_errors`` (name -> error) and ``bins``.

    Returns:
        A bin is a row: ``class`` ("" for the predicted class, whichever that is), ``from``, ``to``, ``points``,
        ``mean_probability`` and ``share_right``, None in an empty bin.
    """
    count = len(calibration.top)
    bins = []
    for name, counts in (("", calibration.top), *zip(classes.names, calibration.classes, strict=True)):
        for place, (points, total, right) in enumerate(counts.tolist()):
            bins.append(
                {
                    "class": name,
                    "from": place / count,
                    "to": (place + 1) / count,
                    "points": int(points),
                    "mean_probability": total / points if points else None,
                    "share_right": right / points if points else None,
                }
            )
    errors = zip(classes.names, calibration.class_errors(), strict=True)
    return {
        "expected_calibration_error": number(calibration.expected_error()),
        "class_errors": {name: number(error) for name, error in errors},
        "bins": bins,
    }


def class_rows(
    pooled: Mapping[str, Any], intervals: Mapping[str, Any] | None, confusion: Sequence[Sequence[int]]
) -> list[Row]:
    """One row per class of the pooled measures, with intervals where there are some; and the means.

    ``mean_over`` of the means names their classes.
    """
    counts = np.array(confusion, np.int64)
    held = intervals or {}
    rows: list[Row] = []
    for index, name in enumerate(pooled["iou"]):
        rows.append(
            {
                "class": name,
                **{key: pooled[key][name] for key in ("iou", "dice", "precision", "recall")},
                "true_pixels": int(counts[index].sum()),
                "predicted_pixels": int(counts[:, index].sum()),
                "mean_over": "",
                **{
                    end: value
                    for key in ("iou", "dice", "precision", "recall")
                    for end, value in _ends(key, held.get(key, {}).get(name)).items()
                },
            }
        )
    total = int(counts.sum())
    means = {
        "class": "mean",
        "iou": pooled["miou"],
        "dice": pooled["mdice"],
        "precision": None,
        "recall": None,
    }
    ends = {
        **_ends("iou", held.get("miou")),
        **_ends("dice", held.get("mdice")),
        **_ends("precision", None),
        **_ends("recall", None),
    }
    over = "; ".join(pooled.get("miou_classes", {}).get("over", []))
    rows.append({**means, "true_pixels": total, "predicted_pixels": total, "mean_over": over, **ends})
    return rows


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def _ends(name: str, interval: Sequence[float] | None) -> Row:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
