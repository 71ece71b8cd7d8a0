"""Pretrained weights from a local file: nothing is downloaded, and no code in the file is run."""

from __future__ import annotations

import pickle
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.faults import pass_on_own_fault

#: Keys under which training programs nest the weights.
_NESTS = ("state_dict", "model_state_dict", "model", "network", "net")
#: What wrappers (DistributedDataParallel, torch.compile, trainers) put before every name, and other programs
#: before those of the backbone.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.", "encoder.")
RGB_CHANNELS = 3
#: Suffixes of files that hold a whole network, with why they are not opened.
_PROGRAMS = {
    ".pt2": "a program of torch.export, of which PyTorch reads what is no plain tensor by pickle, which runs code.",
    ".onnx": "a network of ONNX, which is not trained further here.",
}
#: What torch and safetensors raise on files that are cut off or scrambled, beside UnpicklingError.
_READ_ERRORS = (
    RuntimeError, ValueError, EOFError, OSError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, struct.error, SafetensorError,
)  # fmt: skip
#: Heads beside the backbone in published HRNet checkpoints, of ImageNet classification and of segmentation (Sun et al.,
#: and with object-contextual representations) -> how branches were resized where they were fused.
_FUSE_OF_HEADS = {
    "incre_modules": "nearest", "downsamp_modules": "nearest", "last_layer": "bilinear", "ocr_distri_head": "bilinear",
}  # fmt: skip
#: Parts of our networks that a checkpoint may hold alone.
_PARTS = ("backbone", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What became of every name in a weight file and in the network.

    Attributes:
        path: The weight file.
        loaded: Names, in the network, whose values now come from the file.
        widened: Those of them that take more input channels than the file's; the further ones start at 0.
        missing: Names in the network that the file does not have; they keep their values.
        unexpected: Names in the file, prefixes removed, that the network does not have.
        shape_mismatched: Names in the network whose shape in the file is another; they keep their values.
        shapes: Shape of every name, in the network where it is there, else in the file.
        found_shapes: Shape in the file of every name in ``widened`` and ``shape_mismatched``.
        remark: What fits in names and shapes and yet was trained otherwise; empty where nothing is known of it.
    """

    path: Path
    loaded: tuple[str, ...]
    widened: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shape_mismatched: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    found_shapes: Mapping[str, tuple[int, ...]]
    remark: str = ""

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.path.name}: {len(self.loaded)} loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.shape_mismatched)} of another shape"
        )

    def text(self, *, max_names: int = 8) -> str:
        """Several lines for people: what was not loaded, by name and shape.

        Args:
            max_names: Names shown of each kind; further ones are counted.

        Returns:
            The line of ``str``, then one line for each kind that is not empty, and one with the remark.
        """
        widened, different = (
            [f"{n} {_sides(self.shapes[n])} (file: {_sides(self.found_shapes[n])})" for n in names]
            for names in (self.widened, self.shape_mismatched)
        )
        kinds = {
            "loaded, further input channels start at 0": widened,
            "missing, keeps its start values": [f"{n} {_sides(self.shapes[n])}" for n in self.missing],
            "unexpected, ignored": [f"{n} {_sides(self.shapes[n])}" for n in self.unexpected],
            "of another shape, keeps its start values": different,
        }
        lines = [_line(kind, names, max_names) for kind, names in kinds.items() if names]
        return "\n".join([str(self), *lines, *([f"  {self.remark}"] if self.remark else [])])


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
        Nothing is changed where an error is raised. Where the network's first convolution sees more channels than the
        file's, such as the cell areas beside RGB, the weights of the further ones start at 0. HRNetV2 that fuses its
        branches otherwise than the network that the file's names tell of gets a ``remark``: no shape shows it.
    """
    path = Path(path)
    own = network.state_dict()
    found, names = _placed(_tensors(_read(path), path), network, own)
    tensors = {name: _widened(found[key], own[name]) for name, key in names.items()}
    fitting = {name: tensor for name, tensor in tensors.items() if own[name].shape == tensor.shape}
    widened = tuple(name for name in fitting if tensors[name].shape != found[names[name]].shape)
    mismatched = tuple(name for name in names if name not in fitting)
    if not fitting or len(mismatched) > len(fitting):
        raise ModelError(_misfit(path, found, own, names, mismatched))
    network.load_state_dict(fitting, strict=False)
    used = set(names.values())
    unexpected = tuple(key for key in found if key not in used)
    return LoadReport(
        path=path,
        loaded=tuple(name for name in own if name in fitting),
        widened=widened,
        missing=tuple(name for name in own if name not in names),
        unexpected=unexpected,
        shape_mismatched=mismatched,
        shapes={key: tuple(found[key].shape) for key in unexpected}
        | {name: tuple(tensor.shape) for name, tensor in own.items()},
        found_shapes={name: tuple(found[names[name]].shape) for name in (*widened, *mismatched)},
        remark=_fuse_remark(network, unexpected),
    )


def _fuse_remark(network: nn.Module, unexpected: Iterable[str]) -> str:
    """What is to be said where HRNetV2 fuses its branches otherwise than the network that a file is of."""
    fuse = getattr(getattr(network, "backbone", network), "fuse", None)
    tops = {part for name in unexpected for part in name.split(".")[:2]}
    trained = next((way for part, way in _FUSE_OF_HEADS.items() if part in tops), None)
    if fuse is None or trained in (None, fuse):
        return ""
    of = "ImageNet classification" if trained == "nearest" else "segmentation"
    return (
        f"fuse: the file is of HRNet's {of} network, which resizes branches by {trained} where they are fused; here "
        f"networks.segmentation.fuse is {fuse}. With equal weights the branches of the two differ by .12 to .18 of "
        "their norm (measured on drawn weights, width 18). Fine-tuning makes up for it; for weights that hardly train "
        f"set networks.segmentation.fuse={trained}."
    )


def _widened(weight: Tensor, own: Tensor) -> Tensor:
    """The weights of a convolution of images for images with further channels; anything else as it is."""
    further = own.shape[1] - weight.shape[1] if own.dim() == weight.dim() == 4 else 0
    # RGB is told from inner layers by its three channels: a checkpoint of another width must not load by halves.
    if further < 1 or weight.shape[1] != RGB_CHANNELS or own.shape[0] != weight.shape[0]:
        return weight
    zeros = weight.new_zeros(weight.shape[0], further, *weight.shape[2:])
    return torch.cat((weight, zeros), dim=1)


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"


def _line(kind: str, names: list[str], max_names: int) -> str:
    more = f", and {len(names) - max_names} more" if len(names) > max_names else ""
    return f"  {kind}: {', '.join(names[:max_names])}{more}"


def _read(path: Path) -> object:
    if not path.is_file():
        raise ModelError(
            f"weights {path}: no such file. Download it and give its path; nothing is fetched here."
        )
    if path.suffix in _PROGRAMS:
        raise ModelError(
            f"weights {path}: {_PROGRAMS[path.suffix]} Needed the weights alone, as .safetensors, and the network by "
            "name (networks.segmentation.name): docs/extending.md, An encoder."
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
    except _READ_ERRORS as error:
        pass_on_own_fault(error, "torch", "safetensors")
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
    """The names as they are, then with one wrapper's prefix fewer at a time.

    A prefix counts that most names have: beside a backbone there may be the head of another program, whose names keep
    theirs, and so does a name that would otherwise stand twice.
    """
    stages = [tensors]
    while prefix := next((p for p in _PREFIXES if _is_common(p, stages[-1])), None):
        last = stages[-1]
        short = {name: name.removeprefix(prefix) for name in last}
        taken = Counter(short.values())
        stages.append({name if taken[s] > 1 else s: last[name] for name, s in short.items()})
        if stages[-1].keys() == last.keys():
            break
    return stages


def _is_common(prefix: str, names: Iterable[str]) -> bool:
    having = [name.startswith(prefix) for name in names]
    return 2 * sum(having) > len(having)


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
            "Needed weights of this network. Set networks.pretrained to their file, or to null to start without them."
        )
    first = mismatched[0]
    return (
        f"weights {path}: {len(mismatched)} of {len(names)} names have another shape, such as {first!r}: "
        f"{tuple(found[names[first]].shape)} in the file, {tuple(own[first].shape)} in the network. "
        f"Is it a checkpoint of another width?"
    )
