"""Figures of training runs, a panel each, so that they can be read on a telephone too: losses, validation, rates.

Each gives PNG bytes, or with ``form="svg"`` SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wsi_deform.drawing.figures import LINE_COLOURS, Form, figure_bytes
from wsi_deform.drawing.names import plain

LogRow = Mapping[str, float]
Runs = Mapping[str, Sequence[LogRow]]

PANEL_IN = (5.2, 3.4)
MARKERS = "os^Dv*"
"""Besides their colours: runs are told apart without seeing colours."""
PARTS = {"segmentation_loss": ("segmentation loss", (0, (5, 2))), "edge_loss": ("edge loss", (0, (1, 1.5)))}
RATES = {
    "learning_rate": ("learning rate", "-"),
    "deformation_learning_rate": ("of the deformation network", (0, (5, 2))),
}
GRID = "#e5e7eb"
LEGEND_BELOW_RUNS = 4


def loss_figure(runs: Runs, form: Form = "png") -> bytes:
    """Draw the training loss as ``log.csv`` has it, and its parts.

    Args:
        runs: Name -> one mapping per epoch with ``epoch`` and ``loss``, and where there are several parts
            ``segmentation_loss`` and ``edge_loss``.
        form: What it is written as.
    """
    figure, axes = _panel("epoch", "training loss")
    for (name, rows), colour in zip(runs.items(), cycle(LINE_COLOURS), strict=False):
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["loss"] for row in rows], color=colour, label=_label(runs, name, "loss"))
        if not any(row.get("edge_loss", 0.0) for row in rows):
            continue  # then the loss is that of segmentation
        for key, (word, dashes) in PARTS.items():
            values = [row.get(key, float("nan")) for row in rows]
            label = _label(runs, name, word)
            axes.plot(epochs, values, color=colour, linestyle=dashes, linewidth=1, label=label)
    axes.set_ylim(0, None)
    return _finished(figure, axes, runs, form)


def scores_figure(runs: Runs, form: Form = "png") -> bytes:
    """Draw the validation mIoU at full resolution; a ring marks the best epoch.

    Args:
        runs: Name -> one mapping per epoch, with ``val_miou`` where it was validated.
        form: What it is written as.
    """
    figure, axes = _panel("epoch", "validation mIoU, full resolution")
    for (name, rows), colour, marker in zip(runs.items(), cycle(LINE_COLOURS), cycle(MARKERS), strict=False):
        validated = [row for row in rows if "val_miou" in row]
        if not validated:
            continue
        best = max(validated, key=lambda row: row["val_miou"])
        said = f"best {best['val_miou']:.3f}, epoch {int(best['epoch'])}{over_text(best)}"
        axes.plot(
            [row["epoch"] for row in validated],
            [row["val_miou"] for row in validated],
            color=colour,
            marker=marker,
            markersize=3.5,
            label=f"{plain(name)} ({said})" if len(runs) > 1 else said,
        )
        axes.plot(best["epoch"], best["val_miou"], "o", color=colour, markersize=9, markerfacecolor="none")
    axes.set_ylim(0, 1)
    return _finished(figure, axes, runs, form)


def rates_figure(runs: Runs, form: Form = "png") -> bytes:
    """Draw the learning rates.

    Args:
        runs: Name -> one mapping per epoch with ``learning_rate`` and, where it differs,
            ``deformation_learning_rate``.
        form: What it is written as.
    """
    figure, axes = _panel("epoch", "learning rate")
    for (name, rows), colour in zip(runs.items(), cycle(LINE_COLOURS), strict=False):
        epochs = [row["epoch"] for row in rows]
        for key, (word, dashes) in RATES.items():
            values = [row.get(key, float("nan")) for row in rows]
            if any(value > 0 for value in values):
                axes.plot(epochs, values, color=colour, linestyle=dashes, label=_label(runs, name, word))
    axes.set_ylim(0, None)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    return _finished(figure, axes, runs, form)


def over_text(row: LogRow) -> str:
    """Of how many classes the validation mIoU of an epoch is the mean, ", over 3 of 5 classes"; "" where of all.

    Logs of older versions do not say.
    """
    absent = int(row.get("val_classes_absent", 0))
    return f", over {int(row['val_classes'])} of {int(row['val_classes']) + absent} classes" if absent else ""


def _label(runs: Runs, name: str, what: str) -> str:
    """What a line is called: runs are named where there are several."""
    return f"{plain(name)}: {what}" if len(runs) > 1 else what


def _panel(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=PANEL_IN, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _finished(figure: Figure, axes: Axes, runs: Runs, form: Form) -> bytes:
    """The epochs of all runs along x, and a legend where it hides nothing."""
    last = max((row["epoch"] for rows in runs.values() for row in rows), default=1)
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[1]:
        if len(runs) >= LEGEND_BELOW_RUNS:
            rows = len(axes.get_legend_handles_labels()[1])
            figure.set_size_inches(PANEL_IN[0], PANEL_IN[1] + 0.18 * rows)
            figure.legend(loc="outside lower left", frameon=False, fontsize=8.5)
        else:
            axes.legend(frameon=False, fontsize=9)
    return figure_bytes(figure, form)
