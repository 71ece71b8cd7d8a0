"""The training loop: reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import Config
from wsi_deform.data.fields import FieldViews
from wsi_deform.manifest import Manifest
from wsi_deform.model import save_model
from wsi_deform.train.log import RunLog
from wsi_deform.train.run import Run, facts_of, start_run
from wsi_deform.train.schedule import set_learning_rate
from wsi_deform.train.step import training_step
from wsi_deform.train.validation import validate
from wsi_deform.train.watcher import Quiet, Watcher

SECONDS_BETWEEN_CHECKPOINTS = 30.0


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
    going = start_run(config, manifest, classes, run, command)
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


def _train_epoch(going: Run, watcher: Watcher, stop: Callable[[], bool]) -> dict[str, Any] | None:
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


def _validate_epoch(going: Run, row: dict[str, Any]) -> None:
    """Measure the validation slides when it is time, and keep the model if it is the best so far."""
    settings, counters = going.config.training, going.counters
    due = row["epoch"] == settings.epochs or row["epoch"] % settings.validate_every == 0
    if not (going.validation and due):
        return
    row |= validate(going.model, going.validation)
    if counters.best is None or row["val_miou"] > counters.best:
        counters.best = row["val_miou"]
        facts = facts_of(going.config, counters, row)
        save_model(going.model, going.folder / "best.safetensors", facts=facts)


def _close_epoch(going: Run, row: dict[str, Any], log: RunLog) -> None:
    """Log the epoch, move on to the next, and save when the last time was a while ago."""
    counters = going.counters
    counters.rows.append(row)
    counters.epoch, counters.step, counters.sums = row["epoch"], 0, {}
    log.write(counters.rows)
    last = counters.epoch == going.config.training.epochs
    if last or time.monotonic() - going.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
        going.save(row)
        log.draw(counters.rows)


def _result(going: Run, *, finished: bool) -> TrainingResult:
    counters = going.counters
    return TrainingResult(run=going.folder, finished=finished, epochs=counters.epoch, best=counters.best)


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
