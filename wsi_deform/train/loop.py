"""The training loop: reads top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.annotation.raster import LABEL_CACHE, LabelMask
from wsi_deform.config import Config, dump_config
from wsi_deform.cover import fields_of
from wsi_deform.data.fields import FieldBatch, FieldViews, LabelledField, shuffled_batches
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.errors import TrainingError
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.manifest import Manifest
from wsi_deform.model import Model, device_name, save_model
from wsi_deform.networks.weights import load_pretrained
from wsi_deform.provenance import config_sha256, provenance, write_json, write_text
from wsi_deform.segment import segment_slide
from wsi_deform.slide.cache import set_cache_bytes
from wsi_deform.slide.slide import Slide
from wsi_deform.train.checkpoint import Counters, load_checkpoint, save_checkpoint
from wsi_deform.train.log import RunLog
from wsi_deform.train.step import batch_losses, change_of_step, hash_of

SECONDS_BETWEEN_CHECKPOINTS = 30.0
logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who is told how training goes; the command line draws progress bars with it."""

    def start(self, *, epochs: int, steps: int, fields: int, resumed_at: int) -> None:
        """Training starts: epochs in all, steps per epoch, training fields, first epoch of this process."""
        ...

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """A step is done."""
        ...

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; the row is what the log holds of it."""
        ...


class Quiet:
    """Watches nothing."""

    def start(self, *, epochs: int, steps: int, fields: int, resumed_at: int) -> None:
        """Ignore."""

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """Ignore."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Ignore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How training ended.

    Attributes:
        run: The run folder.
        finished: False when it was asked to stop; running the same command goes on.
        epochs: Epochs done.
        best: Best validation mIoU, or None without validation slides.
    """

    run: Path
    finished: bool
    epochs: int
    best: float | None


def train(
    config: Config,
    manifest: Manifest,
    classes: ClassTable,
    run: Path,
    *,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] | None = None,
) -> TrainingResult:
    """Train a model on the labelled slides of a manifest; goes on where a run folder stopped.

    Args:
        config: The configuration.
        manifest: Rows of split "train" are trained on, rows of split "val" choose the best model.
        classes: The class table.
        run: The run folder; made if missing.
        watcher: Told how it goes.
        stop: Asked after every step; True writes a checkpoint and returns.
        command: The command line, for the provenance.

    Returns:
        How it ended.

    Raises:
        TrainingError: No training slide, a loss that is not finite, or a run folder of another
            configuration, class table or manifest.
        WsiDeformError: A slide or mask cannot be used.
    """
    going = _start(config, manifest, classes, run, command)
    watcher = watcher or Quiet()
    watcher.start(
        epochs=config.training.epochs,
        steps=len(going.batches(epoch=0)),
        fields=len(going.views),
        resumed_at=going.counters.epoch,
    )
    with RunLog(run) as log:
        while going.counters.epoch < config.training.epochs:
            row = _train_epoch(going, watcher, stop)
            if row is None:
                going.save(None)
                return _result(going, finished=False)
            _validate_epoch(going, row)
            _close_epoch(going, row, log)
            watcher.epoch(row)
    return _result(going, finished=True)


@dataclass(slots=True, kw_only=True)
class _Going:
    """A run under way."""

    run: Path
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
        save_checkpoint(self.run, self.model, self.optimiser, self.counters)
        save_model(self.model, self.run / "last.safetensors", facts=_facts(self.config, self.counters, row))
        self.saved_at = time.monotonic()


def _start(
    config: Config, manifest: Manifest, classes: ClassTable, run: Path, command: Sequence[str] | None
) -> _Going:
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
    return _Going(
        run=run,
        config=config,
        model=model,
        optimiser=optimiser,
        counters=counters,
        views=FieldViews(items),
        validation=[open_labelled(row, classes) for row in manifest.of_split("val")],
        saved_at=time.monotonic(),
    )


def _train_epoch(going: _Going, watcher: Watcher, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """The steps of an epoch that are left; its line of the log, or None when it was asked to stop."""
    config, counters = going.config, going.counters
    epoch, started = counters.epoch, time.monotonic()
    going.model.train()
    batches = going.batches(epoch=epoch)
    # A run that stopped after the last step of an epoch has none left, and a rate all the same.
    rate = set_learning_rate(going.optimiser, config, epoch, counters.step, len(batches))
    for batch in load(going.views, batches[counters.step :], config.training.workers):
        rate = set_learning_rate(going.optimiser, config, epoch, counters.step, len(batches))
        loss = training_step(going.model, going.optimiser, batch, epoch=epoch, step=counters.step)
        for name, value in loss.items():
            counters.sums[name] = counters.sums.get(name, 0.0) + value
        counters.step += 1
        watcher.step(epoch=epoch, step=counters.step, loss=loss["loss"])
        if stop():
            return None
    means = {name: total / max(1, counters.step) for name, total in counters.sums.items()}
    return {"epoch": epoch + 1, **means, "learning_rate": rate, "seconds": time.monotonic() - started}


def _validate_epoch(going: _Going, row: dict[str, Any]) -> None:
    """Measure the validation slides when it is time, and keep the model if it is the best so far."""
    settings, counters = going.config.training, going.counters
    due = row["epoch"] == settings.epochs or row["epoch"] % settings.validate_every == 0
    if not (going.validation and due):
        return
    row |= validate(going.model, going.validation)
    if counters.best is None or row["val_miou"] > counters.best:
        counters.best = row["val_miou"]
        facts = _facts(going.config, counters, row)
        save_model(going.model, going.run / "best.safetensors", facts=facts)


def _close_epoch(going: _Going, row: dict[str, Any], log: RunLog) -> None:
    """Log the epoch, move on to the next, and save when the last time was a while ago."""
    counters = going.counters
    counters.rows.append(row)
    counters.epoch, counters.step, counters.sums = row["epoch"], 0, {}
    log.write(counters.rows)
    last = counters.epoch == going.config.training.epochs
    if last or time.monotonic() - going.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
        going.save(row)
        log.draw(counters.rows)


def _result(going: _Going, *, finished: bool) -> TrainingResult:
    counters = going.counters
    return TrainingResult(run=going.run, finished=finished, epochs=counters.epoch, best=counters.best)


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


def load(views: FieldViews, batches: Sequence[list[int]], workers: int) -> Any:
    """Batches in the given order, read by spawned workers or right here."""
    loader: DataLoader[Any] = DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=views.collate,
        multiprocessing_context="spawn" if workers else None,
    )
    return (views.batch(loaded) for loaded in loader)


def training_step(
    model: Model, optimiser: torch.optim.Optimizer, batch: FieldBatch, *, epoch: int, step: int
) -> dict[str, float]:
    """One step; returns its losses by their names in the log."""
    config = model.config
    torch.manual_seed(hash_of(config.seed, epoch, step))
    losses = batch_losses(model, batch, change_of_step(config, batch, epoch=epoch, step=step))
    optimiser.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    if config.optimiser.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip_norm)
    optimiser.step()
    return {
        "loss": float(losses.total.detach()),
        "segmentation_loss": float(losses.segmentation.detach()),
        "edge_loss": float(losses.edge.detach()),
    }


def validate(model: Model, validation: Sequence[tuple[Slide, LabelMask]]) -> dict[str, float]:
    """Measure mIoU at full resolution over the validation slides, with and without background."""
    model.eval()
    counts = Confusion.empty(model.classes.count)
    for slide, labels in validation:
        reverse = segment_slide(slide, model).reverse()
        counts = counts + confusion_of(labels, reverse.region, size=slide.size, classes=model.classes.count)
    return {
        "val_miou": counts.miou(),
        "val_miou_without_background": counts.miou(without=model.classes.background),
    }


def optimiser_of(model: Model) -> torch.optim.Optimizer:
    """Adam with a learning rate for each network; ``base`` remembers it for the schedule."""
    settings = model.config.optimiser
    groups: list[dict[str, Any]] = [
        {"params": model.segmentation.parameters(), "base": settings.learning_rate}
    ]
    if model.deformation is not None:
        groups.append({"params": model.deformation.parameters(), "base": settings.deformation_learning_rate})
    return torch.optim.Adam(
        groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, config: Config, epoch: int, step: int, steps: int
) -> float:
    """Set the rates of one step from the schedule; returns the segmentation network's."""
    settings = config.optimiser
    factor = 1.0
    if settings.decay == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / config.training.epochs))
    elif settings.decay == "step":
        factor = 0.1 ** (epoch // settings.step_epochs)
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factor
    return float(optimiser.param_groups[0]["lr"])


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
    write_json(run / "provenance.json", _provenance(config, command))


def _facts(config: Config, counters: Counters, row: dict[str, Any] | None) -> dict[str, Any]:
    return {"epoch": counters.epoch, "metrics": row or {}, "provenance": _provenance(config, None)}


def _provenance(config: Config, command: Sequence[str] | None) -> dict[str, Any]:
    return provenance(command=command, config=config.model_dump(mode="json"), seed=config.seed)
