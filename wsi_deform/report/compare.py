"""The page that sets runs and results side by side: measures, differences on the same slides, cost, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.anonymous import Names
from wsi_deform.drawing.result_figures import Measure, cost_figure, intervals_figure
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.bootstrap import Resamples, difference_of_miou
from wsi_deform.evaluate.cost import mean_cost_of_rows
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.provenance import provenance
from wsi_deform.report.cells import COSTS, SHARE, cell, cost_cell, ends
from wsi_deform.report.compared import Compared
from wsi_deform.report.compared_runs import run_sections
from wsi_deform.report.confusion import confusion_table
from wsi_deform.report.evaluated import SHARES, class_table, main_fact
from wsi_deform.report.evaluated_slides import DRAWN_COSTS
from wsi_deform.report.measured import CEILING, MIOU, WITHOUT
from wsi_deform.report.out import failures
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.run import describe_config
from wsi_deform.report.shown_slides import Shown, slide_section
from wsi_deform.report.tables import NOTHING, Table

SHOWN_EACH_WAY = 2
FIGURED = 6
"""Of more results the points of a figure cannot be told apart."""

Data = Mapping[str, Any]


def compare(compared: Sequence[Compared], page: Path, *, names: Names, figures: Path | None = None) -> Path:
    """Write the page.

    Args:
        compared: Two or more; differences are of each from the first.
        page: The ``.html``; whole or absent.
        names: What slides are called.
        figures: A folder that gets the figures as PNG and SVG, or None.

    Returns:
        The page.

    Raises:
        MaskError: Evaluations are of different classes.
    """
    runs = {each.name: each for each in compared if each.log}
    found = {each.name: each.evaluation for each in compared if each.evaluation is not None}
    _check_classes(found)
    facts, sections = [], []
    for each in compared:
        if each.evaluation is not None:
            facts.append(main_fact(each.evaluation, each.name))
        elif each.log:
            facts.append(_best(each))
        else:
            facts.append(Fact(value=NOTHING, what=f"{each.name}: not evaluated"))
    for each in compared:
        failed = [state for state in each.states if state.status == "failed"]
        sections += failures(failed, names, title=f"What failed: {each.name}")
    if found:
        sections += [
            *_measures(found),
            *_classes(found),
            *_cost(found),
            *_matrices(found),
            *_different_slides(compared, found, names),
        ]
    if runs:
        sections += run_sections(runs)
    made: dict[str, Any] = {each.name: dict(each.provenance) for each in compared if each.provenance}
    page_of = provenance()
    made["this page"] = page_of if names.are_shown else {**page_of, "command": None}
    return write_report(
        page,
        title="Comparison of " + ", ".join(each.name for each in compared),
        lead=_lead(compared),
        facts=facts,
        sections=sections,
        provenance=made,
        figures=figures,
    )


def _lead(compared: Sequence[Compared]) -> list[str]:
    said = []
    for each in compared:
        if each.config is not None:
            said.append(f"{each.name}: a training run. {' '.join(describe_config(each.config))}")
        elif each.evaluation is not None:
            count = len(each.evaluation["slides"])
            failed = sum(state.status == "failed" for state in each.states)
            missing = len(each.evaluation.get("unmeasured") or [])
            said.append(
                f'{each.name}: split "{each.evaluation["split"]}", {count:,} slides measured, {missing:,} not'
                + (f", {failed:,} failed" if failed else "")
                + "."
            )
        else:
            said.append(
                f"{each.name}: {len(each.states):,} slides, not evaluated. Run `wsi-deform evaluate`."
            )
    return said


def _best(each: Compared) -> Fact:
    """The best validation of a run."""
    validated = [row for row in each.log if "val_miou" in row]
    if not validated:
        return Fact(value=NOTHING, what=f"{each.name}: not validated")
    best = max(validated, key=lambda row: row["val_miou"])
    return Fact(
        value=f"{best['val_miou']:{SHARE}}",
        what=f"best validation mIoU, {each.name}, epoch {int(best['epoch'])}",
        more="Chosen on these slides: it flatters.",
    )


def _check_classes(found: Mapping[str, Data]) -> None:
    tables = {name: list(data["pooled"]["predicted"]["iou"]) for name, data in found.items()}
    first = next(iter(tables.items()), None)
    for name, classes in tables.items():
        if first is not None and classes != first[1]:
            raise MaskError(
                f"report: {first[0]} has the classes {', '.join(first[1])}; {name} has {', '.join(classes)}. Needed "
                "evaluations of the same classes in the same order. Compare those."
            )


def _measures(found: Mapping[str, Data]) -> list[Section]:
    """All pooled measures side by side, and the difference of each from the first on the same slides."""
    columns = {
        MIOU: "miou", WITHOUT: "miou_without_background", "mean Dice": "mdice", "pixel accuracy": "accuracy",
    }  # fmt: skip
    rows, values = [], []
    for name, data in found.items():
        pooled, held = data["pooled"]["predicted"], data.get("intervals") or {}
        ceiling = (data["pooled"].get("sampled") or {}).get("miou")
        calibration = (data.get("measured") or {}).get("calibration") or {}
        error = calibration.get("expected_calibration_error")
        own = [pooled.get(key) for key in columns.values()]
        values.append([*own, ceiling, None if error is None else -error])
        rows.append(
            (
                name,
                *(
                    cell(value, SHARE, held.get(key))
                    for value, key in zip(own, columns.values(), strict=True)
                ),
                cell(ceiling, SHARE, (held.get("sampled") or {}).get("miou")),
                cell(error, SHARE, (held.get("calibration") or {}).get("expected_calibration_error")),
                f"{len(data['slides']):,}",
            )
        )
    header = ("", *columns, CEILING, "calibration error", "slides")
    splits = {str(data["split"]) for data in found.values()}
    text = [f"{name}: {note}" for name, data in found.items() for note in mean_notes(data)]
    if len(splits) > 1:
        text.insert(
            0, f"These are of different splits ({', '.join(sorted(splits))}): other slides, other numbers."
        )
    sections = [
        Section(
            title="Measures",
            text=[
                f"At full resolution, pooled over all pixels. {CEILING} is what the sampling alone allows. Below the "
                "numbers: 95 % intervals (bootstrap).",
                *text,
            ],
            table=Table(header=header, rows=tuple(rows), best=_best_cells(values)),
        )
    ]
    first, *others = found
    lines = []
    for name in others:
        same = _same_slides(found[first], found[name])
        if not same:
            lines.append(f"{name} and {first} have no slide in common.")
            continue
        one, other, groups, of = same
        difference = _miou(other) - _miou(one)
        drawn = Resamples.of(groups)
        interval = None if drawn is None else difference_of_miou(other, one, drawn)
        said = "" if interval is None or drawn is None else (
            f" (95 % interval {ends(interval, '+.3f')}, over {drawn.groups} {of})"
        )  # fmt: skip
        lines.append(
            f"{name} less {first}: mIoU {difference:+.3f}{said}, on the {len(one):,} slides of both."
        )
    if lines:
        sections.append(
            Section(
                title="Difference on the same slides",
                text=[
                    "How hard the slides are cancels out: such an interval is narrower than those above. One that "
                    "holds 0 tells no difference.",
                    *lines,
                ],
                heading=3,
            )
        )
    return sections


def _best_cells(values: Sequence[Sequence[float | None]]) -> frozenset[tuple[int, int]]:
    """The largest of each column, to three digits, where there are several rows."""
    best = set()
    for column in range(len(values[0]) if len(values) > 1 else 0):
        shown = [None if row[column] is None else round(float(row[column] or 0.0), 3) for row in values]
        known = [value for value in shown if value is not None]
        best |= {(row, column + 1) for row, value in enumerate(shown) if known and value == max(known)}
    return frozenset(best)


def _same_slides(
    one: Data, other: Data
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[str], str] | None:
    """Counts of the slides that both have, and whose they are; None where there is none."""
    held = [{slide["slide_id"]: slide for slide in data["slides"]} for data in (one, other)]
    both = [name for name in held[0] if name in held[1]]
    if not both or any("confusion" not in each[name]["predicted"] for each in held for name in both):
        return None
    counts = [[np.array(each[name]["predicted"]["confusion"], np.int64) for name in both] for each in held]
    patients = [held[0][name].get("patient") for name in both]
    by_patient = all(patients)
    groups = [str(patient) if by_patient else name for patient, name in zip(patients, both, strict=True)]
    return counts[0], counts[1], groups, "patients" if by_patient else "slides"


def _miou(counts: Sequence[NDArray[np.int64]]) -> float:
    return Confusion(np.sum(counts, axis=0)).miou()


def _classes(found: Mapping[str, Data]) -> list[Section]:
    """IoU of each class side by side; all else of each result below."""
    classes = list(next(iter(found.values()))["pooled"]["predicted"]["iou"])
    rows = tuple(
        (
            name,
            *(
                cell(data["pooled"]["predicted"]["iou"][of], SHARE,
                     ((data.get("intervals") or {}).get("iou") or {}).get(of))
                for of in classes
            ),
        )
        for name, data in found.items()
    )  # fmt: skip
    values = [[data["pooled"]["predicted"]["iou"][of] for of in classes] for data in found.values()]
    pictures = []
    if len(found) <= FIGURED:
        points = {
            name: [
                Measure(
                    name=of, value=value, interval=((data.get("intervals") or {}).get("iou") or {}).get(of)
                )
                for of, value in data["pooled"]["predicted"]["iou"].items()
            ]
            for name, data in found.items()
        }
        first = next(iter(found.values()))
        colours = dict(zip(classes, first.get("colours", []), strict=False))
        pictures.append(
            Picture.drawn(
                "classes",
                "IoU of each class; a bar is a 95 % interval.",
                partial(intervals_figure, points, colours),
            )
        )
    sections = [
        Section(
            title="IoU of each class",
            table=Table(header=("", *classes), rows=rows, best=_best_cells(values)),
            pictures=pictures,
        )
    ]
    sections += [
        Section(
            title=f"Every measure of each class: {name} ({', '.join(SHARES.values())}, borders)",
            table=class_table(data, "predicted"),
            heading=3,
            folded=True,
        )
        for name, data in found.items()
        if "dice" in data["pooled"]["predicted"]
    ]
    return sections


def _cost(found: Mapping[str, Data]) -> list[Section]:
    """Mean cost of a slide beside the mean IoU, as a table and as figures."""
    means = {
        name: mean_cost_of_rows([slide["cost"] for slide in data["slides"]])
        for name, data in found.items()
        if data["slides"] and all(slide.get("cost") for slide in data["slides"])
    }
    known = [key for key in COSTS if any(each.get(key) is not None for each in means.values())]
    if not known:
        return []
    rows, points = [], []
    for name, costs in means.items():
        data = found[name]
        miou, interval = data["pooled"]["predicted"]["miou"], (data.get("intervals") or {}).get("miou")
        points.append(Measure(name=name, value=miou, interval=interval))
        rows.append((name, cell(miou, SHARE, interval), *(cost_cell(key, costs[key]) for key in known)))
    pictures = []
    for key in DRAWN_COSTS:
        word, scale, _ = COSTS[key]
        own = [
            Measure(name=point.name, value=point.value, interval=point.interval, cost=amount / scale)
            for point in points
            if (amount := means[point.name].get(key)) is not None
        ]
        if len(own) > 1:
            pictures.append(
                Picture.drawn(
                    f"cost-{key.replace('_', '-')}",
                    f"mIoU against {word}; a bar is a 95 % interval.",
                    partial(cost_figure, own, cost=f"{word}, of a slide"),
                )
            )
    return [
        Section(
            title="Cost beside accuracy",
            text=["Of a slide, on average; memory is the largest. Further up and further left is better."],
            table=Table(header=("", MIOU, *(COSTS[key][0] for key in known)), rows=tuple(rows)),
            pictures=pictures,
        )
    ]


def _matrices(found: Mapping[str, Data]) -> list[Section]:
    """The confusion matrix of each result, hidden until it is asked for."""
    sections = []
    for name, data in found.items():
        pooled = data["pooled"]["predicted"]
        if "confusion" in pooled:
            counts = np.array(pooled["confusion"], np.int64)
            sections.append(
                Section(
                    title=f"Which class is taken for which: {name}",
                    table=confusion_table(counts, list(pooled["iou"])),
                    heading=3,
                    folded=True,
                )
            )
    return sections


def _different_slides(compared: Sequence[Compared], found: Mapping[str, Data], names: Names) -> list[Section]:
    """Slides where the last result is furthest ahead of the first one, and furthest behind."""
    with_masks = [each for each in compared if each.folder is not None and each.name in found]
    if len(with_masks) < 2:
        return []
    scores = [
        {
            slide["slide_id"]: slide["predicted"]["miou"]
            for slide in found[each.name]["slides"]
            if slide["predicted"]["miou"] is not None
        }
        for each in with_masks
    ]
    first, last = scores[0], scores[-1]
    done = [
        {state.slide_id: state.result for state in each.states if state.result is not None}
        for each in with_masks
    ]
    both = sorted(
        (name for name in first if name in last and all(name in each for each in done)),
        key=lambda name: last[name] - first[name],
    )
    chosen = (
        both if len(both) <= 2 * SHOWN_EACH_WAY else [*both[-SHOWN_EACH_WAY:][::-1], *both[:SHOWN_EACH_WAY]]
    )
    if not chosen:
        return []
    sections = [
        Section(
            title="Slides that differ most",
            text=[
                f"{len(chosen)} of the {len(both):,} slides with measured masks of both are shown: those where "
                f"{with_masks[-1].name} is "
                f"furthest ahead of {with_masks[0].name}, then those where it is furthest behind."
            ],
        )
    ]
    for name in chosen:
        for each, own, results in zip(with_masks, scores, done, strict=True):
            if each.folder is not None:
                said = f"mIoU {own[name]:.3f}, {each.name}" if name in own else each.name
                sections.append(slide_section(each.folder, Shown(state=results[name], why=said), names))
    return sections
