"""Figures of an evaluation, from its rows: objects by size, trimap, calibration, class frequency.

Each gives PNG bytes, or with ``form="svg"`` SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from wsi_deform.drawing.figures import FAINT, INK, LINE_COLOURS, Form, png_bytes, svg_bytes
from wsi_deform.drawing.names import plain

Row = Mapping[str, Any]
Colours = Mapping[str, Sequence[int]]

UNITS = {"um": "µm", "px": "px", "um^2": "µm²", "px^2": "px²"}
HEIGHT_IN = 3.6


def objects_figure(rows: Sequence[Row], colours: Colours, form: Form = "png") -> bytes:
    """Draw which share of the objects of each size was touched, and which covered by half.

    Args:
        rows: Of ``evaluate.rows.object_rows``; sizes of one unit are drawn, um^2 where there are some.
        colours: Class -> RGB, 0 to 255.
        form: What it is written as.

    Returns:
        PNG bytes: a group of bars per size, a bar per class; pale what was touched, full what is half covered.
    """
    unit = "um^2" if any(row["unit"] == "um^2" for row in rows) else "px^2"
    rows = [row for row in rows if row["unit"] == unit and row["from"] is not None and row["objects"]]
    sizes = sorted({(row["from"], row["to"]) for row in rows}, key=lambda size: size[0])
    names = list(dict.fromkeys(row["class"] for row in rows))
    figure = Figure(
        figsize=(max(6.0, 1.2 + 1.7 * len(sizes)), HEIGHT_IN), layout="constrained", facecolor="white"
    )
    axes = figure.subplots()
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        own = {(row["from"], row["to"]): row for row in rows if row["class"] == name}
        at = [
            place + (number - (len(names) - 1) / 2) * width for place, size in enumerate(sizes) if size in own
        ]
        found = [own[size] for size in sizes if size in own]
        colour = np.divide(colours.get(name, (90, 90, 90)), 255)
        touched = [row["touched"] / row["objects"] for row in found]
        half = [row["half_covered"] / row["objects"] for row in found]
        axes.bar(at, touched, width * 0.92, color=colour, alpha=0.35, linewidth=0)
        axes.bar(at, half, width * 0.92, color=colour, linewidth=0, label=plain(name))
        for x, top, row in zip(at, touched, found, strict=True):
            axes.text(
                x, top + 0.015, f"{row['objects']:,}", ha="center", va="bottom", fontsize=7, color=FAINT
            )
    axes.set_xticks(range(len(sizes)), [_size_text(*size) for size in sizes])
    axes.set(
        xlabel=f"area of the object, {UNITS[unit]}",
        ylabel="share of objects found",
        ylim=(0, 1.1),
        xlim=(-0.6, len(sizes) - 0.4),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _tidy(axes, "full: half covered; pale: touched; number of objects above")
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def trimap_figure(rows: Sequence[Row], form: Form = "png") -> bytes:
    """Draw accuracy and mIoU against the width of the band.

    Args:
        rows: Of ``evaluate.rows.trimap_rows``.
        form: What it is written as.

    Returns:
        PNG bytes: a panel per unit.
    """
    rows = [row for row in rows if row["pixels"]]
    units = [unit for unit in ("um", "px") if any(row["unit"] == unit for row in rows)]
    figure = Figure(figsize=(5.4 * max(1, len(units)), HEIGHT_IN), layout="constrained", facecolor="white")
    for axes, unit in zip(np.atleast_1d(figure.subplots(1, max(1, len(units)))), units, strict=False):
        own = [row for row in rows if row["unit"] == unit]
        widths = [row["width"] for row in own]
        for key, label, colour in (
            ("accuracy", "accuracy", LINE_COLOURS[0]),
            ("miou", "mIoU", LINE_COLOURS[1]),
        ):
            values = [np.nan if row[key] is None else row[key] for row in own]
            axes.plot(widths, values, color=colour, marker="o", markersize=4, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [f"{width:g}" for width in widths])
        axes.minorticks_off()
        axes.set(xlabel=f"distance to a true border less than, {UNITS[unit]}", ylim=(0, 1))
        _tidy(axes)
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def calibration_figure(calibration: Mapping[str, Any], form: Form = "png") -> bytes:
    """Draw how often the network is right at each probability.

    Args:
        calibration: Of ``evaluate.rows.calibration_data``.
        form: What it is written as.

    Returns:
        PNG bytes: the predicted class on the left, how many points there are on the right.
    """
    bins = [row for row in calibration["bins"] if row["class"] == ""]
    figure = Figure(figsize=(8.6, HEIGHT_IN), layout="constrained", facecolor="white")
    right, many = figure.subplots(1, 2)
    filled = [row for row in bins if row["points"]]
    width = 1 / len(bins)
    right.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
    right.bar(
        [(row["from"] + row["to"]) / 2 for row in filled],
        [row["share_right"] for row in filled],
        width * 0.94,
        color=LINE_COLOURS[4],
        linewidth=0,
    )
    right.plot(
        [row["mean_probability"] for row in filled],
        [row["share_right"] for row in filled],
        color=LINE_COLOURS[0],
        marker="o",
        markersize=3.5,
        label="predicted class",
    )
    error = calibration["expected_calibration_error"]
    right.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    _tidy(right, None if error is None else f"expected calibration error {error:.3f}")
    total = max(1, sum(row["points"] for row in bins))
    many.bar(
        [(row["from"] + row["to"]) / 2 for row in bins],
        [row["points"] / total for row in bins],
        width * 0.94,
        color=LINE_COLOURS[0],
        linewidth=0,
    )
    many.set(xlabel="probability", ylabel="share of points", xlim=(0, 1))
    many.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    _tidy(many, f"{total:,} points of {calibration['of']}")
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def frequency_figure(rows: Sequence[Row], form: Form = "png") -> bytes:
    """Draw which share of samples and of pixels each class has, and the change.

    Args:
        rows: Of ``evaluate.rows.frequency_rows``.
        form: What it is written as.

    Returns:
        PNG bytes: shares on the left; on the right ratio - 1, above 0 what is sampled more than evenly.

    Source:
        Jin et al., ICLR 2022, figure 13.
    """
    rows = [row for row in rows if row["pixels"]]
    names = [plain(row["class"]) for row in rows]
    at = np.arange(len(rows))
    height = max(2.4, 0.9 + 0.42 * len(rows))
    figure = Figure(figsize=(10, height), layout="constrained", facecolor="white")
    shares, change = figure.subplots(1, 2)
    for offset, key, label, colour in (
        (-0.2, "share_of_samples", "samples", LINE_COLOURS[0]),
        (0.2, "share_of_pixels", "pixels", "#b7bcc4"),
    ):
        values = [row[key] or 0.0 for row in rows]
        shares.barh(at + offset, values, 0.38, color=colour, label=label, linewidth=0)
    shares.set_yticks(at, names)
    shares.margins(x=0.3)  # room for the legend
    shares.set(xlabel="share of the labelled samples, and pixels", ylim=(len(rows) - 0.4, -0.6))
    shares.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    _tidy(shares, along="x")
    values = [(row["ratio"] or 0.0) - 1 for row in rows]
    bars = change.barh(
        at, values, 0.6, color=[LINE_COLOURS[2] if v >= 0 else LINE_COLOURS[1] for v in values]
    )
    change.bar_label(bars, [f"{value:+.0%}" for value in values], padding=3, fontsize=8, color=INK)
    change.axvline(0, color=FAINT, linewidth=1)
    change.margins(x=0.18)
    change.set_yticks(at, names)
    change.set(xlabel="share of samples / share of pixels - 1", ylim=(len(rows) - 0.4, -0.6))
    change.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _tidy(change, along="x")
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def _size_text(begin: float, end: float | None) -> str:
    if end is None:
        return f"{_number(begin)} or more"
    return f"less than {_number(end)}" if begin == 0 else f"{_number(begin)} to {_number(end)}"


def _number(value: float) -> str:
    for scale, letter in ((1e6, " M"), (1e3, " k")):
        if value >= scale and value % scale == 0:
            return f"{value / scale:g}{letter}"
    return f"{value:,.0f}"


def _tidy(axes: Axes, title: str | None = None, *, along: Literal["x", "y"] = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(plain(title), loc="left", fontsize=9, color=FAINT)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9, loc="best")
