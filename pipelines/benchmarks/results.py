"""Where results lie: a CSV per benchmark, one ``machine.json``, small plots."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from wsi_deform.files import write_aside, write_json
from wsi_deform.provenance import git_state

PACKAGES = (
    "torch", "numpy", "numba", "imagecodecs", "tifffile", "zarr", "dask", "openslide-python", "openslide-bin", "pyvips",
    "pyvips-binary", "scipy", "monai",
)  # fmt: skip
SIDES = (20_480, 61_440)
RUNTIMES = ("openvino", "int8")
"""Rows of OpenVINO in float32, and quantised by NNCF."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every benchmark is told.

    Attributes:
        out: Folder of the results.
        cache: Folder of drawn slides and trained models, kept between calls; outside the repository.
        quick: Small sizes: to see that everything runs, not to be quoted.
        threads: Threads of every library.
        runs: Runs of each case.
        only: Cases to measure; empty is all.
        models: Models for ``whole_slide`` in place of those it trains.
        sides: Of the slides of ``whole_slide``, px, where it is not quick.
        tiatoolbox: The Python of an environment with TIAToolbox, for ``whole_slide``; ``None`` leaves its rows out.
        runtimes: Further programs that compute the networks of ``whole_slide``, of ``RUNTIMES``.
    """

    out: Path
    cache: Path
    quick: bool
    threads: int
    runs: int
    only: tuple[str, ...] = ()
    models: tuple[Path, ...] = ()
    sides: tuple[int, ...] = SIDES
    tiatoolbox: Path | None = None
    runtimes: tuple[str, ...] = ()


def write_results(name: str, rows: Sequence[Row], settings: Settings) -> Path:
    """Write the rows of a benchmark and say in ``machine.json`` where and when they were measured."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path = settings.out / f"{name}.csv"
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({column: _text(value) for column, value in row.items()} for row in rows)
    machine_path = settings.out / "machine.json"
    machines = json.loads(machine_path.read_text(encoding="utf-8")) if machine_path.is_file() else {}
    machines[name] = machine(settings)
    write_json(machine_path, dict(sorted(machines.items())))
    return path


def read_results(name: str, out: Path) -> list[dict[str, str]]:
    """The rows of a benchmark; empty where it was not run."""
    path = out / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def machine(settings: Settings) -> Mapping[str, Any]:
    """Where this runs: processor, memory, versions, date, load."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": settings.quick,
        "threads": settings.threads,
        "runs": settings.runs,
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1_5_15_min": [round(value, 2) for value in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": git_state(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value) if isinstance(value, list | dict) else value
