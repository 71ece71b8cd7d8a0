"""What a report says of an evaluation beside the masks: the classes first, then every other measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.anonymous import AS_THEY_ARE, LEFT_OUT, Names
from wsi_deform.drawing.result_figures import Measure, confusion_figure, intervals_figure
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.bootstrap import MIN_GROUPS
from wsi_deform.evaluate.summary import UNITS, shown_unit
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.report.cells import COUNT, LENGTH, SHARE, Interval, cell, ends
from wsi_deform.report.confusion import confusion_table
from wsi_deform.report.evaluated_slides import cost_sections, slides_sections
from wsi_deform.report.files import read_json
from wsi_deform.report.measured import CEILING, MIOU, measures
from wsi_deform.report.measured_sections import measured_sections
from wsi_deform.report.page import Fact, Picture, Section
from wsi_deform.report.tables import Table, number

SHARES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}
UNMEASURED_SHOWN = 50


def read_evaluation(path: Path) -> dict[str, Any]:
    """An evaluation, of this or an older version.

    Raises:
        WsiDeformError: It cannot be read, or is not one.
    """
    data = read_json(path)
    measures(data)
    return data


def evaluated_sections(path: Path, names: Names = AS_THEY_ARE) -> tuple[list[Section], Fact]:
    """The sections of one evaluation, and the measure to see first.

    Args:
        path: Its JSON, of this or an older version.
        names: What slides are called.

    Raises:
        WsiDeformError: It is not an evaluation.
    """
    data = read_evaluation(path)
    try:
        return _sections(data, path, names), main_fact(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise MaskError(
            f"{path}: not an evaluation ({type(error).__name__}: {error}). Needed what `wsi-deform evaluate` writes. "
            "Evaluate again."
        ) from error


def main_fact(data: Mapping[str, Any], what: str = "") -> Fact:
    """The mean IoU of an evaluation, with its interval.

    Args:
        data: The evaluation.
        what: Of what; else of its split.
    """
    over = MeanClasses.from_data(data["pooled"]["predicted"].get("miou_classes"))
    said = "" if over is None or over.is_whole else f", {over.text()}"
    held = data.get("intervals") or {}
    value = measures(data)[MIOU]
    return Fact(
        value=number(value),
        what=f"mIoU, {what}{said}" if what else f'mIoU, split "{data["split"]}"{said}',
        more=interval_text(held) if held.get("miou") else "",
    )


def interval_text(held: Mapping[str, Any]) -> str:
    """The interval of the mean IoU in words."""
    return f"95 % interval {ends(held['miou'])}, over {held['groups']} {held['of']}"


def _sections(data: Mapping[str, Any], path: Path, names: Names) -> list[Section]:
    held = data.get("intervals") or {}
    split = data["split"]
    sections = [
        Section(
            title=f'Against the labels, split "{split}"',
            text=[
                f"{_many(len(data['slides']), 'slide')}, at full resolution, pooled over all labelled pixels. "
                f"{CEILING} is what the sampling alone allows: the labels at the samples, put back like the mask.",
                *mean_notes(data),
                *_accuracy(data["pooled"]["predicted"], held),
            ],
            table=class_table(data, "predicted"),
            notes=[_interval_note(data)],
            pictures=_class_pictures(data),
        ),
        *_unmeasured(data, names),
        *_confusion(data, "predicted", "Which class is taken for which"),
        *measured_sections(data, path, names),
        *cost_sections(data, names),
        *slides_sections(data, path, names),
    ]
    if data["pooled"].get("sampled") and "dice" in data["pooled"]["sampled"]:
        sections.append(
            Section(
                title="What the sampling alone allows: every measure of Y' against Y",
                text=_accuracy(data["pooled"]["sampled"], held.get("sampled") or {}),
                table=class_table(data, "sampled"),
                heading=3,
                folded=True,
            )
        )
        sections += _confusion(data, "sampled", "Which class the sampling alone takes for which", folded=True)
    return sections


def class_table(data: Mapping[str, Any], kind: str) -> Table:
    """A row per class, group of classes and mean, each share with its interval below.

    Args:
        data: The evaluation.
        kind: "predicted", the masks, or "sampled", the labels at the samples put back.
    """
    pooled = data["pooled"][kind]
    held: Mapping[str, Any] = data.get("intervals") or {}
    held = held if kind == "predicted" else held.get("sampled") or {}
    shares = {key: word for key, word in SHARES.items() if key in pooled}
    borders = _borders(data) if kind == "predicted" else {}
    ceiling = data["pooled"].get("sampled") if kind == "predicted" else None
    of_ceiling: Mapping[str, Any] = (data.get("intervals") or {}).get("sampled") or {}
    counts = np.array(pooled["confusion"], np.int64) if "confusion" in pooled else None
    header = ["class", *shares.values()]
    if borders:
        header.append(f"mean boundary distance, {UNITS[next(iter(borders.values()))[0]]}")
    if ceiling:
        header.append("IoU(Y', Y)")
    if counts is not None:
        header += ["labelled px", "px of the mask"]

    def row(name: str, values: Mapping[str, Any], intervals: Mapping[str, Any], own: int | None) -> list[str]:
        cells = [name, *(cell(values.get(key), SHARE, intervals.get(key)) for key in shares)]
        if borders:
            _, mean, interval = borders.get(name, (None, None, None))
            cells.append(cell(mean, LENGTH, interval))
        if ceiling:
            key = {"mean": "miou", WITHOUT_BACKGROUND: "miou_without_background"}.get(name, "")
            value, interval = (
                (ceiling["iou"].get(name), (of_ceiling.get("iou") or {}).get(name))
                if own is not None
                else (ceiling.get(key), of_ceiling.get(key))
            )
            cells.append(cell(value, SHARE, interval))
        if counts is not None:
            of_class = [counts[own].sum(), counts[:, own].sum()] if own is not None else [None, None]
            cells += [cell(each, COUNT) for each in of_class]
        return cells

    rows = [
        row(
            name,
            {key: pooled[key][name] for key in shares},
            {key: held.get(key, {}).get(name) for key in shares},
            index,
        )
        for index, name in enumerate(pooled["iou"])
    ]
    for name, group in pooled.get("groups", {}).items():
        rows.append(row(f"group {name} ({', '.join(group['classes'])})", group, {}, None))
    rows.append(
        row(
            "mean",
            {"iou": pooled["miou"], "dice": pooled.get("mdice")},
            {"iou": held.get("miou"), "dice": held.get("mdice")},
            None,
        )
    )
    if data["background"] is not None:
        key = "miou_without_background"
        rows.append(row(WITHOUT_BACKGROUND, {"iou": pooled.get(key)}, {"iou": held.get(key)}, None))
    return Table(header=tuple(header), rows=tuple(tuple(each) for each in rows))


WITHOUT_BACKGROUND = "mean without background"


def _borders(data: Mapping[str, Any]) -> dict[str, tuple[str, float | None, Interval]]:
    """Class -> unit, mean boundary distance and its interval, in the unit that all slides have."""
    rows = (data.get("measured") or {}).get("boundary") or []
    if not rows:
        return {}
    unit = shown_unit(rows, data["slides"])
    held = (data.get("intervals") or {}).get("boundary") or [{}] * len(rows)
    return {
        row["class"]: (unit, row["mean"], interval.get("mean"))
        for row, interval in zip(rows, held, strict=True)
        if row["unit"] == unit
    }


def _class_pictures(data: Mapping[str, Any]) -> list[Picture]:
    """IoU and Dice of each class as points with their intervals, where all is known."""
    pooled, held = data["pooled"]["predicted"], data.get("intervals") or {}
    if "dice" not in pooled or "colours" not in data:
        return []
    points = {
        SHARES[key]: [
            Measure(name=name, value=value, interval=held.get(key, {}).get(name))
            for name, value in pooled[key].items()
        ]
        for key in ("iou", "dice")
    }
    colours = dict(zip(data["classes"], data["colours"], strict=True))
    said = ", with 95 % intervals" if held else ""
    return [
        Picture.drawn(
            f"classes-{data['split']}",
            f"IoU and Dice of each class{said}.",
            partial(intervals_figure, points, colours),
        )
    ]


def _confusion(data: Mapping[str, Any], kind: str, title: str, *, folded: bool = False) -> list[Section]:
    """The confusion matrix as a table whose cells are as dark as their share, and as a figure."""
    if "confusion" not in data["pooled"][kind]:
        return []
    classes = data["classes"]
    counts = np.array(data["pooled"][kind]["confusion"], np.int64)
    name = "confusion" if kind == "predicted" else f"confusion-{kind}"
    return [
        Section(
            title=title,
            text=["A row is a class of the labels, a column a class of the mask; shares are of the row."],
            table=confusion_table(counts, classes),
            pictures=[
                Picture.drawn(
                    f"{name}-{data['split']}",
                    "Which class is taken for which.",
                    partial(confusion_figure, counts, classes),
                    only_file=True,
                )
            ]
            if not folded
            else [],
            heading=3,
            folded=folded,
        )
    ]


def _accuracy(pooled: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """The share of pixels that are right, in a sentence."""
    if pooled.get("accuracy") is None:
        return []
    interval = held.get("accuracy")
    said = f" ({ends(interval)})" if interval else ""
    many = f" of {pooled['pixels']:,} labelled pixels" if "pixels" in pooled else ""
    return [f"Pixel accuracy {pooled['accuracy']:{SHARE}}{said}{many}."]


def _interval_note(data: Mapping[str, Any]) -> str:
    held = data.get("intervals")
    if not held:
        return f"No intervals: fewer than {MIN_GROUPS} patients or slides say nothing of others."
    return (
        f"Below the numbers: 95 % intervals over {held['groups']} {held['of']}, drawn with all their pixels "
        "(bootstrap)."
    )


def _unmeasured(data: Mapping[str, Any], names: Names) -> list[Section]:
    found: Sequence[Mapping[str, Any]] = data.get("unmeasured") or []
    if not found:
        return []
    rows = tuple(
        (names.slide(each["slide_id"]), " ".join(each["reason"].split()) if names.are_shown else LEFT_OUT)
        for each in found[:UNMEASURED_SHOWN]
    )
    more = len(found) - len(rows)
    return [
        Section(
            title=f"Not measured: {_many(len(found), 'slide')}",
            table=Table(header=("slide", "reason"), rows=rows, is_text=True),
            notes=[f"And {more:,} more, in evaluation.json."] if more else [],
            heading=3,
        )
    ]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
