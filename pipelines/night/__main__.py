"""A night on paper: ``python -m pipelines.night [--slides 5000 --side 100000 --machines 50 --latency-ms 1]``.

What the ledger asks of storage is counted on a few small slides with the real code; what a slide costs is what the
benchmark `whole_slide` measured, by its area. The rest is a simulation. It prints the table of docs/many.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from pipelines.night.simulated import Night, Told, simulated
from pipelines.night.visits import Visit, counted_visits

MEASURED = Path(__file__).parents[1] / "benchmarks" / "results" / "whole_slide.csv"
NAMES = {
    "look": "before its turn, a slide that is new",
    "look done": "before its turn, one that is done",
    "work": "its turn",
    "pass done": "its turn where another call has done it",
    "pass taken": "its turn where another call works on it",
    "tables": "tables and record, of no slide",
    "tables per state": "tables and record, more for each state in OUT",
    "record": "the record alone, where another call has written the tables",
}


def cpu_seconds(side_px: int, case: str) -> tuple[float, int]:
    """CPU seconds of a slide of a side, by area from the largest that was measured, and the side of that one."""
    with MEASURED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["case"] == case]
    row = max(rows, key=lambda row: int(row["side"]))
    return float(row["cpu_seconds"]) * (side_px / int(row["side"])) ** 2, int(row["side"])


def shown_visits(visits: dict[str, Visit]) -> str:
    """What each thing asks of storage, as a table."""
    lines = ["| what | calls on OUT | of these locks | files | read, kB | written, kB | calls on the slide |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for name, said in NAMES.items():
        v = visits[name]
        cells = (v.calls, v.locks, v.files, v.read_bytes / 1e3, v.written_bytes / 1e3, v.slide_calls)
        lines.append(f"| {said} | {' | '.join(f'{each:.3g}' for each in cells)} |")
    return "\n".join(lines)


def shown_night(told: dict[str, Told], slides: int, machines: int) -> str:
    """What comes of each way, as a table."""
    kinds = list(dict.fromkeys(kind for each in told.values() for kind in each.calls))
    rows = {"hours": [each.seconds / 3600 for each in told.values()]}
    rows |= {
        f"calls per slide: {kind}": [each.calls[kind] / slides for each in told.values()] for kind in kinds
    }
    rows |= {
        "calls per slide, on OUT": [
            (sum(each.calls.values()) - each.calls["slide files"]) / slides for each in told.values()
        ],
        "locks per slide": [each.locks / slides for each in told.values()],
        "read per slide, kB": [each.read_bytes / slides / 1e3 for each in told.values()],
        "written per slide, kB": [each.written_bytes / slides / 1e3 for each in told.values()],
        "calls per second, in the busiest minute": [each.busiest_minute / 60 for each in told.values()],
        "of the time of all workers spent waiting for OUT, %": [
            100 * each.storage_s / (each.seconds * machines) for each in told.values()
        ],
    }
    lines = [f"| | {' | '.join(told)} |", f"|---{'|--:' * len(told)}|"]
    lines += [f"| {name} | {' | '.join(f'{each:,.3g}' for each in cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Count, simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.night", description=__doc__)
    parser.add_argument("--slides", type=int, default=5000)
    parser.add_argument("--side", type=int, default=100_000, help="of each slide, px")
    parser.add_argument("--machines", type=int, default=50, help="each with one worker")
    parser.add_argument("--latency-ms", type=float, default=1.0, help="until storage answers a call")
    parser.add_argument("--case", default="ours x2", help="of the benchmark whole_slide")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    slide_s, measured = cpu_seconds(given.side, given.case)
    visits = counted_visits()
    print(shown_visits(visits))
    ways = {
        f"one call, {given.machines} workers behind a scheduler": (1, given.machines),
        f"{given.machines} calls that share OUT": (given.machines, 1),
    }
    told = {}
    for name, (callers, workers) in ways.items():
        night = Night(
            slides=given.slides,
            callers=callers,
            workers=workers,
            slide_s=slide_s,
            latency_s=given.latency_ms / 1e3,
        )
        told[name] = simulated(night, visits, seed=given.seed)
    print(
        f"\n{given.slides:,} slides of {given.side:,} px, {slide_s:.0f} s each ({given.case} of {measured:,} px by "
        f"area), storage that answers in {given.latency_ms:g} ms:\n"
    )
    print(shown_night(told, given.slides, given.machines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
