"""The model of a call: which it is, and loaded once in each process that segments."""

from __future__ import annotations

import hashlib
import json
import threading
from functools import lru_cache
from pathlib import Path

from wsi_deform.distribute.chosen import ChosenModel
from wsi_deform.errors import ModelError
from wsi_deform.model import Model, device_name
from wsi_deform.model_file import CHECKSUM, find_model, load_model, read_model_facts

_loading = threading.Lock()


def chosen_model(run: Path, device: str, *, is_here: bool) -> ChosenModel:
    """Load a model and say what a call must know of it before anything is written.

    Args:
        run: A run folder or a file of a model, see ``find_model``.
        device: "auto", or a torch device.
        is_here: Whether this process segments with it, on that device; False loads it on the CPU, and takes the name of
            the device as it is.

    Raises:
        ModelError: There is no such model, it cannot be loaded, or this machine does not have the device.
        ConfigError: See ``read_model_facts``.
    """
    path = find_model(run).absolute()
    sha256 = model_sha256(path)
    name = device_name(device) if is_here else device
    model = loaded_model(path, sha256, name if is_here else "cpu")
    return ChosenModel(
        path=path,
        sha256=sha256,
        device=name,
        classes=model.classes,
        mpp=model.mpp,
        needs_labels=model.needs_labels,
        has_blocks=model.has_blocks,
    )


def model_sha256(model: Path) -> str:
    """Hash of a model: its tensors (or the checksum of them, which loading checks), and what else its masks depend on.

    Args:
        model: A ``.safetensors`` file.

    Raises:
        ModelError: It, or the JSON beside it, cannot be read.
    """
    facts = read_model_facts(model)
    config = facts["config"]
    used = [
        facts["mpp"],
        facts["classes"],
        # Those of earlier versions have no blocks; their hashes stay as they were.
        {
            key: config[key]
            for key in ("sampling", "fields", "networks", "blocks")
            if config.get(key) is not None
        },
    ]
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    if CHECKSUM in facts:
        digest.update(facts[CHECKSUM].encode())
        return digest.hexdigest()
    try:
        with model.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"model {model}: cannot be read ({error}). Check the file.") from error
    return digest.hexdigest()


def loaded_model(path: Path, sha256: str, device: str) -> Model:
    """The model, loaded once per process, whichever of its threads asks first.

    Args:
        path: Its ``.safetensors``.
        sha256: Its hash: a file that was written again is another model.
        device: Where to put the weights.
    """
    with _loading:
        return _loaded(path, sha256, device)


@lru_cache(maxsize=1)
def _loaded(path: Path, sha256: str, device: str) -> Model:
    return load_model(find_model(path), device=device)
