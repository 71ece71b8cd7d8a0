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
#: Parts of our networks that a checkpoint may hold alone.
_PARTS = ("backbone", "network")


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
    own = network.state_dict()
    found, names = _placed(_tensors(_read(path), path), network, own)
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


def _placed(
    found: dict[str, Tensor], network: nn.Module, own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The reading of a file under which most of its names are in the network.

    A checkpoint may be of the whole network or of one part (the backbone, what an adapter wraps), and its
    names may carry what wrappers put before every one of them.

    Returns:
        The file's tensors by their names in that reading, and name in the network -> name in that reading.
    """
    parts = [f"{name}." for name in _PARTS if isinstance(getattr(network, name, None), nn.Module)]
    readings = [
        (tensors, {part + key: key for key in tensors if part + key in own})
        for tensors in _without_wrappers(found)
        for part in ("", *parts)
    ]
    return max(readings, key=lambda reading: len(reading[1]))


def _without_wrappers(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The names as they are, then with one wrapper's prefix fewer at a time."""
    stages = [tensors]
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in stages[-1])), None):
        stages.append({name.removeprefix(prefix): tensor for name, tensor in stages[-1].items()})
    return stages


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
