"""Plots from the CSVs, one small PNG per benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

from pipelines.benchmarks.results import Settings, read_results
from pipelines.benchmarks.tables import number
from wsi_deform.files import write_aside

Row = dict[str, str]

COLOURS = (
    "#d55e00",
    "#e69f00",
    "#000000",
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#882255",
    "#cc79a7",
    "#7f7f7f",
    "#44aa99",
    "#999933",
    "#aa4499",
)


def plot(name: str, settings: Settings) -> None:
    """Draw ``NAME.png`` from ``NAME.csv``."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in read_results(name, settings.out) if not row.get("failed")]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    _PLOTS[name](axes, rows)
    with write_aside(settings.out / f"{name}.png") as aside:
        figure.savefig(aside, dpi=90)
    plt.close(figure)


def _lines(axes: Any, rows: Sequence[Row], y: str) -> None:
    """A line per case over the side of the slide, both axes logarithmic; drawn pixels dashed, files not."""
    for case, colour in zip(dict.fromkeys(row["case"] for row in rows), COLOURS, strict=False):
        label: str | None = case
        for source, style in (("file", "-"), ("drawn", "--")):
            own = [row for row in rows if row["case"] == case and row.get("source", "file") == source]
            own.sort(key=lambda row: int(row["side"]))
            if not own:
                continue
            axes.plot(
                [int(row["side"]) for row in own],
                [number(row, y) for row in own],
                style,
                color=colour,
                lw=2.2 if case.startswith(("mip", "ours")) else 1.0,
                marker="o",
                ms=3,
                label=label,
            )
            label = None
    sides = sorted({int(row["side"]) for row in rows})
    axes.set(xscale="log", yscale="log", xlabel="side of the slide, 1,000 px")
    axes.set_xticks(sides, [f"{side / 1000:.0f}" for side in sides])
    axes.minorticks_off()
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.grid(alpha=0.3)


def _plot_gather(axes: Any, rows: Sequence[Row]) -> None:
    fewest = min(int(row["samples"]) for row in rows)
    _lines(axes, [row for row in rows if int(row["samples"]) == fewest], "seconds")
    axes.set(ylabel="seconds", title=f"{fewest:,} samples; dashed: pixels drawn on demand")


def _plot_mask(axes: Any, rows: Sequence[Row]) -> None:
    _lines(axes, rows, "cpu_seconds")
    axes.set(ylabel="CPU seconds", title="a mask and its pyramid")


def _plot_geojson(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [number(row, "cpu_seconds") for row in rows][::-1])
    axes.set(xscale="log", xlabel="CPU seconds", title=f"outlines of {int(rows[0]['side']):,} px")
    axes.grid(alpha=0.3, axis="x")


def _plot_outlines(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [number(row, "cpu_seconds") for row in rows][::-1])
    axes.set(xscale="log", xlabel="CPU seconds", title=f"{int(rows[0]['outlines']):,} outlines")
    axes.grid(alpha=0.3, axis="x")


def _plot_memory(axes: Any, rows: Sequence[Row]) -> None:
    sides = sorted({int(row["side"]) for row in rows})
    for geometry in dict.fromkeys(row.get("geometry", "") for row in rows):
        own = sorted(
            (row for row in rows if row.get("geometry", "") == geometry), key=lambda row: int(row["side"])
        )
        for column, label in (("peak_mib", "peak"), ("base_mib", "before")):
            axes.plot(
                [int(row["side"]) for row in own],
                [number(row, column) for row in own],
                marker="o",
                ms=4,
                label=f"{geometry}{label}",
            )
    axes.set(
        xscale="log",
        xlabel="side of the slide, 1,000 px",
        ylabel="MiB",
        title="from file to mask and overlay",
    )
    axes.set_xticks(sides, [f"{side / 1000:.0f}" for side in sides])
    axes.minorticks_off()
    axes.set_ylim(0)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _plot_start(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [number(row, "cpu_seconds") for row in rows][::-1])
    axes.set(xlabel="CPU seconds", title="a process from start to end, one small slide")
    axes.grid(alpha=0.3, axis="x")


def _plot_opening(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [1e3 * number(row, "cpu_seconds") for row in rows][::-1])
    axes.set(xscale="log", xlabel="CPU ms", title="to open a slide, and to plan one")
    axes.grid(alpha=0.3, axis="x")


def _plot_whole_slide(axes: Any, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if row.get("miou")]
    for side in dict.fromkeys(row["side"] for row in shown):
        for kind, marker in (("ours", "o"), ("patches", "s"), ("monai", "^"), ("tiatoolbox", "D")):
            own = [row for row in shown if row["side"] == side and row["case"].startswith(kind)]
            own.sort(key=lambda row: number(row, "cpu_seconds"))
            if own:
                costs, accuracies = (
                    [number(row, column) for row in own] for column in ("cpu_seconds", "miou")
                )
                axes.plot(costs, accuracies, marker=marker, ms=4, label=f"{kind}, {int(side):,} px")
    axes.set(xscale="log", xlabel="CPU seconds per slide", ylabel="mIoU", title="accuracy and cost")
    axes.grid(alpha=0.3)
    if shown:  # not where only networks that cost nothing were measured
        axes.set_ylim(0, 1.3 * max(number(row, "miou") for row in shown))  # room for the legend
        axes.legend(fontsize=7, ncols=3, loc="upper center")


def _plot_training_step(axes: Any, rows: Sequence[Row]) -> None:
    rows = [row for row in rows if row["parts_seconds"]]
    parts = [column for column in rows[0] if column.endswith("_seconds")]
    left = [0.0] * len(rows)
    for part in parts:
        name = part.removesuffix("_seconds")
        if name in ("cpu", "least", "most", "parts"):
            continue
        widths = [number(row, part) for row in rows]
        axes.barh([row["case"] for row in rows], widths, left=left, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds", title="one training step")
    axes.legend(fontsize=6, ncols=3)


def _plot_limits(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [number(row, "seconds") for row in rows][::-1], label="time", alpha=0.5)
    axes.barh(names, [number(row, "limit_seconds") for row in rows][::-1], height=0.4, label="limit")
    axes.set(xscale="log", xlabel="seconds, one thread", title="one field")
    axes.legend(fontsize=7)


def _plot_view(axes: Any, rows: Sequence[Row]) -> None:
    """Milliseconds per tile, a bar per slide and case."""
    names = [f"{row['slide']}, {row['case']}" for row in rows]
    colours = [COLOURS[0] if row["case"] == "ours" else COLOURS[3] for row in rows]
    axes.barh(names, [1e3 * number(row, "seconds") / number(row, "tiles") for row in rows], color=colours)
    axes.invert_yaxis()
    axes.set_xlabel("ms per tile of 512 px")


def _plot_batch(axes: Any, rows: Sequence[Row]) -> None:
    """Last by first: what a late slide costs, in times of an early one."""
    columns = {"ms per slide": "last_by_first", "memory": "mib_growth", "open files": "files_growth"}
    bars = {
        f"{row['case']}: {name}": number(row, column)
        for row in rows
        for name, column in columns.items()
        if row.get(column)
    }
    axes.barh(list(bars), list(bars.values()))
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", lw=0.8)
    axes.set(xlabel="late slides / early slides", title="many slides in one call")


_PLOTS: dict[str, Callable[[Any, Sequence[Row]], None]] = {
    "gather": _plot_gather,
    "mask": _plot_mask,
    "geojson": _plot_geojson,
    "outlines": _plot_outlines,
    "memory": _plot_memory,
    "start": _plot_start,
    "opening": _plot_opening,
    "view": _plot_view,
    "whole_slide": _plot_whole_slide,
    "training_step": _plot_training_step,
    "limits": _plot_limits,
    "batch": _plot_batch,
}
