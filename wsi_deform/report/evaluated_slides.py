"""What a report says of the slides of an evaluation: cost beside accuracy, the worst first, which ones are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wsi_deform.anonymous import Names
from wsi_deform.drawing.result_figures import Measure, cost_figure
from wsi_deform.evaluate.cost import mean_cost_of_rows
from wsi_deform.report.cells import COSTS, COUNT, SHARE, cell, cost_cell, folder_of, left_out
from wsi_deform.report.page import Picture, Section
from wsi_deform.report.tables import NOTHING, Table

ROWS_SHOWN = 100
DRAWN_COSTS = ("read_pixels", "decoded_pixels", "flops", "seconds", "peak_memory_bytes")

Slide = Mapping[str, Any]


def worst_first(slides: Sequence[Slide]) -> list[Slide]:
    """Slides by their mean IoU; those without one last."""
    return sorted(
        slides,
        key=lambda slide: (slide["predicted"]["miou"] is None, slide["predicted"]["miou"] or 0.0),
    )


def cost_sections(data: Mapping[str, Any], names: Names) -> list[Section]:
    """The mean cost of a slide beside the mean IoU, and both of each slide."""
    slides = [slide for slide in data["slides"] if slide.get("cost")]
    means = mean_cost_of_rows([slide["cost"] for slide in slides]) if slides else {}
    known = [key for key in COSTS if means.get(key) is not None]
    if not known:
        return []
    pooled, held = data["pooled"]["predicted"], data.get("intervals") or {}
    row = (
        "mean of a slide",
        cell(pooled["miou"], SHARE, held.get("miou")),
        *(cost_cell(key, means[key]) for key in known),
    )
    pictures = []
    for key in DRAWN_COSTS:
        word, scale, _ = COSTS[key]
        points = [
            Measure(
                name=names.slide(slide["slide_id"]),
                value=slide["predicted"]["miou"],
                cost=None if slide["cost"].get(key) is None else slide["cost"][key] / scale,
            )
            for slide in slides
        ]
        if sum(point.cost is not None and point.value is not None for point in points) > 1:
            pictures.append(
                Picture.drawn(
                    f"cost-{key.replace('_', '-')}-{data['split']}",
                    f"mIoU of each slide against {word}.",
                    partial(cost_figure, points, cost=f"{word}, of a slide"),
                )
            )
    return [
        Section(
            title="Cost beside accuracy",
            text=["Of a slide, on average; memory is the largest."],
            table=Table(header=("", "mIoU, pooled", *(COSTS[key][0] for key in known)), rows=(row,)),
            pictures=pictures,
            heading=3,
        )
    ]


def slides_sections(data: Mapping[str, Any], path: Path, names: Names) -> list[Section]:
    """Every slide in two tables, the worst first; of many slides the worst."""
    ranked = worst_first(data["slides"])
    if not ranked:
        return []
    shown = ranked[:ROWS_SHOWN]
    where = f"{folder_of(path)}/slides.csv" if path.parent.name == data["split"] else "evaluation.csv"
    notes = left_out(len(shown), len(ranked), "slides, the worst ones,", where)
    has_patients = any(slide.get("patient") for slide in shown)
    classes = list(shown[0]["predicted"]["iou"])
    header = [
        "slide", *(["patient"] if has_patients else []), "mIoU", "mean Dice", "accuracy", "mIoU(Y', Y)",
        *(f"IoU {name}" for name in classes), "objects touched", "half covered", "objects of the mask",
        "of these false", "calibration error",
    ]  # fmt: skip
    rows = []
    for slide in shown:
        predicted, sampled = slide["predicted"], slide.get("sampled") or {}
        found = slide.get("measured") or {}
        patient = slide.get("patient")
        rows.append(
            (
                names.slide(slide["slide_id"]),
                *([names.patient(patient) if patient else NOTHING] if has_patients else []),
                cell(predicted["miou"], SHARE),
                cell(predicted.get("mdice"), SHARE),
                cell(predicted.get("accuracy"), SHARE),
                cell(sampled.get("miou"), SHARE),
                *(cell(predicted["iou"][name], SHARE) for name in classes),
                _of(found, "touched", "objects"),
                _of(found, "half_covered", "objects"),
                cell(found.get("predicted_objects"), COUNT),
                cell(found.get("predicted_false"), COUNT),
                cell(found.get("expected_calibration_error"), SHARE),
            )
        )
    empty = [place for place in range(1, len(header)) if all(row[place] == NOTHING for row in rows)]
    sections = [
        Section(
            title="Every slide, the worst first",
            table=_without(header, rows, empty),
            notes=notes,
            heading=3,
            folded=len(rows) > 20,
        )
    ]
    known = [key for key in COSTS if any((slide.get("cost") or {}).get(key) is not None for slide in shown)]
    if known:
        costs = tuple(
            (
                names.slide(slide["slide_id"]),
                cell(slide["predicted"]["miou"], SHARE),
                *(cost_cell(key, (slide.get("cost") or {}).get(key)) for key in known),
            )
            for slide in shown
        )
        table = Table(header=("slide", "mIoU", *(COSTS[key][0] for key in known)), rows=costs)
        sections.append(
            Section(title="Cost of every slide", table=table, notes=notes, heading=3, folded=True)
        )
    return sections


def _of(found: Mapping[str, Any], part: str, whole: str) -> str:
    if found.get(whole) is None:
        return NOTHING
    return f"{found[part]:,} of {found[whole]:,}"


def _without(header: Sequence[str], rows: Sequence[Sequence[str]], empty: Sequence[int]) -> Table:
    """A table without the columns that nothing is in."""
    kept = [place for place in range(len(header)) if place not in empty]
    return Table(
        header=tuple(header[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
    )
