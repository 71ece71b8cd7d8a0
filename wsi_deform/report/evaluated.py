"""What a report says of an evaluation beside the masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.anonymous import AS_THEY_ARE, Names
from wsi_deform.evaluate.class_groups import group_notes
from wsi_deform.evaluate.summary import UNITS, shown_unit
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.report.files import read_json
from wsi_deform.report.measured import CEILING, MIOU, measures
from wsi_deform.report.page import Fact, Picture, Section
from wsi_deform.report.tables import comparison_table, number

PICTURES = {
    "objects": "Share of the objects of each size that the mask touches (pale) and covers by half (full).",
    "trimap": "Accuracy and mIoU of the pixels near true borders.",
    "calibration": "How often the network is right at each probability.",
    "frequency": "How much of the samples, and of the pixels, each class has.",
}


def evaluated_sections(path: Path, names: Names = AS_THEY_ARE) -> tuple[list[Section], Fact]:
    """The sections of one evaluation, and the measure to see first.

    Args:
        path: Its JSON, of this or an older version.
        names: What slides are called.

    Raises:
        WsiDeformError: It is not an evaluation.
    """
    data = read_json(path)
    pooled = measures(data)
    rows = {"all slides, pooled": pooled}
    rows |= {
        names.slide(each["slide_id"]): measures(
            {**data, "pooled": {kind: each[kind] for kind in ("predicted", "sampled")}}
        )
        for each in data["slides"]
    }
    sections = [
        Section(
            title="Against the labels",
            text=[
                f'Split "{data["split"]}", at full resolution. {CEILING} is what the sampling alone allows: '
                "the labels at the samples, put back like the mask.",
                *mean_notes(data),
                *_interval_note(data),
            ],
            table=comparison_table(rows, of="slide", largest_is_best=()),
        )
    ]
    if "measured" in data:
        sections.append(_classes(data, path.parent))
    over = MeanClasses.from_data(data["pooled"]["predicted"].get("miou_classes"))
    said = "" if over is None or over.is_whole else f", {over.text()}"
    return sections, Fact(value=number(pooled[MIOU]), what=f'mIoU, split "{data["split"]}"{said}')


def _interval_note(data: Mapping[str, Any]) -> list[str]:
    found = data.get("intervals")
    if not found or not found["miou"]:
        return []
    low, high = (number(end) for end in found["miou"])
    return [f"95 % interval of the mIoU over {found['groups']} {found['of']} (bootstrap): {low} to {high}."]


def _classes(data: Mapping[str, Any], folder: Path) -> Section:
    """Measures of each class beyond IoU, and the figures beside the JSON."""
    pooled, measured = data["pooled"]["predicted"], data["measured"]
    unit = shown_unit(measured["boundary"], data["slides"])
    rows: dict[str, dict[str, float]] = {}
    for name in data["classes"]:
        rows[name] = {
            key: math.nan if pooled[key.lower()][name] is None else pooled[key.lower()][name]
            for key in ("Dice", "precision", "recall")
        }
    for row in measured["boundary"]:
        if row["unit"] == unit:
            for key, title in (("mean", "mean"), ("percentile_95", "95th percentile of")):
                value = math.nan if row[key] is None else row[key]
                rows[row["class"]][f"{title} boundary distance, {UNITS[unit]}"] = value
    for row in measured["objects"]:
        if row["from"] is None and row["objects"]:
            for key, title in (("touched", "objects touched"), ("half_covered", "objects half covered")):
                rows[row["class"]][title] = row[key] / row["objects"]
    files = {kind: folder / f"{kind}.png" for kind in PICTURES}
    return Section(
        title="Each class, objects and borders",
        text=[
            f'Split "{data["split"]}", pooled over all slides. More in the folder of the evaluation.',
            *group_notes(data),
        ],
        table=comparison_table(rows, of="class", largest_is_best=()),
        pictures=[
            Picture(image=file.read_bytes(), caption=PICTURES[kind])
            for kind, file in files.items()
            if file.is_file()
        ],
    )
