"""What must be the same for a run to go on, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.label_file import LabelFile
from wsi_deform.config import parse_config, read_yaml
from wsi_deform.config_format import FIRST, FORMAT, KEY
from wsi_deform.config_sections import Config
from wsi_deform.errors import ConfigError, TrainingError
from wsi_deform.manifest.rows import Manifest
from wsi_deform.provenance import config_sha256
from wsi_deform.slide.content import file_content
from wsi_deform.slide.slide import Slide
from wsi_deform.train.differences import MAX_SHOWN, differences, list_differences
from wsi_deform.train.ranks import Ranks

ORIGIN = "init_from"
# Where and how fast a run computes, and what is kept of it, may change.
FREE = {"batch", "workers", "threads", "cache_gib", "keep", "pictures", "patience"}
# What the hash of version 0.1 left out of ``training``, first and last.
FREE_IN_VERSION_0_1 = ({"workers", "threads", "cache_gib"}, FREE)
TABLE, LABELS = "class table", "label files"
MEANS_NO_LABEL = {"color", "groups"}
"""Keys of a class table that change no label: how it is drawn, and what measures are told of beside."""


def identity_of(
    config: Config,
    classes: ClassTable,
    manifest: Manifest,
    training: Sequence[Slide],
    ranks: Ranks,
    *,
    origin: str = "",
) -> dict[str, Any]:
    """What must be the same for a run to go on, and what is remarked upon: plain data for its checkpoint.

    Args:
        config: Its configuration.
        classes: Its classes, and what its labels mean.
        manifest: Whose labels of train and val, which open, are told apart by their bytes: a file that is copied or
            touched is the same.
        training: Its training slides.
        ranks: Its processes.
        origin: SHA-256 of the model whose weights it starts from, or empty.
    """
    files = {
        row.slide_id: LabelFile.of_row(row)
        for row in (*manifest.of_split("train"), *manifest.of_split("val"))
    }
    return {
        "config": _settings(config),
        # Two processes with a batch of 2 go on as one with a batch of 4.
        "batch": config.training.batch * ranks.world,
        "classes": list(classes.names),
        "slides": [slide.slide_id for slide in training],
        TABLE: _meanings(classes),
        LABELS: {name: file_content(file.path) for name, file in files.items() if file is not None},
        **({ORIGIN: origin} if origin else {}),
    }


def check_identity(
    run: Path, stored: Mapping[str, Any], identity: Mapping[str, Any], *, epochs_done: int = 0
) -> bool:
    """Refuse to go on with what is another run.

    Args:
        run: The run folder.
        stored: The identity in its checkpoint; empty where there is none.
        identity: What ``identity_of`` gives now.
        epochs_done: Epochs that the checkpoint has come to.

    Returns:
        Whether it is a finished run that is to go on for more epochs; nothing else may have changed.

    Raises:
        TrainingError: They differ; the message names what, with its values then and now. Or an earlier
            version wrote the checkpoint, and config.yaml is not the one that it was trained with.
    """
    before = (
        _of_version_0_1(run, stored) if isinstance(stored.get("config"), str) else _completed(run, stored)
    )
    # A checkpoint without an origin is of a run that has none.
    keys = {**before, ORIGIN: None} if before else {}
    changed = [key for key in keys if key != LABELS and identity.get(key) != before.get(key)]
    if not changed:
        return False
    if changed == ["config"] and _are_more_epochs(before["config"], identity["config"], epochs_done):
        return True
    # Other classes are another table, which would say the same again.
    told = [key for key in changed if key != "config" and (key != TABLE or "classes" not in changed)]
    said = [_difference(key, before.get(key), identity.get(key)) for key in told]
    remedy = "Choose another --out, or delete the folder to start again."
    if "config" in changed:
        said.append(f"config: {differences(before['config'], identity['config'])}")
        remedy = f"Go on with --config {run / 'config.yaml'}. Or choose another --out, or delete the folder."
        if (_geometry(before["config"]), _geometry(identity["config"])) == ("warp", "blocks"):
            # Until the default was dense, a command without --config was joint.
            remedy = (
                "What train takes without --config is no longer joint: if none was given then, go on with --config "
                f"joint and the other options that the run had. Or with --config {run / 'config.yaml'}; or choose "
                "another --out, or delete the folder."
            )
        if changed == ["config"] and _are_more_epochs(before["config"], identity["config"], None):
            remedy = (
                f"More epochs are for finished runs, and this one is in epoch {epochs_done + 1}: finish it first. "
                f"{remedy}"
            )
    if ORIGIN in changed and before.get(ORIGIN):
        remedy = f"Leave --init-from out to go on. {remedy}"
    raise TrainingError(
        f"run {run}: was started with other {'; '.join(said)}. Needed the same to go on. {remedy}"
    )


def _geometry(settings: Mapping[str, Any]) -> str:
    """How a configuration reads fields; a run that is older than the key had the warp."""
    return str(settings.get("sampling", {}).get("geometry", "warp"))


def _meanings(classes: ClassTable) -> dict[str, Any]:
    """What a class table says of labels: class -> its values, colours and names; and what else decides a label."""
    data = classes.to_data()
    held = {
        each["name"]: {key: value for key, value in each.items() if key not in {"name", *MEANS_NO_LABEL}}
        for each in data.pop("classes")
    }
    return held | {f"({key})": value for key, value in data.items() if key not in MEANS_NO_LABEL}


def labels_remark(run: Path, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """What to say where files of labels hold something else than when the run last went on; else nothing.

    Args:
        run: The run folder.
        stored: The identity in its checkpoint; empty where there is none.
        identity: What ``identity_of`` gives now.
    """
    now = identity.get(LABELS, {})
    changed = [name for name, content in stored.get(LABELS, {}).items() if now.get(name, content) != content]
    if not changed:
        return ""
    slides = "1 slide" if len(changed) == 1 else f"{len(changed)} slides"
    shown = ", ".join(changed[:MAX_SHOWN]) + (", ..." if len(changed) > MAX_SHOWN else "")
    return (
        f"run {run}: labels of {slides} changed since it was started ({shown}); it goes on with the new ones, and "
        "losses and mIoU before and after are not of the same labels"
    )


def _settings(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"format": True, "device": True, "training": FREE})


def _completed(run: Path, stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """An identity whose settings hold the keys that came later too: their defaults are what was so before."""
    if "config" not in stored:
        return stored
    try:
        config = parse_config({KEY: FORMAT} | stored["config"], source=f"checkpoint of {run}")
    except ConfigError:
        return stored  # a key that went, or of a newer version: said as a difference
    return {**stored, "config": _settings(config)}


def _of_version_0_1(run: Path, stored: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with the settings themselves in place of their hash, from the config.yaml that it is the hash of."""
    path = run / "config.yaml"
    try:
        raw = read_yaml(path)
    except ConfigError as error:
        raise TrainingError(
            f"run {run}: its checkpoint is of an earlier version and needs its settings. {error}"
        ) from error
    training = raw.get("training")
    hashes = [
        config_sha256({key: value for key, value in raw.items() if key != "device"} | {"training": kept})
        for free in FREE_IN_VERSION_0_1
        if isinstance(training, dict)
        for kept in [{key: value for key, value in training.items() if key not in free}]
    ]
    if stored["config"] not in hashes:
        raise TrainingError(
            f"run {run}: its checkpoint is of an earlier version, and config.yaml is not the one that it was trained "
            "with. Needed that, unchanged, to go on. Put it back, choose another --out, or delete the folder to start "
            "again."
        )
    config = parse_config({KEY: FIRST} | raw, source=str(path))
    # The first version had no processes, and the batch among its settings.
    return {"batch": config.training.batch, **stored, "config": _settings(config)}


def _difference(key: str, before: object, now: object) -> str:
    if key == ORIGIN:
        return f"weights to start from: {_origin_text(before)} (now {_origin_text(now)})"
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return f"{key}: {differences(before, now)}"
    return list_differences(key, before, now)


def _origin_text(sha256: object) -> str:
    return f"--init-from with SHA-256 {str(sha256)[:12]}" if sha256 else "none"


def _are_more_epochs(before: Mapping[str, Any], now: Mapping[str, Any], done: int | None) -> bool:
    """Whether all that differs is a larger number of epochs, and the run had ended; None does not ask for its end."""
    was, wanted = before["training"].get("epochs", 0), now["training"]["epochs"]
    same = {**now, "training": {**now["training"], "epochs": was}} == before
    return same and wanted > was and (done is None or done >= was)
