"""Where the time of a training run goes, and how much of what it samples is labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from wsi_deform.drawing.figures import LINE_COLOURS, WIDTH_IN, Form, png_bytes, svg_bytes
from wsi_deform.drawing.run_figures import LogRow
from wsi_deform.report.files import duration

PARTS = {"read_seconds": "reading", "forward_seconds": "forward", "backward_seconds": "backward"}
OTHER = "other"
PART_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#d5d9de")
NEEDED = ("seconds", *PARTS, "samples_per_second", "labelled_share")


def timed_rows(rows: Sequence[LogRow]) -> list[LogRow]:
    """The epochs whose time was split; logs of older versions have none."""
    return [row for row in rows if all(name in row for name in NEEDED)]


def pace_text(rows: Sequence[LogRow]) -> str:
    """The split of all epochs in a sentence.

    Args:
        rows: Of ``timed_rows``, one or more.
    """
    seconds = sum(row["seconds"] for row in rows)
    shares = [
        f"{word} {sum(row[name] for row in rows) / max(seconds, 1e-9):.0%}" for name, word in PARTS.items()
    ]
    samples = sum(row["samples_per_second"] * row["seconds"] for row in rows)
    labelled = sum(row["labelled_share"] for row in rows) / len(rows)
    return (
        f"{duration(seconds)} in training steps: {', '.join(shares)}. {samples / max(seconds, 1e-9):,.0f} samples "
        f"per second; {labelled:.0%} of them lay on labelled pixels. Validation is not counted."
    )


def pace_figure(rows: Sequence[LogRow], form: Form = "png") -> bytes:
    """Draw seconds per epoch by what they went into, samples per second, and the labelled share.

    Args:
        rows: Of ``timed_rows``, one or more.
        form: What it is written as.

    Returns:
        PNG or SVG bytes. An epoch many times as long as most (the first one fills caches) is cut off.
    """
    figure = Figure(figsize=(WIDTH_IN, 3.1), layout="constrained", facecolor="white")
    times, speeds, shares = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    epochs = np.array([row["epoch"] for row in rows])
    whole = np.array([row["seconds"] for row in rows])
    parts = {word: np.array([row[name] for row in rows]) for name, word in PARTS.items()}
    parts[OTHER] = np.maximum(whole - sum(parts.values()), 0)
    edges = np.append(epochs - 0.5, epochs[-1] + 0.5)
    bottom = np.zeros(len(rows))
    for (word, values), colour in zip(parts.items(), PART_COLOURS, strict=True):
        times.stairs(bottom + values, edges, baseline=bottom, fill=True, color=colour, label=word)
        bottom = bottom + values
    times.set(ylabel="seconds per epoch", ylim=(0, 1.25 * _usual(bottom)))
    times.legend(frameon=False, fontsize=9, ncols=4, loc="upper left", handlelength=1, columnspacing=1.2)
    pace = np.array([row["samples_per_second"] for row in rows])
    share = np.array([row["labelled_share"] for row in rows])
    for axes, values, label, colour in (
        (speeds, pace, "samples per second", LINE_COLOURS[2]),
        (shares, share, "samples on labelled pixels", LINE_COLOURS[3]),
    ):
        axes.plot(epochs, values, color=colour, marker="." if len(rows) < 40 else None, markersize=5)
        axes.set(ylabel=label, ylim=(0, 1.15 * float(values.max()) or 1))
    speeds.yaxis.set_major_formatter("{x:,.0f}")
    shares.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    for axes in (times, speeds, shares):
        _tidy(axes, float(edges[0]), float(edges[-1]))
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def _usual(seconds: np.ndarray) -> float:
    """The longest epoch that is not out of all proportion."""
    return float(min(seconds.max(), 4 * np.median(seconds))) or 1.0


def _tidy(axes: Axes, first: float, last: float) -> None:
    axes.set(xlabel="epoch", xlim=(first, last))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
