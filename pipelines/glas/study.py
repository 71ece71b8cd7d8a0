"""Train, segment and evaluate over budgets, densities and seeds; write the table of README.md.

    python pipelines/glas/study.py --slides DIR --out OUT --budgets 24x113 48x226 --seeds 0 1

DIR is what ``biopsies.py`` made. OUT gets ``runs/NAME``, ``masks/NAME``, ``results.csv`` and ``results.md``.
What is finished is skipped, and a run that was stopped goes on: the same command can be given again. Both
tables hold the combinations that the command names.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import Config, dump_config, read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import ConfigError, MaskError, WsiDeformError
from wsi_deform.evaluate.masks import evaluate_masks, rows_of_split
from wsi_deform.evaluate.tables import evaluation_data, write_evaluation
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest
from wsi_deform.provenance import provenance, write_aside, write_text
from wsi_deform.report.files import duration, read_json
from wsi_deform.report.run import read_log
from wsi_deform.report.tables import Table, mean_and_spread
from wsi_deform.slide.open import open_slide
from wsi_deform.train.loop import train
from wsi_deform.train.watcher import Quiet

CONFIG = Path(__file__).parents[2] / "configs" / "glas.yaml"
DENSITIES = ("uniform", "learned")
EVALUATION = "evaluation.json"
SECONDS_BETWEEN_LINES = 30.0

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One cell of the study.

    Attributes:
        budget: Short and long side of the sampled image, px.
        density: "uniform" or "learned".
        seed: Of initialisation, order and augmentation.
    """

    budget: tuple[int, int]
    density: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.density}-{self.budget[0]}x{self.budget[1]}-seed{self.seed}"

    def config(self, path: Path, changes: Sequence[str]) -> Config:
        """The study's configuration with this budget, density and seed."""
        own = [
            f"name={self.density} {self.budget[0]}x{self.budget[1]} seed {self.seed}",
            f"sampling.budget={list(self.budget)}",
            f"sampling.density={self.density}",
            f"seed={self.seed}",
        ]
        return read_config(path, changes=[*changes, *own])


class Lines(Quiet):
    """Prints a line now and then, and one per validation."""

    def __init__(self, name: str) -> None:
        self.name, self.said, self.epochs = name, time.monotonic(), 0

    def start(self, *, epochs: int, steps: int, fields: int, samples: int, resumed_at: int) -> None:
        """Say how much there is to do."""
        self.epochs = epochs
        from_epoch = f", from epoch {resumed_at + 1}" if resumed_at else ""
        print(f"{self.name}: {epochs} epochs of {steps} steps, {fields} fields{from_epoch}", flush=True)

    def epoch(self, row: dict[str, Any]) -> None:
        """Say how it goes."""
        if "val_miou" not in row and time.monotonic() - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = time.monotonic()
        validated = f", val mIoU {row['val_miou']:.3f}" if "val_miou" in row else ""
        print(
            f"{self.name}: epoch {row['epoch']}/{self.epochs}, loss {row['loss']:.4f}{validated}", flush=True
        )


def run_combination(
    each: Combination, manifest: Manifest, slides: Path, out: Path, config: Config
) -> Mapping[str, Any]:
    """Train, segment the test slides and evaluate; what an earlier call finished is only read.

    Args:
        each: Which.
        manifest: The slides.
        slides: The CSV it was read from.
        out: The study's folder.
        config: The configuration of this combination.

    Returns:
        What ``evaluation.json`` says.

    Raises:
        WsiDeformError: Training or evaluation cannot be done, or a slide could not be segmented or measured.
    """
    run, masks = out / "runs" / each.name, out / "masks" / each.name
    written = run / "config.yaml"
    same = written.is_file() and written.read_text(encoding="utf-8") == dump_config(config)
    if same and (masks / EVALUATION).is_file():
        print(f"{each.name}: done before", flush=True)
        return read_json(masks / EVALUATION)
    classes = read_class_table(manifest.folder / "classes.yaml")
    train(config, manifest, classes, run, watcher=Lines(each.name))
    print(f"{each.name}: segmenting", flush=True)
    batch = segment_slides(slide_sources(slides, out=masks, split="test"), run, masks, device=config.device)
    rows, split = rows_of_split(manifest, "test")
    evaluation = evaluate_masks(rows, masks, classes, split=split)
    if failed := batch.of("failed"):
        raise MaskError(f"{each.name}: {len(failed)} slides failed, {failed[0].slide_id}: {failed[0].reason}")
    if evaluation.unmeasured:
        first = evaluation.unmeasured[0]
        raise MaskError(
            f"{each.name}: {len(evaluation.unmeasured)} slides not measured, {first.slide_id}: {first.reason}"
        )
    about = provenance(config=config.model_dump(mode="json"), seed=config.seed)
    write_evaluation(evaluation, masks / EVALUATION, provenance=about)
    return evaluation_data(evaluation)


def result_row(each: Combination, evaluation: Mapping[str, Any], out: Path, slide: Size) -> Row:
    """One line of ``results.csv``."""
    pooled = evaluation["pooled"]
    predicted, sampled = pooled["predicted"], pooled["sampled"] or {}
    log = read_log(out / "runs" / each.name)
    return {
        "budget": f"{each.budget[0]}x{each.budget[1]}",
        "density": each.density,
        "seed": each.seed,
        "pixels_per_sample": round(slide.area / (each.budget[0] * each.budget[1])),
        "miou": predicted["miou"],
        "miou_without_background": predicted["miou_without_background"],
        **{f"iou {name}": value for name, value in predicted["iou"].items()},
        "gland_iou": gland_iou(predicted["confusion"]),
        "accuracy": predicted["accuracy"],
        "sampled_miou": sampled.get("miou"),
        "best_val_miou": max((row["val_miou"] for row in log if "val_miou" in row), default=None),
        "epochs": int(log[-1]["epoch"]),
        "training_seconds": round(sum(row["seconds"] for row in log), 1),
        "test_slides": len(evaluation["slides"]),
    }


def gland_iou(confusion: Sequence[Sequence[int]]) -> float:
    """IoU of glands against all else, whatever their grade.

    Args:
        confusion: Pixels by true (row) and predicted (column) class; class 0 is the background.
    """
    hit = sum(sum(line[1:]) for line in confusion[1:])
    missed = sum(line[0] for line in confusion[1:])
    return hit / max(1, hit + missed + sum(confusion[0][1:]))


def results_table(rows: Sequence[Row]) -> Table:
    """Mean and half the range over seeds, per budget and density.

    Convention:
        "learned - uniform" is the difference in mIoU in points (1/100), mean over the seeds that both have.
    """
    header = (
        "budget",
        "pixels per sample",
        "density",
        "mIoU",
        "without background",
        "IoU of all glands",
        "mIoU(Y', Y)",
        "training",
        "learned - uniform",
    )
    cells = []
    groups = dict.fromkeys((row["budget"], row["density"]) for row in rows)
    for budget, density in groups:
        own = [row for row in rows if (row["budget"], row["density"]) == (budget, density)]
        values = {
            key: [float(row[key]) for row in own if row[key] is not None]
            for key in ("miou", "miou_without_background", "gland_iou", "sampled_miou", "training_seconds")
        }
        seconds = values["training_seconds"]
        cells.append(
            (
                budget,
                f"{own[0]['pixels_per_sample']:,}",
                density,
                mean_and_spread(values["miou"]),
                mean_and_spread(values["miou_without_background"]),
                mean_and_spread(values["gland_iou"]),
                mean_and_spread(values["sampled_miou"]),
                duration(sum(seconds) / len(seconds)),
                _gain(rows, budget) if density == "learned" else "",
            )
        )
    return Table(header=header, rows=tuple(cells))


def write_results(rows: Sequence[Row], out: Path) -> None:
    """Write ``results.csv`` and ``results.md``."""
    with write_aside(out / "results.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    note = "Mean ± half the range over seeds (number of seeds); test slides, pooled over all pixels.\n"
    write_text(out / "results.md", f"{results_table(rows).markdown()}\n{note}")


def _gain(rows: Sequence[Row], budget: str) -> str:
    """Learned minus uniform over the seeds that both have, in points."""
    by_seed = {(row["density"], row["seed"]): row["miou"] for row in rows if row["budget"] == budget}
    seeds = sorted({seed for _, seed in by_seed})
    gains = [
        100 * (by_seed["learned", seed] - by_seed["uniform", seed])
        for seed in seeds
        if ("learned", seed) in by_seed and ("uniform", seed) in by_seed
    ]
    if not gains:
        return ""
    each = ", ".join(f"{gain:+.1f}" for gain in gains)
    return f"{sum(gains) / len(gains):+.1f}" + (f" ({each})" if len(gains) > 1 else "")


def budget_of(text: str) -> tuple[int, int]:
    """Short and long side from ``24x113``."""
    short, times, long = text.lower().partition("x")
    if not (times and short.isdecimal() and long.isdecimal() and 1 <= int(short) <= int(long)):
        raise argparse.ArgumentTypeError(f"{text!r}: needed SHORTxLONG, e.g. 24x113")
    return int(short), int(long)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run every combination, write the table after each."""
    parser = argparse.ArgumentParser(description="Uniform against learned density on GlaS biopsies.")
    parser.add_argument("--slides", type=Path, required=True, help="what biopsies.py made")
    parser.add_argument("--out", type=Path, required=True, help="gets runs/, masks/, results.csv, results.md")
    parser.add_argument("--budgets", type=budget_of, nargs="+", default=[(24, 113), (48, 226)])
    parser.add_argument("--densities", choices=DENSITIES, nargs="+", default=list(DENSITIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, help="default: what the configuration says")
    parser.add_argument("--config", type=Path, default=CONFIG, help="default: configs/glas.yaml")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    changes = given.changes + ([f"training.epochs={given.epochs}"] if given.epochs else [])
    path = given.slides / "manifest.csv"
    rows: list[Row] = []
    try:
        if not path.is_file():
            raise ConfigError(
                f"--slides {given.slides}: no manifest.csv in it. Needed what biopsies.py made. Run it first."
            )
        manifest = read_manifest(path)
        first = rows_of_split(manifest, "test")[0][0]
        slide = open_slide(first.slide, mpp=first.mpp).size
        # Seeds outermost: after the first seed there is a whole table, if only of one seed.
        for seed, budget, density in itertools.product(given.seeds, given.budgets, given.densities):
            each = Combination(budget=budget, density=density, seed=seed)
            evaluation = run_combination(each, manifest, path, given.out, each.config(given.config, changes))
            rows.append(result_row(each, evaluation, given.out, slide))
            rows.sort(
                key=lambda row: (int(row["budget"].split("x")[0]), row["density"] == "learned", row["seed"])
            )
            write_results(rows, given.out)
            print(f"{each.name}: test mIoU {rows_of(rows, each)['miou']:.4f}", flush=True)
    except WsiDeformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(results_table(rows).markdown(), end="")
    return 0


def rows_of(rows: Sequence[Row], each: Combination) -> Row:
    """The line of a combination."""
    budget = f"{each.budget[0]}x{each.budget[1]}"
    wanted = (budget, each.density, each.seed)
    return next(row for row in rows if (row["budget"], row["density"], row["seed"]) == wanted)


if __name__ == "__main__":
    sys.exit(main())
