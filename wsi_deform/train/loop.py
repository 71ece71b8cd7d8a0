"""The training loop: reads top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.config_sections import Config
from wsi_deform.data.batches import load
from wsi_deform.manifest.rows import Manifest
from wsi_deform.model import device_name
from wsi_deform.train.keep import keep_model
from wsi_deform.train.log import RunLog, epoch_row
from wsi_deform.train.pictures import chosen_fields, draw_fields
from wsi_deform.train.ranks import joined_ranks
from wsi_deform.train.run import Run
from wsi_deform.train.schedule import edge_weight, set_learning_rates
from wsi_deform.train.start import start_run
from wsi_deform.train.step import training_step
from wsi_deform.train.validation import validate
from wsi_deform.train.watcher import NullWatcher, Watcher

SECONDS_BETWEEN_CHECKPOINTS = 30.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How training ended.

    Attributes:
        run: The run folder.
        finished: False when it was asked to stop; running the same command goes on.
        epochs: Epochs done.
        best: Best validation mIoU, or None without validation slides.
        best_epoch: The epoch that had it, or None.
        stopped_early: Whether ``training.patience`` ended it before its last epoch; it is finished all the same.
        miou_classes: Which classes the mean ``best`` is over; where validation slides have labels of one class and
            ``best`` is None, what they hold. None without validation slides.
    """

    run: Path
    finished: bool
    epochs: int
    best: float | None
    best_epoch: int | None
    stopped_early: bool
    miou_classes: MeanClasses | None = None


def train(
    config: Config,
    manifest: Manifest,
    classes: ClassTable,
    run: Path,
    *,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] | None = None,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
    init_from: Path | None = None,
    on_remark: Callable[[str], None] = logger.info,
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
        seconds_between_checkpoints: A killed run loses the steps since the newest one; 0 writes one after every step.
        init_from: A run folder or model file whose weights a new run starts from, as far as they fit, see
            ``train.origin``; a run that goes on needs it no more.
        on_remark: Told what was taken of it, and how a finished run goes on for more epochs.

    Returns:
        How it ended.

    Raises:
        ModelError: ``init_from`` is no model, or of another kind of networks.
        TrainingError: No training slide, a loss that is not finite, a run folder of another
            configuration, class table or manifest, or another process was lost.
        WsiDeformError: A slide or mask cannot be used.

    Convention:
        A finished run goes on where only ``training.epochs`` has changed, to more. Started by ``torchrun``, every
        process calls this with the same arguments; process 0 writes and watches.
    """
    with joined_ranks(device_name(config.device)) as ranks:
        told = watcher if watcher is not None and ranks.writes else NullWatcher()
        training_run = start_run(
            config,
            manifest,
            classes,
            run,
            command,
            ranks=ranks,
            checkpoint_every_s=seconds_between_checkpoints,
            watcher=told,
            stop=stop,
            init_from=init_from,
            on_remark=on_remark,
        )
        if training_run.knows_positions and not training_run.finished:
            _train(training_run, told, stop)
        return _result(training_run)


def _train(run: Run, watcher: Watcher, stop: Callable[[], bool]) -> None:
    """The epochs that are left, or as many steps as nobody asks to stop."""
    watcher.start(
        epochs=run.config.training.epochs,
        steps=len(run.batches(epoch=0)),
        fields=len(run.views),
        samples=sum(item.size.area for item in run.views.items),
        resumed_at=run.counters.epoch,
    )
    with RunLog(run.folder, run.counters.rows) if run.ranks.writes else nullcontext() as log:
        while not run.finished:
            row = _train_epoch(run, watcher, stop)
            if row is None:
                if run.ranks.writes:
                    run.save(None)
                return
            _validate_epoch(run, row, log)
            _close_epoch(run, row, log)
            watcher.epoch(row)


def _train_epoch(run: Run, watcher: Watcher, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """The steps of an epoch that are left; its line of the log, or None when it was asked to stop."""
    config, counters = run.config, run.counters
    epoch, since = counters.epoch, time.monotonic()
    run.allocate()
    run.move()
    run.model.train()
    batches = run.batches(epoch=epoch)
    # A run that stopped after the last step of an epoch has none left, and its rates all the same.
    last = min(counters.step, len(batches) - 1)
    rates = set_learning_rates(run.optimiser, config, epoch, last, len(batches))
    ranks, left = run.ranks, batches[counters.step :]
    for shapes in load(run.views, left, config.training.workers, rank=ranks.rank, world=ranks.world):
        waited = time.monotonic() - since
        place = (epoch, counters.step, len(batches))
        rates = set_learning_rates(run.optimiser, config, *place)
        done = training_step(
            run.learner, shapes, epoch=epoch, step=counters.step, edge_weight=edge_weight(config, *place)
        )
        if run.average is not None:
            run.average.update()
        done["read_seconds"] += waited
        done["seconds"] = time.monotonic() - since
        for name, value in done.items():
            counters.sums[name] = counters.sums.get(name, 0.0) + value
        counters.step += 1
        watcher.step(epoch=epoch, step=counters.step, loss=done["loss"])
        if ranks.any(stop()):
            return None
        if ranks.writes and run.checkpoint_is_due:
            run.save_checkpoint()
        since = time.monotonic()
    return {"epoch": epoch + 1, **epoch_row(counters.sums, counters.step), **rates}


def _validate_epoch(run: Run, row: dict[str, Any], log: RunLog | None) -> None:
    """Measure and draw the validation slides when it is time, and keep the model if it is the best so far."""
    settings, counters = run.config.training, run.counters
    due = row["epoch"] == settings.epochs or row["epoch"] % settings.validate_every == 0
    if not (run.validation and due):
        return
    with run.kept_weights():
        row |= validate(run.model, run.validation, ranks=run.ranks)
        miou = row.get("val_miou")  # labels of one class measure nothing, and no epoch is better than another
        better = miou is not None and (counters.best is None or miou > counters.best)
        if better:
            counters.best, counters.best_epoch = miou, row["epoch"]
        if miou is not None:
            counters.waited = 0 if better else counters.waited + 1
        if log is None:
            return
        if run.shown is None:
            run.shown = chosen_fields(run.model, run.validation, max_fields=settings.pictures)
        log.show(row["epoch"], draw_fields(run.model, run.shown))
        if better:
            run.save_model("best", row)
        keep_model(run.folder, row["epoch"], keep=settings.keep, save=lambda name: run.save_model(name, row))


def _close_epoch(run: Run, row: dict[str, Any], log: RunLog | None) -> None:
    """Log the epoch, move on to the next, and save when the last time was a while ago."""
    counters = run.counters
    counters.rows.append(row)
    counters.epoch, counters.step, counters.sums = row["epoch"], 0, {}
    if log is None:
        return
    log.write(counters.rows)
    if run.stopped_early:
        logger.info(
            "run %s: stopped after epoch %d: %d validations without one better than %.3f in epoch %d",
            run.folder,
            counters.epoch,
            counters.waited,
            counters.best,
            counters.best_epoch,
        )
    if run.finished or run.checkpoint_is_due:
        log.draw(counters.rows)
        run.save(row)


def _result(run: Run) -> TrainingResult:
    counters = run.counters
    validated = [row for row in counters.rows if row.get("miou_classes")]
    said = [row for row in validated if row["epoch"] == counters.best_epoch] or validated[-1:]
    return TrainingResult(
        run=run.folder,
        finished=run.finished,
        epochs=counters.epoch,
        best=counters.best,
        best_epoch=counters.best_epoch,
        stopped_early=run.stopped_early,
        miou_classes=MeanClasses.from_data(said[0]["miou_classes"]) if said else None,
    )
