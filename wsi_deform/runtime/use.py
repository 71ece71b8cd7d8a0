"""A model whose networks another runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.model import Model
from wsi_deform.networks.stand_in import put_in
from wsi_deform.runtime.choice import Runtime, RuntimeName, require
from wsi_deform.runtime.parts import channels_of, joined, parts_of
from wsi_deform.runtime.prepared import Engine, engine_of, prepared
from wsi_deform.runtime.quantised import read_quantised


class Elsewhere:
    """Stands in for a network: another runtime computes its passes.

    Args:
        part: Name of the network, see ``parts_of``.
        name: The runtime.
        path: The network's file for it.

    Convention:
        Compiled at its first pass, in the process and with the threads that it then has; pickles without that.
    """

    def __init__(self, part: str, name: RuntimeName, path: Path) -> None:
        self.part, self.name, self.path = part, name, path
        self._engine: Engine | None = None

    def __call__(self, image: Tensor) -> Any:
        """(B, channels, H, W) float32 on the CPU -> what the network gives, without a gradient."""
        engine = self._engine
        if engine is None:
            # Twice, where two threads ask at once: a waste, no harm.
            engine = self._engine = engine_of(self.path, self.name)
        found = engine(image.detach().float().contiguous().numpy())
        return joined([torch.from_numpy(each) for each in found], self.part)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled."""
        return self.__dict__ | {"_engine": None}


def use_runtime(model: Model, runtime: Runtime, *, path: Path, model_sha256: str) -> Model:
    """Have another runtime compute the networks of a model.

    Args:
        model: In evaluation mode, on the CPU where the runtime is another one than torch.
        runtime: Which.
        path: The model's ``.safetensors``; quantised networks lie beside it.
        model_sha256: What ``distribute.models.model_sha256`` gives for it.

    Returns:
        The model itself.

    Raises:
        ModelError: The runtime is not installed, cannot express a network or computes something else; the quantised
            networks are of another model, damaged, or made again meanwhile.
    """
    if runtime.name == "torch":
        return model
    require(runtime.name)
    if model.device.type != "cpu":
        raise ModelError(f"runtime {runtime.name} on device {model.device}: needed --device cpu.")
    files: dict[str, Path] = {}
    said = runtime.text
    if runtime.precision == "int8":
        quantised = read_quantised(path, model_sha256)
        if quantised.digest != runtime.digest:
            raise ModelError(f"model {path}: was quantised again meanwhile. Start again.")
        files, said = dict(quantised.files), f"{said} ({quantised.cost})"
    for part, network in parts_of(model).items():
        file = files.get(part) or prepared(
            network, part, runtime.name, model_sha256=model_sha256, channels=channels_of(model, part)
        )
        put_in(network, Elsewhere(part, runtime.name, file))
    model.computed_by = said
    return model


def elsewhere(network: nn.Module) -> Elsewhere | None:
    """What stands in for a network, if it is of this module."""
    found = vars(network).get("forward")
    return found if isinstance(found, Elsewhere) else None
