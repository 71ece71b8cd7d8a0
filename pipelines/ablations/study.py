"""Ablations: variants of the recipe at several budgets over several seeds, each trained until it no longer gains.

    python -m pipelines.ablations.study --out OUT --budgets 16x64 24x96 32x128 --seeds 0 1 2 [--groups methods geometry]
    python -m pipelines.ablations.study --out OUT --slides MANIFEST.csv ...         # on slides of your own

Slides are drawn, other ones for every seed (``--slides`` takes a manifest with all three splits instead, and
``classes.yaml`` beside it). Every trial is a process with one thread; ``--jobs`` run side by side. A trial that is
finished is not run again, one that was stopped goes on. Variants are chosen by what they reach on the validation
slides; the test slides are measured once, at the end. Writes ``results.csv``; ``tables.py`` makes the tables of README.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.ablations.trial import RESULT
from pipelines.ablations.variants import VARIANTS, Variant
from wsi_deform.drawn.study import draw_study
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size

SLIDE = Size(2048, 512)
TRAIN, VAL, TEST = 64, 16, 24
SETTINGS = (
    "networks.segmentation={name: 'monai:DynUNet'}",
    "augmentation.flip_y=true",
    "device=cpu",
)
DRAWN_EPOCHS = 60
VALIDATIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of the study.

    Attributes:
        variant: The recipe.
        budget: Short and long side of the sampled image, px.
        seed: Of the slides, the weights, the order and the augmentation.
    """

    variant: Variant
    budget: tuple[int, int]
    seed: int

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        words = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in self.variant.name)
        return out / "trials" / f"{self.budget[0]}x{self.budget[1]}" / words / f"seed{self.seed}"

    def changes(self, epochs: int, given: Sequence[str]) -> list[str]:
        """Its configuration as ``key=value``."""
        return [
            f"name={self.variant.name}",
            f"seed={self.seed}",
            *SETTINGS,
            f"sampling.budget={list(self.budget)}",
            f"training={{epochs: {epochs}, validate_every: {max(1, epochs // VALIDATIONS)}, "
            "threads: 1, pictures: 0}",
            *given,
            *self.variant.changes,
        ]


def main() -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slides", type=Path, help="manifest with train, val and test")
    parser.add_argument("--budgets", nargs="+", type=budget_of, default=[(16, 64)])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--groups", nargs="+", choices=sorted({each.group for each in VARIANTS}), default=[])
    parser.add_argument("--only", nargs="+", default=[], help="names of variants")
    parser.add_argument("--epochs", type=int, default=DRAWN_EPOCHS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", dest="changes", action="append", default=[], help="key=value for all trials")
    given = parser.parse_args()
    chosen = [
        variant
        for variant in VARIANTS
        if (not given.groups and not given.only)
        or variant.group in given.groups
        or variant.name in given.only
    ]
    # Seeds outermost: the table is complete for one seed before the next is begun.
    trials = [
        Trial(variant=variant, budget=budget, seed=seed)
        for seed, budget, variant in itertools.product(given.seeds, given.budgets, chosen)
    ]
    for seed in given.seeds if given.slides is None else ():
        drawn_slides(given.out, seed)
    with ThreadPoolExecutor(given.jobs) as pool:
        codes = list(pool.map(lambda trial: run(trial, given), trials))
    write_results(given.out)
    return int(any(codes))


def budget_of(text: str) -> tuple[int, int]:
    """``16x64`` as (16, 64)."""
    short, long = text.split("x")
    return int(short), int(long)


def drawn_slides(out: Path, seed: int) -> Path:
    """The manifest of the slides of a seed, drawn unless they are there."""
    folder = out / "slides" / f"seed{seed}"
    if not (folder / "manifest.csv").is_file():
        draw_study(folder, train=TRAIN, val=VAL, test=TEST, seed=seed, size=SLIDE)
    return folder / "manifest.csv"


def run(trial: Trial, given: argparse.Namespace) -> int:
    """Run one trial in a process of its own, unless it is finished; returns its exit code."""
    folder = trial.folder(given.out)
    if (folder / RESULT).is_file():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    slides = given.slides or given.out / "slides" / f"seed{trial.seed}" / "manifest.csv"
    task = {
        "folder": str(folder),
        "slides": str(slides),
        "changes": trial.changes(given.epochs, given.changes),
    }
    started = time.monotonic()
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            [sys.executable, "-m", "pipelines.ablations.trial", json.dumps(task)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    name = f"{trial.variant.name}, {trial.budget[0]}x{trial.budget[1]}, seed {trial.seed}"
    if code:
        print(f"{name}: failed, see {folder / 'log.txt'}", flush=True)
        return code
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    print(
        f"{name}: val {found['val_miou']:.3f}, test {found['test_miou']:.3f} "
        f"(linear {found['test_miou_linear']:.3f}, Y' {found['test_miou_sampled']:.3f}), "
        f"on tissue {found['test_tissue_share']:.2f}, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return 0


def write_results(out: Path) -> None:
    """One CSV row for every finished trial of the folder."""
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        for path in sorted((out / "trials").glob("*/*/*/" + RESULT)):
            short, long = budget_of(path.parents[2].name)
            seed = int(path.parent.name.removeprefix("seed"))
            trial = Trial(variant=variant, budget=(short, long), seed=seed)
            if trial.folder(out) != path.parent:
                continue
            found = json.loads(path.read_text(encoding="utf-8"))
            ious = {name: " ".join(map(str, found.pop(name))) for name in ("val_iou", "test_iou")}
            rounded = {
                name: round(value, 5) if isinstance(value, float) else value for name, value in found.items()
            }
            about = {
                "group": variant.group,
                "variant": variant.name,
                "budget": f"{short}x{long}",
                "seed": seed,
            }
            rows.append(about | rounded | ious)
    if not rows:
        return
    with write_aside(out / "results.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
