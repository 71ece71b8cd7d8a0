"""Run benchmarks: ``python -m pipelines.benchmarks [NAME ...] [--quick]``; `--help` lists the names."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path

from platformdirs import user_cache_path

from pipelines.benchmarks.results import RUNTIMES, SIDES, Settings, write_results

FOLDER = Path(__file__).parent
ORDER = (
    "gather",
    "mask",
    "geojson",
    "outlines",
    "memory",
    "start",
    "opening",
    "view",
    "models",
    "whole_slide",
    "training_step",
    "limits",
    "batch",
    "tables",
)
# The others train what is measured, and write the tables.
MEASURED = tuple(name for name in ORDER if name not in ("models", "tables"))


def main(arguments: list[str] | None = None) -> int:
    """Run benchmarks; without names all of them, then the tables."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ORDER)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument(
        "--out",
        type=Path,
        help="default: results/ beside this file; with --quick, --only, --side or --model: build/benchmarks",
    )
    parser.add_argument("--cache", type=Path, help="drawn slides and trained models; outside the repository")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--runs", type=int, help="default: 5; quick: 1")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="only these cases, e.g. mip")
    parser.add_argument(
        "--model", type=Path, action="append", default=[], help="whole_slide: a trained model (repeatable)"
    )
    parser.add_argument(
        "--side",
        type=int,
        action="append",
        default=[],
        metavar="PX",
        help="whole_slide: slides of 20480 or 61440 px alone",
    )
    parser.add_argument(
        "--tiatoolbox",
        type=Path,
        metavar="PYTHON",
        help="whole_slide: a Python that has TIAToolbox, as a rival",
    )
    parser.add_argument(
        "--runtimes",
        action="store_true",
        help="whole_slide: rows with OpenVINO in float32 and in int8 too, ours and rivals (extra quantise)",
    )
    given = parser.parse_args(arguments)
    if strange_sides := set(given.side) - set(SIDES):
        parser.error(f"--side {min(strange_sides)}: needed {' or '.join(map(str, SIDES))}.")
    if given.tiatoolbox is not None and not given.tiatoolbox.is_file():
        parser.error(
            f"--tiatoolbox {given.tiatoolbox}: needed the Python of an environment, such as venv/bin/python."
        )
    absent = [name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None]
    if given.runtimes and absent:
        parser.error(f'--runtimes: {", ".join(absent)} not installed. Needed both: pip install ".[quantise]"')
    strange = [name for name in given.names if name not in ORDER]
    if strange:
        parser.error(f"{', '.join(strange)}: needed names among {', '.join(ORDER)}.")
    # A part of the cases would take the place of all, and the page's ratios are of one run.
    is_part = given.quick or given.only or given.side or given.model
    out = given.out or (FOLDER.parents[1] / "build" / "benchmarks" if is_part else FOLDER / "results")
    settings = Settings(
        out=out,
        cache=(given.cache or user_cache_path("wsi-deform", appauthor=False) / "benchmarks").absolute(),
        quick=given.quick,
        threads=given.threads,
        runs=given.runs or (1 if given.quick else 5),
        only=tuple(given.only),
        models=tuple(path.absolute() for path in given.model),
        sides=tuple(given.side) or SIDES,
        # Not resolved: a virtual environment is known by where the link to its Python lies.
        tiatoolbox=given.tiatoolbox.absolute() if given.tiatoolbox is not None else None,
        runtimes=RUNTIMES if given.runtimes else (),
    )
    failed = False
    for name in [each for each in ORDER if each in (given.names or ORDER)]:
        failed |= _run(name, settings)
    return 1 if failed else 0


def _run(name: str, settings: Settings) -> bool:
    """One benchmark; whether a case of it failed."""
    print(f"{name}:", flush=True)
    started = time.monotonic()
    module = importlib.import_module(f"pipelines.benchmarks.{name}")
    rows = module.benchmark(settings)
    if name in MEASURED:
        path = write_results(name, rows, settings)
        importlib.import_module("pipelines.benchmarks.plots").plot(name, settings)
        print(f"{name}: {time.monotonic() - started:.0f} s, {path}", flush=True)
    return any("failed" in row for row in rows)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    raise SystemExit(main())
