"""Figures of results: which class is taken for which, how sure measures are, and what accuracy costs.

Each gives PNG bytes, or with ``form="svg"`` SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from wsi_deform.drawing.figures import FAINT, INK, LINE_COLOURS, Form, figure_bytes
from wsi_deform.drawing.names import plain
from wsi_deform.drawing.run_figures import GRID, MARKERS, PANEL_IN

CELL_IN = 0.62
MOST_NAMED = 12
"""Of more classes the cells are too small for numbers."""
TOLD_APART = 6
"""Of more points nobody tells colours and markers apart: all have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measure of something, as a figure shows it.

    Attributes:
        name: Of what.
        value: In [0, 1], or None where it was not measured.
        interval: Its 95 % interval, or None.
        cost: What it cost, in the unit that the figure names; None where nobody counted.
    """

    name: str
    value: float | None
    interval: Sequence[float] | None = None
    cost: float | None = None


def confusion_figure(counts: NDArray[np.int64], names: Sequence[str], form: Form = "png") -> bytes:
    """Draw which share of the pixels of each class was taken for which.

    Args:
        counts: (C, C) pixels ``[true, predicted]``.
        names: Of the classes.
        form: What it is written as.
    """
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = 1.9 + CELL_IN * max(3, len(names))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained", facecolor="white")
    axes = figure.subplots()
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    said = [plain(name) for name in names]
    axes.set_xticks(range(len(said)), said, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(said)), said)
    axes.set(xlabel="class of the mask", ylabel="class of the labels")
    if len(names) <= MOST_NAMED:
        for (row, column), value in np.ndenumerate(share):
            text = "–" if np.isnan(value) else f"{value:.1%}"
            colour = "white" if value > 0.6 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, format=FuncFormatter(lambda value, _: f"{value:.0%}"))
    bar.outline.set_visible(False)
    bar.set_label("share of the pixels of the labels")
    return figure_bytes(figure, form)


def intervals_figure(
    measures: Mapping[str, Sequence[Measure]], colours: Mapping[str, Sequence[int]], form: Form = "png"
) -> bytes:
    """Draw measures of classes as points with their intervals.

    Args:
        measures: Measure -> a point per class, the classes the same for each.
        colours: Class -> RGB, 0 to 255; others are grey.
        form: What it is written as.
    """
    names = list(dict.fromkeys(point.name for points in measures.values() for point in points))
    height = max(1.9, 1.0 + 0.3 * len(names) * max(1, 0.6 * len(measures)))
    figure = Figure(figsize=(PANEL_IN[0], height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    step = 0.7 / max(1, len(measures))
    for number, ((measure, points), marker) in enumerate(zip(measures.items(), cycle(MARKERS), strict=False)):
        for point in points:
            if point.value is None:
                continue
            y = names.index(point.name) + (number - (len(measures) - 1) / 2) * step
            colour = np.divide(colours.get(point.name, (75, 85, 99)), 255)
            if point.interval is not None:
                axes.plot(
                    point.interval, [y, y], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt"
                )
            axes.plot(point.value, y, marker=marker, markersize=6, color=colour, markeredgecolor=INK,
                      markeredgewidth=0.6)  # fmt: skip
        if len(measures) > 1:
            axes.plot([], [], marker=marker, linestyle="", color=FAINT, label=measure)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel(next(iter(measures), "") if len(measures) == 1 else "")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if len(measures) > 1:
        figure.legend(loc="outside upper right", ncols=len(measures), frameon=False, fontsize=9)
    return figure_bytes(figure, form)


def cost_figure(points: Sequence[Measure], *, cost: str, measure: str = "mIoU", form: Form = "png") -> bytes:
    """Draw accuracy against what it cost: further up and further left is better.

    Args:
        points: Methods, or slides, with their cost; those without are left out.
        cost: The cost and its unit, the words of the x axis.
        measure: The words of the y axis.
        form: What it is written as.
    """
    figure = Figure(figsize=PANEL_IN, layout="constrained", facecolor="white")
    axes = figure.subplots()
    known = [
        (point.name, point.cost, point.value, point.interval)
        for point in points
        if point.value is not None and point.cost is not None
    ]
    few = len(known) <= TOLD_APART
    for (name, amount, value, interval), one, shape in zip(
        known, cycle(LINE_COLOURS), cycle(MARKERS), strict=False
    ):
        colour, marker = (one, shape) if few else (LINE_COLOURS[0], "o")
        if interval is not None:
            axes.plot([amount] * 2, interval, color=colour, linewidth=2, alpha=0.45)
        axes.plot(
            [amount], [value], linestyle="", markersize=7 if few else 4.5, alpha=1 if few else 0.6, color=colour,
            markeredgewidth=0, label=plain(name) if few else None, marker=marker,
        )  # fmt: skip
    costs = [amount for _, amount, _, _ in known]
    wide = bool(costs) and min(costs) > 0 and max(costs) > 20 * min(costs)
    if wide:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.12 * max(costs, default=1.0) or 1.0)
    axes.set(xlabel=cost, ylabel=measure, ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if few and known:
        axes.legend(frameon=False, fontsize=9, loc="best")
    return figure_bytes(figure, form)
