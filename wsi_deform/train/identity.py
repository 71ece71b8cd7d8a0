"""What must be the same for a run to go on, and what is said where it is not."""

from __future__ import annotations

import json
import logging
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
from wsi_deform.train.ranks import Ranks

# Where and how fast a run computes, and what is kept of it, may change.
FREE = {"batch", "workers", "threads", "cache_gib", "keep", "pictures", "patience"}
# What the hash of version 0.1 left out of ``training``, first and last.
FREE_IN_VERSION_0_1 = ({"workers", "threads", "cache_gib"}, FREE)
MAX_SHOWN = 8
TABLE, LABELS = "class table", "label files"
MEANS_NO_LABEL = {"color", "groups"}
"""Keys of a class table that change no label: how it is drawn, and what measures are told of beside."""

logger = logging.getLogger(__name__)


def identity_of(
    config: Config, classes: ClassTable, manifest: Manifest, training: Sequence[Slide], ranks: Ranks
) -> dict[str, Any]:
    """What must be the same for a run to go on, and what is remarked upon: plain data for its checkpoint.

    Args:
        config: Of the run.
        classes: What its labels mean.
        manifest: Whose labels of train and val, which open, are told apart by their bytes: a file that is copied or
            touched is the same.
        training: Its slides of train.
        ranks: Its processes.
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
    }


def check_identity(run: Path, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse to go on with what is another run.

    Args:
        run: The run folder.
        stored: The identity in its checkpoint; empty where there is none.
        identity: What ``identity_of`` gives now.

    Raises:
        TrainingError: They differ; the message names the settings, with their values then and now. Or an earlier
            version wrote the checkpoint, and config.yaml is not the one that it was trained with.
    """
    before = (
        _of_version_0_1(run, stored) if isinstance(stored.get("config"), str) else _completed(run, stored)
    )
    _remark_on_labels(run, before.get(LABELS, {}), identity.get(LABELS, {}))
    changed = [key for key, value in before.items() if key != LABELS and identity.get(key) != value]
    if not changed:
        return
    remedy = "Choose another --out, or delete the folder to start again."
    told = [key for key in (TABLE, "config") if key in changed]
    said = " and ".join([*(key for key in changed if key not in told), *told])
    if told:
        said += ": " + ", ".join(_differences(before[key], identity[key]) for key in told)
    if "config" in changed:
        remedy = f"Go on with --config {run / 'config.yaml'}. Or choose another --out, or delete the folder."
    raise TrainingError(f"run {run}: was started with other {said}. Needed the same to go on. {remedy}")


def _meanings(classes: ClassTable) -> dict[str, Any]:
    """What a class table says of labels: class -> its values, colours and names; and what else decides a label."""
    data = classes.to_data()
    held = {
        each["name"]: {key: value for key, value in each.items() if key not in {"name", *MEANS_NO_LABEL}}
        for each in data.pop("classes")
    }
    return held | {f"({key})": value for key, value in data.items() if key not in MEANS_NO_LABEL}


def _remark_on_labels(run: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say which files of labels hold something else than when the run last went on."""
    changed = [name for name, content in before.items() if now.get(name, content) != content]
    if changed:
        shown = ", ".join(changed[:MAX_SHOWN]) + (", ..." if len(changed) > MAX_SHOWN else "")
        logger.warning(
            "run %s: labels of %s changed since it was started (%s); it goes on with the new ones, and "
            "losses and mIoU before and after are not of the same labels",
            run,
            "1 slide" if len(changed) == 1 else f"{len(changed)} slides",
            shown,
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


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings that differ, e.g. "loss.focal_gamma 2.0 (now 0.0)"; absent is an option of another network."""
    one, two = _flat(before), _flat(now)
    said = [
        f"{key} {json.dumps(one[key]) if key in one else 'absent'} "
        f"(now {json.dumps(two[key]) if key in two else 'absent'})"
        for key in {**one, **two}
        if key not in one or key not in two or one[key] != two[key]
    ]
    return ", ".join(said[:MAX_SHOWN]) + (
        f" and {len(said) - MAX_SHOWN} more" if len(said) > MAX_SHOWN else ""
    )


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found
