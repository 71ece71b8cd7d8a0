"""Figures of the studies, as PNG bytes: drawn from records alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from PIL import Image

from wsi_deform.drawing.figures import FAINT, INK, LINE_COLOURS

DPI = 72
BAR = 0.8


def bars(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]], *, title: str, y_label: str
) -> bytes:
    """Grouped bars with intervals.

    Args:
        values: Group -> bar -> (value, low, high), in points; where low and high are the value there is no interval.
        title: Above.
        y_label: What the bars are.
    """
    groups = list(values)
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    figure = Figure(
        figsize=(max(6.0, 1.1 * len(groups) * max(2, len(names)) * 0.45 + 2), 4.2), layout="constrained"
    )
    axes = figure.subplots()
    width = BAR / max(1, len(names))
    for number, name in enumerate(names):
        held = [(place, values[group][name]) for place, group in enumerate(groups) if name in values[group]]
        x = [place + (number - (len(names) - 1) / 2) * width for place, _ in held]
        y = np.array([each[1] for each in held])
        axes.bar(
            x,
            y[:, 0],
            width * 0.92,
            label=name,
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            hatch="//" if number >= len(LINE_COLOURS) else None,
            edgecolor="white",
            linewidth=0,
        )
        spread = np.abs(np.stack([y[:, 0] - y[:, 1], y[:, 2] - y[:, 0]]))
        if spread.any():
            axes.errorbar(x, y[:, 0], yerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", color=INK)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    if names:
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return _png(figure, axes_list=[axes])


def lines(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
) -> bytes:
    """Lines with bands.

    Args:
        curves: Name -> points (x, y, low, high), x rising.
        title: Above.
        x_label: Below.
        y_label: At the side.
        log_x: Whether x is logarithmic, base 10.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        if not points:
            continue
        x, y, low, high = np.array(points, dtype=float).T
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        axes.plot(
            x,
            y,
            marker="o",
            markersize=4,
            color=colour,
            label=name,
            linestyle="--" if number >= len(LINE_COLOURS) else "-",
        )
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", color=INK)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    return _png(figure, axes_list=[axes])


def _png(figure: Figure, axes_list: Sequence[object]) -> bytes:
    for axes in axes_list:
        axes.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
        axes.tick_params(colors=FAINT)  # type: ignore[attr-defined]
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    # Few colours: a palette makes the file of figures with many bands a third of its size.
    small = io.BytesIO()
    Image.open(stream).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()
