"""The page of a manifest check: what is wrong, what is worth knowing, and every slide in a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_table import NO_SPLIT, UNKNOWN, class_pixels
from wsi_deform.annotation.row_check import RowFindings
from wsi_deform.cells import safe_row
from wsi_deform.drawing.figures import FAINT, INK, WIDTH_IN, png_bytes
from wsi_deform.drawing.names import plain
from wsi_deform.files import write_aside
from wsi_deform.manifest.licences import licences_of, licences_text
from wsi_deform.manifest.problems import Problem, counted, lines_by_kind
from wsi_deform.manifest.rows import SPLITS
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.tables import NOTHING, Table

PAGE, TABLE = "check.html", "slides.csv"
COLUMNS = ("slide", "line", "split", "size, px", "mpp, µm", "levels", "written by")
UNLABELLED_COLOUR, UNKNOWN_COLOUR = "#ffffff", "#000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A manifest that was checked.

    Attributes:
        name: File name of the manifest.
        found: Of each row, in their order.
        problems: What is wrong.
        remarks: What is worth knowing.
        classes: What mask values mean, or None.
    """

    name: str
    found: Sequence[RowFindings]
    problems: Sequence[Problem]
    remarks: Sequence[str]
    classes: ClassTable | None


def report_check(checked: Checked, path: Path, *, provenance: Mapping[str, Any]) -> list[Path]:
    """Write the report of a check.

    Args:
        checked: What was found.
        path: A page, ``.html``; or a folder, made where it is not there, that gets ``check.html`` and the table as
            ``slides.csv``.
        provenance: Put below the page.

    Returns:
        What was written; each is whole or absent.
    """
    rows = slide_rows(checked)
    if path.suffix.lower() in (".html", ".htm"):
        return [_page(checked, rows, path, provenance)]
    path.mkdir(parents=True, exist_ok=True)
    table = path / TABLE
    with write_aside(table) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(safe_row(rows[0]))
        writer.writerows(safe_row("" if cell == NOTHING else cell for cell in row.values()) for row in rows)
    return [_page(checked, rows, path / PAGE, provenance), table]


def slide_rows(checked: Checked) -> list[dict[str, str]]:
    """Column -> cell of every row: what is known of the slide, and the share of each class in its labels."""
    rows = []
    for found in checked.found:
        slide, row = found.slide, found.row
        cells = dict.fromkeys(COLUMNS, NOTHING)
        cells |= {"slide": row.slide_id, "line": str(row.line), "split": row.split or NO_SPLIT}
        if slide is not None:
            mpp = slide.mpp
            cells |= {
                "size, px": f"{slide.size.width} x {slide.size.height}",
                "levels": str(slide.stored_levels),
                "written by": slide.vendor,
            }
            if mpp is not None:
                cells["mpp, µm"] = f"{mpp.x:.4g}" + (f" x {mpp.y:.4g}" if mpp.x != mpp.y else "")
        shares = shares_of(found, checked.classes)
        cells |= {
            f"{name}, %": f"{100 * shares[name]:.1f}" if shares else NOTHING for name in _names(checked)
        }
        remarks = [problem.found for problem in found.problems]
        remarks += [*(slide.remarks if slide is not None else ()), *found.outline_remarks]
        rows.append(cells | {"remarks": "; ".join(remarks) or NOTHING})
    return rows


def shares_of(found: RowFindings, classes: ClassTable | None) -> dict[str, float]:
    """Share of each class in the pixels of a row's labels, and of what is unlabelled or has no meaning.

    Returns:
        Name -> 0 to 1, summing to 1; empty where labels were not counted.
    """
    if found.values is None or classes is None:
        return {}
    pixels = class_pixels(found.values, classes)
    keys: list[tuple[int | None, str]] = [
        *enumerate(classes.names),
        (UNLABELLED, "unlabelled"),
        (None, UNKNOWN),
    ]
    total = max(1, sum(pixels.values()))
    return {name: pixels.get(index, 0) / total for index, name in keys}


def check_figure(checked: Checked) -> bytes:
    """Draw the labels of each slide as a bar, and size and scale of each slide as a point; PNG bytes.

    Args:
        checked: What was found; one row or more whose slide opened.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained", facecolor="white")
    bars, points = figure.subplots(1, 2, width_ratios=(2, 1))
    order = {split: place for place, split in enumerate((*SPLITS, None))}
    labelled = [each for each in checked.found if each.values is not None and checked.classes is not None]
    labelled.sort(key=lambda each: order[each.row.split])
    if checked.classes is not None and labelled:
        shares = [shares_of(each, checked.classes) for each in labelled]
        colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in checked.classes.colours]
        bottom = np.zeros(len(shares))
        for name, colour in zip(shares[0], (*colours, UNLABELLED_COLOUR, UNKNOWN_COLOUR), strict=True):
            own = np.array([each[name] for each in shares])
            if own.any():
                bars.bar(np.arange(len(own)), own, 1.0, bottom=bottom, color=colour, label=plain(name))
            bottom = bottom + own
        splits = [each.row.split for each in labelled]
        for split in dict.fromkeys(splits):
            first, count = splits.index(split), splits.count(split)
            bars.axvline(first - 0.5, color=INK, linewidth=0.8)
            bars.text(first + (count - 1) / 2, 1.02, f"{split or NO_SPLIT}: {count}", ha="center", color=INK)
        bars.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
        bars.set_xlim(-0.5, len(labelled) - 0.5)
    bars.set(ylim=(0, 1), xlabel="slides with labels", xticks=[])
    bars.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    opened = [each.slide for each in checked.found if each.slide is not None]
    area_mpx = [slide.size.area / 1e6 for slide in opened]
    mpp = [np.nan if slide.mpp is None else float(np.sqrt(slide.mpp.x * slide.mpp.y)) for slide in opened]
    if np.isnan(mpp).all():
        points.hist(area_mpx, bins=20, color=FAINT)
        points.set(xlabel="size of a slide, megapixels", ylabel="slides")
    else:
        points.plot(area_mpx, mpp, "o", color=INK, alpha=0.5, markersize=4)
        points.set(xlabel="size of a slide, megapixels", ylabel="µm per pixel", ylim=(0, None))
    points.set_xlim(0, None)
    for axes in (bars, points):
        axes.spines[["top", "right"]].set_visible(False)
    return png_bytes(figure)


def _names(checked: Checked) -> list[str]:
    """Classes, and what is unlabelled or has no meaning where there is any."""
    if checked.classes is None:
        return []
    shares = [shares_of(found, checked.classes) for found in checked.found]
    more = [name for name in ("unlabelled", UNKNOWN) if any(own.get(name) for own in shares)]
    return [*checked.classes.names, *more]


def _page(
    checked: Checked, rows: Sequence[Mapping[str, str]], path: Path, provenance: Mapping[str, Any]
) -> Path:
    found = checked.found
    opened = sum(each.slide is not None for each in found)
    facts = [
        Fact(value=str(len(found)), what="slides"),
        Fact(value=str(sum(each.values is not None for each in found)), what="with labels that were counted"),
        Fact(value=str(len(checked.problems)), what="problem" if len(checked.problems) == 1 else "problems"),
    ]
    sections = []
    if checked.problems:
        lines = tuple((line.splitlines()[0],) for line in lines_by_kind(checked.problems))
        sections.append(
            Section(title="What is wrong", table=Table(header=("problem",), rows=lines, is_text=True))
        )
    if checked.remarks:
        sections.append(Section(title="Worth knowing", text=[f"{remark}." for remark in checked.remarks]))
    if opened:
        caption = (
            "Left: share of each class in the labels of each slide. Right: size and scale of the slides."
        )
        sections.append(
            Section(
                title="Labels and slides", pictures=[Picture(image=check_figure(checked), caption=caption)]
            )
        )
    table = Table(header=tuple(rows[0]), rows=tuple(tuple(row.values()) for row in rows), is_text=True)
    licences = licences_text(licences_of(each.row for each in found))
    sections.append(Section(title="Every slide", text=[f"Licences of the data: {licences}."], table=table))
    return write_report(
        path,
        title=f"Manifest check: {checked.name}",
        lead=[f"Every slide and label file was opened: {counted(checked.problems)}."],
        facts=facts,
        sections=sections,
        provenance=provenance,
    )
