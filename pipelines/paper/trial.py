"""One trial: a system trained on a data set at a budget, its test images segmented, the masks measured.

Run as a process of its own by ``grid``: it calls what `wsi-deform train`, `segment` and `evaluate` call, and leaves one
JSON file, the trial's record, that everything else is made of.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from pipelines.glas.biopsies import ON_TISSUE
from pipelines.paper.datasets import DATA_SETS, QUICK, DataSet
from pipelines.paper.systems import DENSE, FROM_SCRATCH, SYSTEMS
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.config import find_config, is_of_samples, read_config
from wsi_deform.config_sections import Config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import WsiDeformError
from wsi_deform.evaluate.cost import mean_cost_of_rows
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.evaluate.slide_measures import ALL, BASIC
from wsi_deform.evaluate.tables import evaluation_data
from wsi_deform.files import write_text
from wsi_deform.manifest.read import read_manifest
from wsi_deform.provenance import git_state
from wsi_deform.slide_results import WantedOutputs
from wsi_deform.train.loop import train

DYNUNET = "{name: 'monai:DynUNet'}"
W18 = "{name: hrnetv2, width: 18, stem_stride: 1}"
PSPNET = "{name: pspnet}"
ENCODER = "{name: efficientnet-lite0, width: 64, frozen: true}"
NETWORKS = {"dynunet": DYNUNET, "w18": W18, "pspnet": PSPNET, "encoder": ENCODER}
"""Segmentation networks of the trials: name in files -> setting."""
VALIDATIONS, PATCH_VALIDATIONS = 8, 2
"""Of a training; patches look at every pixel of every validation image each time."""
PATCHES_PER_EPOCH = 4
"""Random crops of each image."""
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of a study.

    Attributes:
        data: Name of the data set.
        system: Name of the system.
        budget: (short, long) side of the sampled image.
        seed: Of weights, order and augmentation.
        network: Segmentation network, of ``NETWORKS``.
        variant: Name of what ``changes`` change; "" where there are none.
        changes: ``key=value`` over everything else.
        only_class: One class against all others; None is the data set's own classes.
    """

    data: str
    system: str
    budget: tuple[int, int]
    seed: int = 0
    network: str = "dynunet"
    variant: str = ""
    changes: tuple[str, ...] = ()
    only_class: str | None = None

    @property
    def name(self) -> str:
        """Its name in files: all that tells it from other trials of its data set."""
        parts = [self.system]
        if not SYSTEMS[self.system].looks:
            parts += [f"{self.budget[0]}x{self.budget[1]}", self.network]
        parts += [part for part in (self.variant, self.only_class and f"only-{self.only_class}") if part]
        return "_".join([*(part.replace(" ", "-") for part in parts), f"seed{self.seed}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a trial finds its images and leaves its record.

    Attributes:
        manifest: With all three splits; ``classes.yaml`` beside it.
        record: The trial's JSON.
        work: Its run and masks; removed when the record is written, unless ``keep``.
        keep: Whether run and masks stay, for pictures.
        steps: Steps of the optimiser, where they are not the data set's.
        classes: The class table; None is that beside the manifest.
    """

    manifest: Path
    record: Path
    work: Path
    keep: bool = False
    steps: int | None = None
    classes: Path | None = None
    settings: tuple[str, ...] = field(default=())


def data_set_of(name: str) -> DataSet:
    """A data set by name; one of nobody's is trained on like drawn slides."""
    if name == QUICK.name:
        return QUICK
    return DATA_SETS.get(name) or dataclasses.replace(DATA_SETS["drawn"], name=name, label=name, settings=())


def budget_of(text: str) -> tuple[int, int]:
    """A budget as it is written, 32x43 for (32, 43).

    Raises:
        ValueError: It is no such text.
    """
    short, long = (int(side) for side in text.split("x"))
    return short, long


def config_of(trial: Trial, *, images: int, steps: int | None = None, given: Sequence[str] = ()) -> Config:
    """The configuration of a trial.

    Args:
        trial: The trial.
        images: Number of training images: an epoch.
        steps: Steps of the optimiser; None is the data set's.
        given: ``key=value`` from the command line, below the system's and the trial's own changes.

    Returns:
        The system's packaged configuration with the network, budget and length of the study, the data set's settings,
        and the system's and the trial's own changes, in this order. All systems of a study get the same learning rates
        and augmentation, but those that bring their own (``System.keeps_rates``).
    """
    data, system = data_set_of(trial.data), SYSTEMS[trial.system]
    crops = PATCHES_PER_EPOCH if system.method == "patches" else 1
    per_epoch = max(1, images * crops // data.batch)
    epochs = max(1, round((steps or (data.looks.steps if system.looks else data.steps)) / per_epoch))
    validations = VALIDATIONS if system.method == "sampled" else PATCH_VALIDATIONS
    settings = [
        each for each in data.settings if not (system.keeps_rates and each.startswith("augmentation"))
    ]
    in_blocks = system.looks and not system.warps
    return read_config(
        find_config(system.config),
        changes=[
            f"name={trial.system}",
            f"seed={trial.seed}",
            "device=cpu",
            *(
                _looks(data, trial.system)
                if system.looks
                else (
                    f"networks.segmentation={NETWORKS[trial.network]}",
                    f"sampling.budget={list(trial.budget)}",
                    *(("networks.pretrained=efficientnet-lite0",) if trial.network == "encoder" else ()),
                )
            ),
            f"training.epochs={epochs}",
            f"training.validate_every={max(1, epochs // validations)}",
            f"training.batch={data.batch}",
            "training.threads=1",
            "training.pictures=0",
            *(each for each in settings if not (in_blocks and is_of_samples(each))),
            *(_patches(data) if system.method == "patches" else ()),
            *(
                each
                for each in given
                if not (system.looks and each.startswith("networks.segmentation"))
                and not (in_blocks and is_of_samples(each))
            ),
            *system.changes,
            *trial.changes,
        ],
    )


def _looks(data: DataSet, system: str) -> list[str]:
    """How fields are read with an encoder: in blocks, all of the one level that a dense system says, or a warp."""
    looks = data.looks
    if SYSTEMS[system].warps:
        return [
            f"networks.segmentation={ENCODER}",
            *(("networks.pretrained=efficientnet-lite0",) if looks.is_pretrained else FROM_SCRATCH),
        ]
    step = int(system.removeprefix("dense-")) if system in DENSE else 1
    unit = "px" if data.mpp is None else "um"
    other = "um" if data.mpp is None else "px"
    return [
        f"blocks.finest_{other}=null",
        f"blocks.finest_{unit}={looks.finest * step:g}",
        f"blocks.levels={1 if system in DENSE else looks.levels}",
        f"blocks.window_px={looks.window_px}",
        f"blocks.label_px={looks.label_px}",
        f"blocks.share={1.0 if system in DENSE else looks.shares[-1]}",
        *(() if looks.is_pretrained else FROM_SCRATCH),
        # A photograph shows no glass.
        f"blocks.skip_glass={'false' if data.mpp is None else 'true'}",
    ]


def _patches(data: DataSet) -> list[str]:
    """Fields that are patches of full resolution."""
    side = data.patch_px
    length = "fields.side_px={side}" if data.mpp is None else f"fields.side_um={side * data.mpp:g}"
    return [
        f"sampling.budget=[{side}, {side}]",
        "fields.side_um=null",
        length.format(side=side),
        f"training.fields_per_slide={PATCHES_PER_EPOCH}",
    ]


def run_trial(trial: Trial, place: Place) -> dict[str, Any]:
    """Train, segment and measure; a training that was stopped goes on.

    Returns:
        The record, which is written too: what was trained, ``curve`` (epoch, validation mIoU), ``pooled`` and
        per image ``images`` counts of the test images, what else was ``measured`` of them, mean ``cost`` of an image.
        Counts ``on_tissue`` are there where a manifest with such labels lies beside that of the data set.
    """
    manifest = read_manifest(place.manifest)
    classes = read_class_table(place.classes or place.manifest.parent / "classes.yaml")
    config = config_of(trial, images=len(manifest.of_split("train")), steps=place.steps, given=place.settings)
    system = SYSTEMS[trial.system]
    goes_on = (place.work / "run").is_dir()
    started = time.process_time()
    result = train(config, manifest, classes, place.work / "run")
    train_cpu_s = time.process_time() - started
    sources = slide_sources(place.manifest, out=place.work / "masks", split="test")
    started = time.process_time()
    batch = segment_slides(
        sources,
        place.work / "run",
        place.work / "masks",
        device="cpu",
        wanted=WantedOutputs(
            geojson=False,
            limit_to_tissue=False,
            patches=PatchSettings() if system.method == "patches" else None,
        ),
    )
    segment_cpu_s = time.process_time() - started
    failed = batch.of("failed")
    if failed:
        raise WsiDeformError(f"{trial.name}: {failed[0].slide_id}: {failed[0].reason}")
    evaluation = evaluate_masks(
        manifest.of_split("test"), place.work / "masks", classes, split="test", wanted=ALL
    )
    measures = _measures(evaluation_data(evaluation))
    if (on_tissue := place.manifest.with_name(ON_TISSUE)).is_file():
        # The same masks against labels that say nothing of glass.
        rows = read_manifest(on_tissue).of_split("test")
        again = evaluation_data(
            evaluate_masks(rows, place.work / "masks", classes, split="test", wanted=BASIC)
        )
        for slide in again["slides"]:
            measures["images"][slide["slide_id"]]["on_tissue"] = slide["predicted"]["confusion"]
    state = git_state()
    record = {
        "format": FORMAT,
        "trial": dataclasses.asdict(trial) | {"name": trial.name},
        "system": system.name,
        "settings": config.model_dump(mode="json"),
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "val_miou": result.best,
        "curve": _curve(place.work / "run"),
        "train_images": len(manifest.of_split("train")),
        # Of a training that went on, what came before is not known.
        "train_cpu_s": None if goes_on else round(train_cpu_s, 1),
        "segment_cpu_s": round(segment_cpu_s, 1),
        "commit": state["commit"] if state else None,
        **measures,
    }
    write_record(place.record, record)
    if not place.keep:
        shutil.rmtree(place.work, ignore_errors=True)
    return record


def _curve(run: Path) -> list[list[float]]:
    """Pairs (epoch, validation mIoU) of every validated epoch."""
    with (run / "log.csv").open(encoding="utf-8", newline="") as file:
        return [
            [int(row["epoch"]), round(float(row["val_miou"]), 5)]
            for row in csv.DictReader(file)
            if row["val_miou"]
        ]


def _measures(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of an evaluation: pooled measures, and the counts of each image for intervals."""
    images = {
        slide["slide_id"]: {
            "patient": slide["patient"],
            **{
                kind: slide[kind]["confusion"] for kind in ("predicted", "sampled") if slide[kind] is not None
            },
        }
        for slide in data["slides"]
    }
    return {
        "classes": data["classes"],
        "pooled": data["pooled"],
        "measured": {**data["measured"], "calibration": _calibration(data["measured"]["calibration"])},
        "cost": mean_cost_of_rows([slide["cost"] for slide in data["slides"]]),
        "images": images,
    }


def _calibration(data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The errors without the bins, which are most of a record."""
    return None if data is None else {key: value for key, value in data.items() if key != "bins"}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, a line per key, so that a change can be read; the file is whole or absent."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """Run the trial that the one argument describes (JSON)."""
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    run_trial(
        TypeAdapter(Trial).validate_python(given["trial"]), TypeAdapter(Place).validate_python(given["place"])
    )


if __name__ == "__main__":
    main()
