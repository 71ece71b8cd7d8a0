"""Pretrained weights from a local file: nothing is downloaded, and no code in the file is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wsi_deform.errors import ModelError

#: Keys under which training programs nest the weights.
_NESTS = ("state_dict", "model_state_dict", "model", "network", "net")
#: What wrappers (DistributedDataParallel, torch.compile, trainers) put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What became of every name in a weight file and in the network.

    Attributes:
        path: The weight file.
        loaded: Names, in the network, whose values now come from the file.
        missing: Names in the network that the file does not have; they keep their values.
        unexpected: Names in the file, prefixes removed, that the network does not have.
        shape_mismatched: Names in the network whose shape in the file is another; they keep their values.
    """

    path: Path
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shape_mismatched: tuple[str, ...]

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.path.name}: {len(self.loaded)} loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.shape_mismatched)} of another shape"
        )


def load_pretrained(network: nn.Module, path: Path | str) -> LoadReport:
    """Load what fits of a weight file into a network, or into its ``backbone`` where the names fit there.

    Args:
        network: Changed in place.
        path: A ``.safetensors`` file, or a file of ``torch.save`` that holds tensors only: the names plain,
            nested under ``state_dict`` or ``model``, or prefixed by ``module.`` or ``model.``.

    Returns:
        What was loaded and what was not. Read it: a classification checkpoint has no segmentation head, so
        that is missing.

    Raises:
        ModelError: The file cannot be read, holds more than tensors, or does not fit: no name fits, or more
            names fit in name only than in shape as well (a checkpoint of another width).

    Convention:
        Nothing is changed where an error is raised.
    """
    path = Path(path)
    found = _without_prefixes(_tensors(_read(path), path))
    own = network.state_dict()
    names = _placed(found, network, own)
    fitting = {name: found[key] for name, key in names.items() if own[name].shape == found[key].shape}
    mismatched = tuple(name for name in names if name not in fitting)
    if not fitting or len(mismatched) > len(fitting):
        raise ModelError(_misfit(path, found, own, names, mismatched))
    network.load_state_dict(fitting, strict=False)
    used = set(names.values())
    return LoadReport(
        path=path,
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in names),
        unexpected=tuple(key for key in found if key not in used),
        shape_mismatched=mismatched,
    )


def _read(path: Path) -> object:
    if not path.is_file():
        raise ModelError(
            f"weights {path}: no such file. Download it and give its path; nothing is fetched here."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights {path}: holds more than tensors, or is no file of torch.save. Needed a state dict "
            f"that loads without running code; save `network.state_dict()` and give that file. "
            f"({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise ModelError(
            f"weights {path}: cannot be read ({_first_line(error)}). Is the download complete?"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    """The names and tensors of a state dict, out of whatever it is nested in."""
    for _ in range(len(_NESTS)):
        if not isinstance(content, Mapping):
            break
        nested = next((content[key] for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            break
        content = nested
    tensors = (
        {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ModelError(
            f"weights {path}: found {type(content).__name__} without a tensor, needed a state dict "
            f"(names and tensors), plain or under one of {', '.join(_NESTS)}."
        )
    return tensors


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers put before every one of them."""
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _placed(found: Mapping[str, Tensor], network: nn.Module, own: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the network -> name in the file, for the reading under which most of them meet.

    A checkpoint may be of the whole network, or of the backbone alone.
    """
    prefixes = ["", *(["backbone."] if isinstance(getattr(network, "backbone", None), nn.Module) else [])]
    readings = [
        {prefix + key: key for key in found if prefix + key in own} for prefix in (*prefixes, "network.")
    ]
    return max(readings, key=len)


def _misfit(
    path: Path,
    found: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    names: Mapping[str, str],
    mismatched: tuple[str, ...],
) -> str:
    if not mismatched:
        return (
            f"weights {path}: none of its {len(found)} names is in the network. "
            f"It has {next(iter(found))!r}, the network has {next(iter(own), 'nothing')!r}. "
            "Is it a checkpoint of another network?"
        )
    first = mismatched[0]
    return (
        f"weights {path}: {len(mismatched)} of {len(names)} names have another shape, such as {first!r}: "
        f"{tuple(found[names[first]].shape)} in the file, {tuple(own[first].shape)} in the network. "
        f"Is it a checkpoint of another width?"
    )
