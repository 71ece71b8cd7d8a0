"""Tables from the CSVs: ``python -m pipelines.benchmarks tables`` rewrites the marked blocks of README.md.

Blocks are those of ``page_tables``, marked ``<!-- table: NAME -->``. A benchmark that was not run says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.benchmarks.results import Settings, read_results
from pipelines.page_tables import filled
from wsi_deform.files import write_text
from wsi_deform.report.tables import Table

README = Path(__file__).with_name("README.md")
COST_AT_200K, FEWER_TILES, MASK_CPU_S, MASK_MIB, AHEAD_OF_LIBVIPS, PATCHES_COST = 1.3, 100, 2, 400, 10, 10
MEMORY_AT_200K = 1.1
GEOJSON_CPU_S, GEOJSON_MIB = 5, 500
START_COST = 0.6
VIEW_COST = 1.5
LEDGER_GROWTH, BATCH_GROWTH, CHILD_COST, WORKERS_GAIN = 1.2, 1.05, 1.03, 1.6
OPENING_COST = 1.05
MIOU_TOLERANCE = 0.005
TIATOOLBOX = "tiatoolbox"  # how its cases begin

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

    def table(name: str) -> str:
        rows = read_results(name, out)
        if not rows:
            return f"*Not measured yet: `python -m pipelines.benchmarks {name}`.*\n"
        return _machine(name, out) + _TABLES[name](rows)

    return filled(text, table)


def _machine(name: str, out: Path) -> str:
    """One line on where and when."""
    machines = json.loads((out / "machine.json").read_text(encoding="utf-8"))
    found = machines[name]
    quick = " **Quick sizes: not to be quoted.**" if found["quick"] else ""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']:g} GiB; {found['threads']} threads; "
        f"{found['date_utc'][:10]}; load before the last rows {found['load_1_5_15_min'][0]:g}.{quick}\n\n"
    )


def number(row: Row, column: str) -> float:
    """A cell as a number; NaN where it is empty."""
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
            else _shown(number(row, column))
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
                    else f"{_shown(number(row, 'seconds'))} s ({int(number(row, 'tiles')):,})"
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
            ratio = number(last, "seconds") / number(first, "seconds")
            sides = f"{int(last['side']):,} px / at {int(first['side']):,} px"
            text = f"{int(samples):,} samples, cost at {sides}, at most {COST_AT_200K}"
            bars.append(_bar(text, ratio, ratio <= COST_AT_200K))
    exact = [row for row in rows if row["case"] == "exact" and row.get("tiles")]
    if exact:
        largest = max(exact, key=lambda row: int(row["side"]))
        mip = _find(rows, case="mip", source="file", side=largest["side"], samples=largest["samples"])
        fewer = number(largest, "tiles") / number(mip, "tiles") if mip else math.nan
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
            ("before MiB", "base_mib"), ("file MB", "file_mb"), ("mixed Mpx", "mixed_mpx"),
            *((("vertices", "vertices"),) if "vertices" in rows[0] else ()), ("part", "part"), ("runs", "runs"),
        )  # fmt: skip
        parts.append(
            f"{int(side):,} x {int(side):,} px, {int(own[0]['samples']):,} samples\n\n{_plain(own, columns)}\n"
        )
    largest = max(rows, key=lambda row: int(row["side"]))["side"]
    ours, vips = _find(rows, side=largest, case="ours, 1 thread"), _find(rows, side=largest, case="libvips")
    best, rival = ours or {}, vips or {}
    cpu, peak = number(best, "cpu_seconds"), number(best, "peak_mib")
    ahead = number(rival, "cpu_seconds") / cpu
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


def geojson_table(rows: Sequence[Row]) -> str:
    """Seconds, CPU seconds and memory per case; the bars below, then rivals' CPU seconds in those of ours."""
    columns = (
        ("case", "case"), ("seconds", "seconds"), ("CPU s", "cpu_seconds"), ("peak MiB", "peak_mib"),
        ("before MiB", "base_mib"), ("polygons", "polygons"), ("vertices", "vertices"), ("file MB", "file_mb"),
        ("runs", "runs"),
    )  # fmt: skip
    own = [row for row in rows if row["case"].startswith("ours")]
    slowest = max(number(row, "cpu_seconds") for row in own)
    largest = max(number(row, "peak_mib") for row in own)
    parts = [
        f"{int(rows[0]['samples']):,} samples on {int(rows[0]['side']):,} x {int(rows[0]['side']):,} px\n\n",
        f"{_plain(rows, columns)}\nBars:\n\n",
        _bar(f"ours, CPU seconds, at most {GEOJSON_CPU_S}", slowest, slowest <= GEOJSON_CPU_S),
        _bar(f"ours, peak MiB, at most {GEOJSON_MIB}", largest, largest <= GEOJSON_MIB),
    ]
    for row in rows:
        rival, _, level = row["case"].partition(", ")
        same = _find(rows, case=f"ours, {level}")
        if rival != "ours" and same is not None:
            ratio = number(row, "cpu_seconds") / number(same, "cpu_seconds")
            parts.append(f"- {level}, CPU s of {rival} / ours: {_shown(ratio)}\n")
    return "".join(parts)


def outlines_table(rows: Sequence[Row]) -> str:
    """Seconds, CPU seconds and memory per case, and rivals' CPU seconds in those of ours."""
    columns = (
        ("case", "case"), ("seconds", "seconds"), ("CPU s", "cpu_seconds"), ("peak MiB", "peak_mib"),
        ("before MiB", "base_mib"), ("runs", "runs"),
    )  # fmt: skip
    side, count = int(rows[0]["side"]), int(rows[0]["outlines"])
    ratios = []
    for row in rows:
        rival, _, part = row["case"].partition(", ")
        own = _find(rows, case=f"ours, {part}")
        if rival != "ours" and own is not None:
            ratio = number(row, "cpu_seconds") / number(own, "cpu_seconds")
            ratios.append(f"- {part}, CPU s of {rival} / ours: {_shown(ratio)}\n")
    head = f"{count:,} outlines of 10 points on {side:,} x {side:,} px\n\n"
    return "".join([head, f"{_plain(rows, columns)}\n", *ratios])


def memory_table(rows: Sequence[Row]) -> str:
    """Peak memory per geometry and side; the bars below."""
    columns = (
        ("case", "case"), ("fields", "fields"), ("samples", "samples"), ("read Mpx", "read_mpx"), ("tiles", "tiles"),
        ("before MiB", "base_mib"), ("peak MiB", "peak_mib"), ("looks, as estimated, MiB", "looks_mib"),
    )  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row.get("geometry", ""), int(row["side"])))
    bars = []
    for geometry in dict.fromkeys(row.get("geometry", "") for row in ordered):
        own = [row for row in ordered if row.get("geometry", "") == geometry]
        first, last = own[0], own[-1]
        ratio = number(last, "peak_mib") / number(first, "peak_mib")
        text = f"{geometry}peak at {int(last['side']):,} px / at {int(first['side']):,} px, at most {MEMORY_AT_200K}"
        bars.append(_bar(text, ratio, ratio <= MEMORY_AT_200K))
    return f"{_plain(ordered, columns)}\nBars:\n\n{''.join(bars)}"


def start_table(rows: Sequence[Row]) -> str:
    """CPU seconds of each process; the bars below."""
    columns = (
        ("case", "case"), ("CPU s", "cpu_seconds"), ("seconds", "seconds"), ("peak MiB", "peak_mib"), ("runs", "runs"),
    )  # fmt: skip
    bars = []
    for row in rows:
        earlier = next((each for each in rows if each["case"].startswith(f"{row['case']}, ")), None)
        if earlier is not None:
            ratio = number(row, "cpu_seconds") / number(earlier, "cpu_seconds")
            text = f"{row['case']}, CPU seconds / those of {earlier['case'].rpartition(', ')[2]}, at most {START_COST}"
            bars.append(_bar(text, ratio, ratio <= START_COST))
    return f"{_plain(rows, columns)}\nBars:\n\n{''.join(bars)}"


def opening_table(rows: Sequence[Row]) -> str:
    """CPU milliseconds of each kind and commit; the bars below."""
    body, bars = [], []
    kinds: dict[str, dict[str, float]] = {}
    for row in rows:
        kind, _, commit = row["case"].rpartition(", ")
        kinds.setdefault(kind, {})[commit] = number(row, "cpu_seconds")
    for kind, found in kinds.items():
        body += [(kind, commit, _shown(1e3 * cpu)) for commit, cpu in found.items()]
        for commit, cpu in found.items():
            if commit != "ours":
                text = f"{kind}, CPU time / that of {commit}, at most {OPENING_COST}"
                ratio = found["ours"] / cpu
                bars.append(_bar(text, ratio, ratio <= OPENING_COST))
    table = Table(header=("what", "commit", "CPU ms"), rows=tuple(body)).markdown()
    return f"{table}\nBars:\n\n{''.join(bars)}"


def view_table(rows: Sequence[Row]) -> str:
    """Milliseconds per tile of each slide and case; the bars below."""
    body, bars = [], []
    for slide in dict.fromkeys(row["slide"] for row in rows):
        own = {row["case"]: row for row in rows if row["slide"] == slide and not row.get("failed")}
        for case, row in own.items():
            wall, cpu = (
                1e3 * number(row, name) / number(row, "tiles") for name in ("seconds", "cpu_seconds")
            )
            tiles = f"{number(row, 'tiles'):.0f}"
            body.append((slide, case, tiles, _shown(wall), _shown(cpu), _shown(number(row, "file_mb"))))
        ours, rival = own.get("ours", {}), own.get("DeepZoomGenerator", {})
        ratio = number(ours, "seconds") / number(rival, "seconds")
        text = f"{slide}, time of a tile / that of DeepZoomGenerator, at most {VIEW_COST}"
        bars.append(_bar(text, ratio, ratio <= VIEW_COST))
    header = ("slide", "case", "tiles", "ms per tile", "CPU ms per tile", "MB of JPEG")
    return f"{Table(header=header, rows=tuple(body)).markdown()}\nBars:\n\n{''.join(bars)}"


def whole_slide_table(rows: Sequence[Row]) -> str:
    """Cost and accuracy per side and case; the bars below."""
    parts = []
    columns = (
        ("case", "case"), ("seconds", "seconds"), ("CPU s", "cpu_seconds"), ("peak MiB", "peak_mib"),
        ("read Mpx", "read_mpx"), ("decoded Mpx", "decoded_mpx"), ("TFLOP", "tflop"), ("mIoU", "miou"),
        ("without background", "miou_without_background"), ("part", "part"), ("runs", "runs"),
    )  # fmt: skip
    bars = []
    for side in dict.fromkeys(row["side"] for row in rows):
        own = [row for row in rows if row["side"] == side]
        parts.append(f"{int(side):,} x {int(side):,} px\n\n{_plain(own, columns)}\n")
        bars.append(_whole_slide_bar(side, own))
    if not any(row["case"].startswith(TIATOOLBOX) for row in rows):
        parts.append("TIAToolbox was not among them: `--tiatoolbox PYTHON` measures it too.\n\n")
    return "".join([*parts, "Bars:\n\n", *bars])


def _whole_slide_bar(side: str, rows: Sequence[Row]) -> str:
    """Our cheapest case that is as accurate as patches at full resolution, against them; and against all patches."""
    ours = [row for row in rows if row["case"].startswith(("ours", "blocks")) and row.get("miou")]
    patches = [row for row in rows if row["case"].startswith("patches") and row.get("miou")]
    if not ours or not patches:
        return f"- {int(side):,} px: not measured\n"
    text = ""
    best = max(patches, key=lambda row: number(row, "miou"))
    for rival, name in (
        (patches[0], "full-resolution patches"),
        (best, f"the most accurate patches ({best['case']})"),
    ):
        equal = [row for row in ours if number(row, "miou") >= number(rival, "miou") - MIOU_TOLERANCE]
        chosen = min(
            equal or ours, key=lambda row: number(row, "cpu_seconds") if equal else -number(row, "miou")
        )
        ratio = number(rival, "cpu_seconds") / number(chosen, "cpu_seconds")
        accuracy = f"mIoU {number(chosen, 'miou'):.3f} against {number(rival, 'miou'):.3f}"
        verdict = "**met**" if equal and ratio >= PATCHES_COST else "**not met**"
        text += (
            f"- {int(side):,} px, equal mIoU at 1/{PATCHES_COST} of the CPU seconds of {name}: {chosen['case']} costs "
            f"1/{ratio:.1f}, {accuracy} – {verdict}\n"
        )
    return text


def training_step_table(rows: Sequence[Row]) -> str:
    """Milliseconds and share of each part; what each setting makes of the step."""
    parts = [column.removesuffix("_seconds") for column in rows[0] if column.endswith("_seconds")]
    parts = [part for part in parts if part not in ("cpu", "least", "most", "parts")]
    body = []
    whole = [row for row in rows if row["parts_seconds"]]
    for row in whole:
        total = number(row, "parts_seconds")
        cells = [
            f"{1e3 * number(row, f'{part}_seconds'):,.0f} ({number(row, f'{part}_seconds') / total:.0%})"
            for part in parts
        ]
        body.append((row["case"], f"{1e3 * number(row, 'seconds'):,.0f}", *cells))
    text = "Milliseconds (share)\n\n" + Table(header=("case", "step", *parts), rows=tuple(body)).markdown()
    changed = [row for row in rows if not row["parts_seconds"]]
    if changed:
        plain = number(whole[0], "seconds")
        settings = tuple(
            (row["case"], f"{1e3 * number(row, 'seconds'):,.0f}", f"{number(row, 'seconds') / plain:.2f}")
            for row in changed
        )
        header = ("setting", "step, ms", f"/ that of {whole[0]['case']}")
        text += f"\n{Table(header=header, rows=settings).markdown()}"
    return text


def limits_table(rows: Sequence[Row]) -> str:
    """Time, limit and gap of each stage."""
    body = tuple(
        (
            row["case"],
            row["least"],
            _shown(1e3 * number(row, "limit_seconds")),
            _shown(1e3 * number(row, "seconds")),
            _shown(number(row, "gap")),
        )
        for row in rows
    )
    return Table(header=("stage", "least work", "limit, ms", "time, ms", "gap"), rows=body).markdown()


def batch_table(rows: Sequence[Row]) -> str:
    """What a slide costs early and late; the bars below."""
    text, bars = "", []
    found = {row["case"]: row for row in rows if not row.get("failed")}
    if ledger := found.get("ledger"):
        text += (
            f"- the call itself, {int(ledger['slides']):,} slides, {number(ledger, 'seconds'):.0f} s in all\n"
        )
        for what, name in (("ms per slide", ""), ("CPU ms per slide", "cpu_")):
            first, last = number(ledger, f"{name}first_ms"), number(ledger, f"{name}last_ms")
            text += f"- {what} in the first tenth of them {first:.1f}, in the last {last:.1f}\n"
            words = f"{what} of the last tenth / of the first, at most {LEDGER_GROWTH}"
            bars.append(_bar(words, last / first, last / first <= LEDGER_GROWTH))
    if slides := found.get("slides"):
        shown = "{:.0f} MiB and {:.0f} open files in the second quarter, {:.0f} MiB and {:.0f} in the last"
        names = ("second_mib", "second_files", "last_mib", "last_files")
        text += f"- {int(slides['slides']):,} slides, {number(slides, 'ms_per_slide'):.0f} ms each: "
        text += f"{shown.format(*(number(slides, name) for name in names))}\n"
        for what, name in (("memory", "mib_growth"), ("open files", "files_growth")):
            ratio = number(slides, name)
            words = f"{what} in the last quarter / in the second, at most {BATCH_GROWTH}"
            bars.append(_bar(words, ratio, ratio <= BATCH_GROWTH))
    if (child := found.get("child")) and (here := found.get("in process")):
        for row in (child, here):
            text += f"- {row['case']}, {int(row['slides'])} slides: {number(row, 'seconds'):.1f} s, "
            text += f"{number(row, 'cpu_seconds'):.1f} CPU s\n"
        for what, column in (("seconds", "seconds"), ("CPU seconds", "cpu_seconds")):
            ratio = number(child, column) / number(here, column)
            words = f"{what} with a child / in process, at most {CHILD_COST}"
            bars.append(_bar(words, ratio, ratio <= CHILD_COST))
    if (one := found.get("workers 1")) and (two := found.get("workers 2")):
        for row in (one, two):
            text += f"- {row['case']}, {int(row['slides'])} slides of 2 s: {number(row, 'seconds'):.1f} s, "
            text += f"{number(row, 'cpu_seconds'):.1f} CPU s\n"
        ratio = number(one, "seconds") / number(two, "seconds")
        words = f"slides per second of two workers / of one, at least {WORKERS_GAIN}"
        bars.append(_bar(words, ratio, ratio >= WORKERS_GAIN))
    return f"{text}\nBars:\n\n{''.join(bars)}"


_TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "gather": gather_table,
    "mask": mask_table,
    "geojson": geojson_table,
    "outlines": outlines_table,
    "memory": memory_table,
    "start": start_table,
    "opening": opening_table,
    "view": view_table,
    "whole_slide": whole_slide_table,
    "training_step": training_step_table,
    "limits": limits_table,
    "batch": batch_table,
}
