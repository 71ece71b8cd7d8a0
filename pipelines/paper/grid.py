"""Grids of trials: each is a process with one thread; what is recorded is not run again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.paper.trial import Place, Trial, run_trial

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where trials run and how.

    Attributes:
        manifests: Data set -> its manifest; empty of what is only read.
        out: Runs and masks of trials under way.
        records: Records, in a folder per data set.
        jobs: Trials side by side.
        steps: Steps of every training, where they are not the data set's.
        settings: ``key=value`` for all trials.
        keep: Whether runs and masks stay.
        in_process: Whether trials run in this process, one after the other: what is small is done before a process of
            its own has started.
    """

    manifests: Mapping[str, Path]
    out: Path
    records: Path = RESULTS
    jobs: int = 2
    steps: int | None = None
    settings: tuple[str, ...] = ()
    keep: bool = False
    in_process: bool = False

    def record(self, trial: Trial) -> Path:
        """Where a trial's record is."""
        return self.records / trial.data / f"{trial.name}.json"

    def run(self, trials: Sequence[Trial], classes: Mapping[Trial, Path] | None = None) -> list[Trial]:
        """Run what is not recorded, and whose data is there; in order, ``jobs`` at a time.

        Args:
            trials: The trials.
            classes: Class tables of trials that do not use the one beside the manifest.

        Returns:
            The trials that failed; each is named on the terminal with its log.
        """
        unique = list(dict.fromkeys(trials))
        waiting = [trial for trial in unique if trial.data in self.manifests and not self._is_done(trial)]
        absent = sorted({t.data for t in unique if t.data not in self.manifests and not self._is_done(t)})
        if absent:
            print(f"no manifest given for {', '.join(absent)}: --data NAME=MANIFEST.csv", flush=True)
        print(
            f"{len(unique) - len(waiting)} of {len(unique)} trials recorded, {len(waiting)} to run",
            flush=True,
        )
        with ThreadPoolExecutor(1 if self.in_process else self.jobs) as pool:
            codes = list(pool.map(lambda trial: self._one(trial, (classes or {}).get(trial)), waiting))
        return [trial for trial, code in zip(waiting, codes, strict=True) if code]

    def _is_done(self, trial: Trial) -> bool:
        # Where runs are wanted too, a record alone is not enough.
        return self.record(trial).is_file() and (not self.keep or (self._work(trial) / "run").is_dir())

    def _work(self, trial: Trial) -> Path:
        return self.out / trial.data / trial.name

    def work(self, trial: Trial) -> Path:
        """Where the run and the masks of a trial are kept, with ``keep``."""
        return self._work(trial)

    def _one(self, trial: Trial, classes: Path | None) -> int:
        work = self._work(trial)
        work.mkdir(parents=True, exist_ok=True)
        place = Place(
            manifest=self.manifests[trial.data].absolute(),
            record=self.record(trial).absolute(),
            work=work.absolute(),
            keep=self.keep,
            steps=self.steps,
            classes=classes,
            settings=self.settings,
        )
        self.record(trial).parent.mkdir(parents=True, exist_ok=True)
        task = {"trial": dataclasses.asdict(trial), "place": dataclasses.asdict(place)}
        log = self.out / "logs" / trial.data / f"{trial.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        if self.in_process:
            run_trial(trial, place)
            return self._said(trial, started)
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(
                [sys.executable, "-m", "pipelines.paper.trial", json.dumps(task, default=str)],
                env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code:
            print(f"{trial.data} {trial.name}: failed, see {log}", flush=True)
            return code
        return self._said(trial, started)

    def _said(self, trial: Trial, started: float) -> int:
        """Print how a trial went; returns 0."""
        found = read_record(self.record(trial))
        miou, ceiling = found["pooled"]["predicted"]["miou"], (found["pooled"]["sampled"] or {}).get("miou")
        said = "" if ceiling is None else f", Y' {ceiling:.3f}"
        print(
            f"{trial.data} {trial.name}: mIoU {miou or 0:.3f}{said}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        return 0


def read_record(path: Path) -> dict[str, Any]:
    """A trial's record."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def records_of(folder: Path, trials: Sequence[Trial]) -> dict[Trial, dict[str, Any]]:
    """The records of trials that have one."""
    paths = {trial: folder / trial.data / f"{trial.name}.json" for trial in dict.fromkeys(trials)}
    return {trial: read_record(path) for trial, path in paths.items() if path.is_file()}
