"""Tables and plots from the CSVs: ``python -m pipelines.benchmarks tables`` rewrites the marked blocks of README.md.

A block begins with ``<!-- table: NAME -->`` and ends with ``<!-- end -->``. A benchmark that was not run says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from pipelines.benchmarks.results import Settings, read_results
from wsi_deform.provenance import write_aside, write_text
from wsi_deform.report.tables import Table

README = Path(__file__).with_name("README.md")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COST_AT_200K, FEWER_TILES, MASK_CPU_S, MASK_MIB, AHEAD_OF_LIBVIPS, PATCHES_COST = 1.3, 100, 2, 400, 10, 10
MIOU_TOLERANCE = 0.005

Row = dict[str, str]


def benchmark(settings: Settings) -> list[dict[str, Any]]:
    """Rewrite the tables of README.md; with ``--quick`` a copy of it beside the results."""
    text = README.read_text(encoding="utf-8")
    target = settings.out / "README.md" if settings.out != README.parent / "results" else README
    write_text(target, with_tables(text, settings.out))
    print(f"  {target}")
    return []


def with_tables(text: str, out: Path) -> str:
    """A README with its marked blocks filled from the CSVs of a folder."""

    def filled(found: re.Match[str]) -> str:
        name = found[2]
        rows = read_results(name, out)
        body = (
            _TABLES[name](rows) if rows else f"*Not measured yet: `python -m pipelines.benchmarks {name}`.*\n"
        )
        return f"{found[1]}{_machine(name, out) if rows else ''}{body}{found[3]}"

    return BLOCK.sub(filled, text)


def _machine(name: str, out: Path) -> str:
    """One line on where and when."""
    machines = json.loads((out / "machine.json").read_text(encoding="utf-8"))
    found = machines[name]
    quick = " **Quick sizes: not to be quoted.**" if found["quick"] else ""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']:g} GiB; {found['threads']} threads; "
        f"{found['date_utc'][:10]}; load before the last rows {found['load_1_5_15_min'][0]:g}.{quick}\n\n"
    )


def _number(row: Row, column: str) -> float:
    text = row.get(column) or ""
    return float(text) if text else math.nan


def _shown(value: float, unit: str = "") -> str:
    """Three digits."""
    if math.isnan(value):
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}{unit}"


def _find(rows: Sequence[Row], **wanted: object) -> Row | None:
    for row in rows:
        if all(row.get(key) == str(value) for key, value in wanted.items()):
            return row
    return None


def _bar(text: str, value: float, holds: bool) -> str:
    verdict = "not measured" if math.isnan(value) else "**met**" if holds else "**not met**"
    return f"- {text}: {_shown(value)} – {verdict}\n"


def _plain(rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> str:
    body = tuple(
        tuple(
            row.get(column, "")
            if column == "case"
            else "failed"
            if row.get("failed")
            else _shown(_number(row, column))
            for _, column in columns
        )
        for row in rows
    )
    return Table(header=tuple(name for name, _ in columns), rows=body).markdown()


def gather_table(rows: Sequence[Row]) -> str:
    """One row per side and source, seconds (tiles) of each case; the bars below."""
    parts = []
    for samples in dict.fromkeys(row["samples"] for row in rows):
        own = [row for row in rows if row["samples"] == samples]
        cases = list(dict.fromkeys(row["case"] for row in own))
        places = list(dict.fromkeys((row["source"], row["side"]) for row in own))
        body = []
        for case in cases:
            cells = [case]
            for source, side in places:
                row = _find(own, case=case, source=source, side=side)
                failed = row is not None and bool(row.get("failed"))
                cells.append(
                    "" if row is None else "failed" if failed
                    else f"{_shown(_number(row, 'seconds'))} s ({int(_number(row, 'tiles')):,})"
                )  # fmt: skip
            body.append(tuple(cells))
        header = ("case", *(f"{int(side):,} px, {source}" for source, side in places))
        parts.append(
            f"{int(samples):,} samples: seconds (tiles read)\n\n{Table(header=header, rows=tuple(body)).markdown()}\n"
        )
    parts += ["Bars:\n\n", *_gather_bars(rows)]
    return "".join(parts)


def _gather_bars(rows: Sequence[Row]) -> list[str]:
    bars = []
    for samples in dict.fromkeys(row["samples"] for row in rows):
        drawn = [
            row
            for row in rows
            if row["case"] == "mip" and row["source"] == "drawn" and row["samples"] == samples
        ]
        if len(drawn) > 1:
            first, last = drawn[0], drawn[-1]
            ratio = _number(last, "seconds") / _number(first, "seconds")
            sides = f"{int(last['side']):,} px / at {int(first['side']):,} px"
            text = f"{int(samples):,} samples, cost at {sides}, at most {COST_AT_200K}"
            bars.append(_bar(text, ratio, ratio <= COST_AT_200K))
    exact = [row for row in rows if row["case"] == "exact" and row.get("tiles")]
    if exact:
        largest = max(exact, key=lambda row: int(row["side"]))
        mip = _find(rows, case="mip", source="file", side=largest["side"], samples=largest["samples"])
        fewer = _number(largest, "tiles") / _number(mip, "tiles") if mip else math.nan
        text = f"{int(largest['side']):,} px, tiles of level-0 sampling / ours, at least {FEWER_TILES}"
        bars.append(_bar(text, fewer, fewer >= FEWER_TILES))
    return bars


def mask_table(rows: Sequence[Row]) -> str:
    """Seconds, CPU seconds and memory per side and case; the bars below."""
    parts = []
    for side in dict.fromkeys(row["side"] for row in rows):
        own = [row for row in rows if row["side"] == side]
        columns = (
            ("case", "case"), ("seconds", "seconds"), ("CPU s", "cpu_seconds"), ("peak MiB", "peak_mib"),
            ("before MiB", "base_mib"), ("file MB", "file_mb"), ("part", "part"), ("runs", "runs"),
        )  # fmt: skip
        parts.append(
            f"{int(side):,} x {int(side):,} px, {int(own[0]['samples']):,} samples\n\n{_plain(own, columns)}\n"
        )
    largest = max(rows, key=lambda row: int(row["side"]))["side"]
    ours, vips = _find(rows, side=largest, case="ours, 1 thread"), _find(rows, side=largest, case="libvips")
    own, rival = ours or {}, vips or {}
    cpu, peak = _number(own, "cpu_seconds"), _number(own, "peak_mib")
    ahead = _number(rival, "cpu_seconds") / cpu
    parts += [
        "Bars:\n\n",
        _bar(f"{int(largest):,} px, CPU seconds, under {MASK_CPU_S}", cpu, cpu < MASK_CPU_S),
        _bar(f"{int(largest):,} px, peak MiB, under {MASK_MIB}", peak, peak < MASK_MIB),
        _bar(
            f"{int(largest):,} px, CPU s of libvips / ours, at least {AHEAD_OF_LIBVIPS}",
            ahead,
            ahead >= AHEAD_OF_LIBVIPS,
        ),
    ]
    return "".join(parts)


def whole_slide_table(rows: Sequence[Row]) -> str:
    """Cost and accuracy per side and case; the bars below."""
    parts = []
    columns = (
        ("case", "case"), ("seconds", "seconds"), ("CPU s", "cpu_seconds"), ("peak MiB", "peak_mib"),
        ("decoded Mpx", "decoded_mpx"), ("TFLOP", "tflop"), ("mIoU", "miou"),
        ("without background", "miou_without_background"), ("part", "part"), ("runs", "runs"),
    )  # fmt: skip
    bars = []
    for side in dict.fromkeys(row["side"] for row in rows):
        own = [row for row in rows if row["side"] == side]
        parts.append(f"{int(side):,} x {int(side):,} px\n\n{_plain(own, columns)}\n")
        bars.append(_whole_slide_bar(side, own))
    return "".join([*parts, "Bars:\n\n", *bars])


def _whole_slide_bar(side: str, rows: Sequence[Row]) -> str:
    """Our cheapest case that is as accurate as patches at full resolution, against them; and against all patches."""
    ours = [row for row in rows if row["case"].startswith("ours") and row.get("miou")]
    patches = [row for row in rows if row["case"].startswith("patches") and row.get("miou")]
    if not ours or not patches:
        return f"- {int(side):,} px: not measured\n"
    text = ""
    best = max(patches, key=lambda row: _number(row, "miou"))
    for rival, name in (
        (patches[0], "full-resolution patches"),
        (best, f"the most accurate patches ({best['case']})"),
    ):
        equal = [row for row in ours if _number(row, "miou") >= _number(rival, "miou") - MIOU_TOLERANCE]
        chosen = min(
            equal or ours, key=lambda row: _number(row, "cpu_seconds") if equal else -_number(row, "miou")
        )
        ratio = _number(rival, "cpu_seconds") / _number(chosen, "cpu_seconds")
        accuracy = f"mIoU {_number(chosen, 'miou'):.3f} against {_number(rival, 'miou'):.3f}"
        verdict = "**met**" if equal and ratio >= PATCHES_COST else "**not met**"
        text += (
            f"- {int(side):,} px, equal mIoU at 1/{PATCHES_COST} of the CPU seconds of {name}: {chosen['case']} costs "
            f"1/{ratio:.1f}, {accuracy} – {verdict}\n"
        )
    return text


def training_step_table(rows: Sequence[Row]) -> str:
    """Milliseconds and share of each part."""
    parts = [column.removesuffix("_seconds") for column in rows[0] if column.endswith("_seconds")]
    parts = [part for part in parts if part not in ("cpu", "least", "most", "parts")]
    body = []
    for row in rows:
        total = _number(row, "parts_seconds")
        cells = [
            f"{1e3 * _number(row, f'{part}_seconds'):,.0f} ({_number(row, f'{part}_seconds') / total:.0%})"
            for part in parts
        ]
        body.append((row["case"], f"{1e3 * _number(row, 'seconds'):,.0f}", *cells))
    return "Milliseconds (share)\n\n" + Table(header=("case", "step", *parts), rows=tuple(body)).markdown()


def limits_table(rows: Sequence[Row]) -> str:
    """Time, limit and gap of each stage."""
    body = tuple(
        (
            row["case"],
            row["least"],
            _shown(1e3 * _number(row, "limit_seconds")),
            _shown(1e3 * _number(row, "seconds")),
            _shown(_number(row, "gap")),
        )
        for row in rows
    )
    return Table(header=("stage", "least work", "limit, ms", "time, ms", "gap"), rows=body).markdown()


_TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "gather": gather_table,
    "mask": mask_table,
    "whole_slide": whole_slide_table,
    "training_step": training_step_table,
    "limits": limits_table,
}


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


def _lines(axes: Any, rows: Sequence[Row], y: str, label: Callable[[Row], str]) -> None:
    """Lines over the side of the slide, both axes logarithmic."""
    for name in dict.fromkeys(map(label, rows)):
        own = sorted((row for row in rows if label(row) == name), key=lambda row: int(row["side"]))
        style = "-" if name.startswith(("mip", "ours")) else "--"
        axes.plot(
            [int(row["side"]) for row in own],
            [_number(row, y) for row in own],
            style,
            marker="o",
            ms=3,
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="side of the slide, px")
    axes.legend(fontsize=6, ncols=2)
    axes.grid(alpha=0.3)


def _plot_gather(axes: Any, rows: Sequence[Row]) -> None:
    fewest = min(int(row["samples"]) for row in rows)
    own = [row for row in rows if int(row["samples"]) == fewest]
    _lines(axes, own, "seconds", lambda row: f"{row['case']}, {row['source']}")
    axes.set(ylabel="seconds", title=f"{fewest:,} samples")


def _plot_mask(axes: Any, rows: Sequence[Row]) -> None:
    _lines(axes, rows, "cpu_seconds", lambda row: row["case"])
    axes.set(ylabel="CPU seconds", title="a mask and its pyramid")


def _plot_whole_slide(axes: Any, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if row.get("miou")]
    for side in dict.fromkeys(row["side"] for row in shown):
        for kind, marker in (("ours", "o"), ("patches", "s"), ("monai", "^")):
            own = [row for row in shown if row["side"] == side and row["case"].startswith(kind)]
            own.sort(key=lambda row: _number(row, "cpu_seconds"))
            if own:
                costs, accuracies = (
                    [_number(row, column) for row in own] for column in ("cpu_seconds", "miou")
                )
                axes.plot(costs, accuracies, marker=marker, ms=4, label=f"{kind}, {int(side):,} px")
    axes.set(xscale="log", xlabel="CPU seconds per slide", ylabel="mIoU", title="accuracy and cost")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def _plot_training_step(axes: Any, rows: Sequence[Row]) -> None:
    parts = [column for column in rows[0] if column.endswith("_seconds")]
    left = [0.0] * len(rows)
    for part in parts:
        name = part.removesuffix("_seconds")
        if name in ("cpu", "least", "most", "parts"):
            continue
        widths = [_number(row, part) for row in rows]
        axes.barh([row["case"] for row in rows], widths, left=left, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds", title="one training step")
    axes.legend(fontsize=6, ncols=3)


def _plot_limits(axes: Any, rows: Sequence[Row]) -> None:
    names = [row["case"] for row in rows][::-1]
    axes.barh(names, [_number(row, "seconds") for row in rows][::-1], label="time", alpha=0.5)
    axes.barh(names, [_number(row, "limit_seconds") for row in rows][::-1], height=0.4, label="limit")
    axes.set(xscale="log", xlabel="seconds, one thread", title="one field")
    axes.legend(fontsize=7)


_PLOTS: dict[str, Callable[[Any, Sequence[Row]], None]] = {
    "gather": _plot_gather,
    "mask": _plot_mask,
    "whole_slide": _plot_whole_slide,
    "training_step": _plot_training_step,
    "limits": _plot_limits,
}
