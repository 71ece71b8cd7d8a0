"""A run under way: everything that is opened, built or read back when training starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.annotation.raster import LABEL_CACHE, LabelMask
from wsi_deform.config import Config, dump_config
from wsi_deform.cover import fields_of
from wsi_deform.data.fields import FieldViews, LabelledField, shuffled_batches
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.errors import TrainingError
from wsi_deform.manifest import Manifest
from wsi_deform.model import Model, device_name, save_model
from wsi_deform.networks.weights import load_pretrained
from wsi_deform.provenance import config_sha256, provenance, write_json, write_text
from wsi_deform.slide.cache import set_cache_bytes
from wsi_deform.slide.slide import Slide
from wsi_deform.train.checkpoint import Counters, load_checkpoint, save_checkpoint
from wsi_deform.train.schedule import optimiser_of

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way.

    Attributes:
        folder: Where its files are.
        config: Its configuration.
        model: Both networks, where they are trained.
        optimiser: Of both.
        counters: How far it is; changes from step to step.
        views: The training fields.
        validation: Slides and labels that choose the best model.
        saved_at: Monotonic time of the newest checkpoint, s.
    """

    folder: Path
    config: Config
    model: Model
    optimiser: torch.optim.Optimizer
    counters: Counters
    views: FieldViews
    validation: list[tuple[Slide, LabelMask]]
    saved_at: float

    def batches(self, *, epoch: int) -> list[list[int]]:
        """All batches of an epoch."""
        return shuffled_batches(
            self.views.items, self.config.training.batch, seed=self.config.seed, epoch=epoch
        )

    def save(self, row: dict[str, Any] | None) -> None:
        """Write the checkpoint, and the model as it is now."""
        save_checkpoint(self.folder, self.model, self.optimiser, self.counters)
        save_model(
            self.model, self.folder / "last.safetensors", facts=facts_of(self.config, self.counters, row)
        )
        self.saved_at = time.monotonic()


def start_run(
    config: Config, manifest: Manifest, classes: ClassTable, run: Path, command: Sequence[str] | None
) -> Run:
    """Open slides and masks, build model and optimiser, and take up the checkpoint if there is one."""
    torch.manual_seed(config.seed)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    cache_bytes = int(config.training.cache_gib * 2**30)
    set_cache_bytes(cache_bytes)
    LABEL_CACHE.set_limit(cache_bytes)
    training = [open_labelled(row, classes) for row in manifest.of_split("train")]
    if not training:
        raise TrainingError(
            f'manifest in {manifest.folder}: no slide of split "train". Needed one or more. Fill the split column.'
        )
    model = Model(config=config, classes=classes, mpp=median_mpp([slide for slide, _ in training]))
    items = training_fields(training, model)
    if config.networks.pretrained is not None:
        report = load_pretrained(model.segmentation, config.networks.pretrained)
        logger.info("pretrained weights: %s", report)
    model.to(torch.device(device_name(config.device)))
    optimiser = optimiser_of(model)
    counters = load_checkpoint(run, model, optimiser)
    identity = _identity(config, classes, [slide for slide, _ in training])
    _check_identity(run, counters, identity)
    counters.identity = identity
    _describe_run(run, config, classes, command)
    return Run(
        folder=run,
        config=config,
        model=model,
        optimiser=optimiser,
        counters=counters,
        views=FieldViews(items, tissue=model.sees_tissue),
        validation=[open_labelled(row, classes) for row in manifest.of_split("val")],
        saved_at=time.monotonic(),
    )


def training_fields(training: Sequence[tuple[Slide, LabelMask]], model: Model) -> list[LabelledField]:
    """All fields of the training slides, in the order of the manifest."""
    items = []
    for slide, labels in training:
        for field in fields_of(slide, model):
            size = model.sampled_size(field.region.size)
            items.append(
                LabelledField(
                    slide=slide, labels=labels, field=field, size=size, map_size=model.map_size(size)
                )
            )
    if not items:
        raise TrainingError(
            "no tissue found on any training slide. Needed at least one field. Look at the slides."
        )
    return items


def _identity(config: Config, classes: ClassTable, training: Sequence[Slide]) -> dict[str, Any]:
    """What must be the same for a run to go on; where and how fast it computes may change."""
    free: Any = {"device": True, "training": {"workers", "threads", "cache_gib"}}
    return {
        "config": config_sha256(config.model_dump(mode="json", exclude=free)),
        "classes": list(classes.names),
        "slides": [slide.slide_id for slide in training],
    }


def _check_identity(run: Path, counters: Counters, identity: dict[str, Any]) -> None:
    changed = [key for key, value in counters.identity.items() if identity.get(key) != value]
    if changed:
        raise TrainingError(
            f"run {run}: was started with other {' and '.join(changed)}. Needed the same to go on. "
            "Choose another --out, or delete the folder to start again."
        )


def _describe_run(run: Path, config: Config, classes: ClassTable, command: Sequence[str] | None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "config.yaml", dump_config(config))
    write_class_table(classes, run / "classes.json")
    write_json(run / "provenance.json", provenance_of(config, command))


def facts_of(config: Config, counters: Counters, row: dict[str, Any] | None) -> dict[str, Any]:
    """What a stored model says of itself."""
    return {"epoch": counters.epoch, "metrics": row or {}, "provenance": provenance_of(config, None)}


def provenance_of(config: Config, command: Sequence[str] | None) -> dict[str, Any]:
    """Where a run comes from."""
    return provenance(command=command, config=config.model_dump(mode="json"), seed=config.seed)
