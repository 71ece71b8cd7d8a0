"""What a report says of the measures beyond pixels: missed objects, borders, calibration, what was sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wsi_deform.anonymous import Names
from wsi_deform.drawing import measure_figures as draw
from wsi_deform.evaluate.boundary import CAP_PX
from wsi_deform.evaluate.summary import UNITS
from wsi_deform.report.cells import (
    COUNT,
    LENGTH,
    PERCENT,
    RATIO,
    SHARE,
    cell,
    folder_of,
    left_out,
    part_of,
    size_text,
)
from wsi_deform.report.page import Picture, Section
from wsi_deform.report.tables import NOTHING, Table

MISSED_SHOWN = 20

Row = Mapping[str, Any]


def measured_sections(data: Mapping[str, Any], path: Path, names: Names) -> list[Section]:
    """A section for each measure that was taken, missed objects first.

    Args:
        data: The evaluation.
        path: Its file; tables that a page has no room for lie beside it.
        names: What slides are called.
    """
    measured = data.get("measured")
    if measured is None:
        return []
    held = data.get("intervals") or {}

    def rows_of(kind: str) -> list[tuple[Row, Row]]:
        """The rows of a measure, each with its intervals."""
        rows = measured.get(kind) or []
        return list(zip(rows, held.get(kind) or [{}] * len(rows), strict=True))

    colours = dict(zip(data["classes"], data.get("colours", []), strict=False))
    split = data["split"]
    return [
        *_objects(rows_of("objects"), colours, split),
        *_missed(data, path, names),
        *_boundary(rows_of("boundary")),
        *_trimap(rows_of("trimap"), data["classes"], split),
        *_calibration(measured.get("calibration"), held.get("calibration") or {}, split),
        *_frequency(rows_of("frequency"), split),
    ]


def _objects(
    rows: Sequence[tuple[Row, Row]], colours: Mapping[str, Sequence[int]], split: str
) -> list[Section]:
    if not rows:
        return []
    header = (
        "class", "area", "objects", "touched", "half covered", "area covered", "in the mask", "with a true pixel",
        "half true", "false",
    )  # fmt: skip
    cells = tuple(
        (
            row["class"],
            size_text(row),
            f"{row['objects']:,}",
            part_of(row["touched"], row["objects"], held.get("touched")),
            part_of(row["half_covered"], row["objects"], held.get("half_covered")),
            cell(row.get("covered"), PERCENT, held.get("covered")),
            *(
                cell(row.get(key), COUNT)
                if key == "predicted_objects" or not row.get("predicted_objects")
                else part_of(row[key], row["predicted_objects"], held.get(key))
                for key in (
                    "predicted_objects",
                    "predicted_touching",
                    "predicted_half_true",
                    "predicted_false",
                )
            ),
        )
        for row, held in rows
    )
    own = [row for row, _ in rows]
    return [
        Section(
            title="Objects that were missed, by size",
            text=[
                "Connected objects of the labels, and how many of them the mask has a pixel of (touched) or half of; "
                "objects of the mask, and how many of them have no true pixel (false)."
            ],
            table=Table(header=header, rows=cells),
            pictures=_picture(
                f"objects-{split}",
                "Share of the objects of each size that the mask touches (pale) and covers by half (full).",
                partial(draw.objects_figure, own, colours),
                is_there=any(row["from"] is not None and row["objects"] for row in own),
            ),
            heading=3,
            pictures_first=True,
        )
    ]


def _missed(data: Mapping[str, Any], path: Path, names: Names) -> list[Section]:
    found = sorted(data.get("missed") or [], key=lambda row: -row["pixels"])
    if not found:
        return []
    rows = tuple(
        (
            names.slide(row["slide_id"]),
            row["class"],
            f"{row['x']:,}, {row['y']:,}",
            f"{row['width']:,} x {row['height']:,}",
            f"{row['pixels']:,}",
            cell(row["area_um2"], COUNT),
            f"{row['covered']:.0%}",
        )
        for row in found[:MISSED_SHOWN]
    )
    header = ("slide", "class", "left, top, px", "size, px", "pixels", "area, µm²", "covered")
    return [
        Section(
            title="The largest objects that the mask covers by less than half",
            table=Table(header=header, rows=rows),
            notes=left_out(len(rows), len(found), "such objects", f"{folder_of(path)}/missed_objects.csv"),
            heading=3,
        )
    ]


def _boundary(rows: Sequence[tuple[Row, Row]]) -> list[Section]:
    if not rows:
        return []
    cells = tuple(
        (
            row["class"],
            UNITS[row["unit"]],
            *(cell(row[key], LENGTH, held.get(key)) for key in ("mean", "percentile_95")),
            cell(row.get("capped_share"), PERCENT, held.get("capped_share")),
            cell(row.get("true_border_pixels"), COUNT),
            cell(row.get("predicted_border_pixels"), COUNT),
        )
        for row, held in rows
    )
    header = (
        "class", "unit", "mean", "95th percentile", f"{CAP_PX} px or more", "border px of the labels",
        "border px of the mask",
    )  # fmt: skip
    return [
        Section(
            title="Boundary distance",
            text=[
                f"Between predicted and true borders of each class, both ways; {CAP_PX} px is as far as is looked, and "
                "what a missed or false object counts as."
            ],
            table=Table(header=header, rows=cells),
            heading=3,
        )
    ]


def _trimap(rows: Sequence[tuple[Row, Row]], classes: Sequence[str], split: str) -> list[Section]:
    rows = [(row, held) for row, held in rows if row["pixels"]]
    if not rows:
        return []
    cells = tuple(
        (
            f"{row['width']:g} {UNITS[row['unit']]}",
            cell(row["accuracy"], SHARE, held.get("accuracy")),
            cell(row["miou"], SHARE, held.get("miou")),
            _over(row.get("mean_over", ""), classes),
            f"{row['pixels']:,}",
        )
        for row, held in rows
    )
    return [
        Section(
            title="Near borders",
            text=["Of the pixels that are less than so far from a true border between two classes."],
            table=Table(header=("less than", "accuracy", "mIoU", "mean over", "pixels"), rows=cells),
            pictures=_picture(
                f"trimap-{split}",
                "Accuracy and mIoU of the pixels near true borders.",
                partial(draw.trimap_figure, [row for row, _ in rows]),
            ),
            heading=3,
            pictures_first=True,
        )
    ]


def _over(over: str, classes: Sequence[str]) -> str:
    """Which classes a mean is over."""
    return "all classes" if over == "; ".join(classes) else over or NOTHING


def _calibration(found: Mapping[str, Any] | None, held: Mapping[str, Any], split: str) -> list[Section]:
    if found is None:
        return []
    key = "expected_calibration_error"
    rows = [("predicted class", cell(found[key], SHARE, held.get(key)))]
    each = held.get("class_errors") or {}
    rows += [(name, cell(error, SHARE, each.get(name))) for name, error in found["class_errors"].items()]
    bins = tuple(
        (
            row["class"] or "predicted class",
            f"{row['from']:.3f} to {row['to']:.3f}",
            f"{row['points']:,}",
            cell(row["mean_probability"], SHARE),
            cell(row["share_right"], SHARE),
        )
        for row in found["bins"]
        if row["points"]
    )
    return [
        Section(
            title="Calibration",
            text=[
                f"Expected calibration error over {found['of']}: how far probabilities are from how often they come "
                "true."
            ],
            table=Table(header=("probability of", "error"), rows=tuple(rows)),
            pictures=_picture(
                f"calibration-{split}",
                "How often the network is right at each probability.",
                partial(draw.calibration_figure, found),
            ),
            heading=3,
            pictures_first=True,
        ),
        Section(
            title="Calibration: every bin",
            table=Table(
                header=("probability of", "bin", "points", "mean probability", "came true"), rows=bins
            ),
            heading=3,
            folded=True,
        ),
    ]


def _frequency(rows: Sequence[tuple[Row, Row]], split: str) -> list[Section]:
    if not rows:
        return []
    cells = tuple(
        (
            row["class"],
            f"{row['samples']:,}",
            cell(row["share_of_samples"], PERCENT, held.get("share_of_samples")),
            f"{row['pixels']:,}",
            cell(row["share_of_pixels"], PERCENT, held.get("share_of_pixels")),
            cell(row["ratio"], RATIO, held.get("ratio")),
        )
        for row, held in rows
    )
    header = ("class", "samples", "of the samples", "pixels", "of the pixels", "ratio")
    return [
        Section(
            title="What was sampled",
            text=[
                "What was sampled, and what there is: a ratio above 1 is a class that is looked at more closely than "
                "others."
            ],
            table=Table(header=header, rows=cells),
            pictures=_picture(
                f"frequency-{split}",
                "How much of the samples, and of the pixels, each class has.",
                partial(draw.frequency_figure, [row for row, _ in rows]),
            ),
            heading=3,
            pictures_first=True,
        )
    ]


def _picture(name: str, caption: str, drawing: Any, *, is_there: bool = True) -> list[Picture]:
    return [Picture.drawn(name, caption, drawing)] if is_there else []
