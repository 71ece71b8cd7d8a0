"""The model of a call: which it is, and loaded once in each process that segments."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from wsi_deform.distribute.chosen import ChosenModel
from wsi_deform.model import Model
from wsi_deform.model_file import find_model, load_model
from wsi_deform.networks.device import device_name
from wsi_deform.runtime.choice import TORCH, Asked, Runtime, chosen_runtime, device_asked
from wsi_deform.runtime.identity import model_sha256
from wsi_deform.runtime.measured import fastest_runtime

__all__ = ["chosen_model", "loaded_model", "model_sha256", "runtime_of"]

_loading = threading.Lock()


def chosen_model(run: Path, device: str, asked: Asked = Asked(), *, is_here: bool) -> ChosenModel:
    """Load a model and say what a call must know of it before anything is written.

    Args:
        run: A run folder or a file of a model, see ``find_model``.
        device: "auto", or a torch device.
        asked: The runtime that was asked for.
        is_here: Whether this process segments with it, on that device; False loads it on the CPU, and takes the name of
            the device as it is.

    Raises:
        ModelError: There is no such model, it cannot be loaded, or the device or the runtime is not here.
        ConfigError: See ``read_model_facts``.
    """
    path = find_model(run).absolute()
    sha256 = model_sha256(path)
    device = device_asked(asked, device)
    name = device_name(device) if is_here else device
    runtime = runtime_of(asked, name, path, sha256)
    model = loaded_model(path, sha256, name, runtime) if is_here else loaded_model(path, sha256, "cpu")
    return ChosenModel(
        path=path,
        sha256=sha256,
        device=name,
        classes=model.classes,
        mpp=model.mpp,
        needs_labels=model.needs_labels,
        has_blocks=model.has_blocks,
        runtime=runtime,
    )


def runtime_of(asked: Asked, device: str, path: Path, sha256: str) -> Runtime:
    """What computes the networks of a call.

    Args:
        asked: What was asked for.
        device: Where slides are segmented; a runtime that was not named is torch where that is not known to be the CPU.
        path: The model's ``.safetensors``.
        sha256: Its hash.

    Raises:
        ModelError: See ``choice.chosen_runtime``.
    """

    def digest() -> str:
        from wsi_deform.runtime.quantised import read_quantised

        return read_quantised(path, sha256).digest

    return chosen_runtime(asked, device, quantised=digest, fastest=fastest_runtime)


def loaded_model(path: Path, sha256: str, device: str, runtime: Runtime = TORCH) -> Model:
    """The model, loaded once per process, whichever of its threads asks first.

    Args:
        path: Its ``.safetensors``.
        sha256: Its hash: a file that was written again is another model.
        device: Where to put the weights.
        runtime: What computes its networks.
    """
    with _loading:
        return _loaded(path, sha256, device, runtime)


@lru_cache(maxsize=1)
def _loaded(path: Path, sha256: str, device: str, runtime: Runtime) -> Model:
    model = load_model(find_model(path), device=device)
    if runtime.name == "torch":
        return model
    # Only here: few calls need it.
    from wsi_deform.runtime.use import use_runtime

    return use_runtime(model, runtime, path=path, model_sha256=sha256)
