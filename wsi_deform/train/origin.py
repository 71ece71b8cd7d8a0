"""A run that starts from the weights of another model: what fits is taken, and what was not is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.config_files import DEFAULT
from wsi_deform.errors import ModelError
from wsi_deform.files import write_json
from wsi_deform.model import Model
from wsi_deform.model_blocks import block_network
from wsi_deform.model_file import read_stored
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.train.differences import differences

NAME = "init_from.json"
SEGMENTATION = "segmentation."
# Beside a network's kind: what is loaded into it, how it lies in memory, how its input is coloured.
NOT_OF_ITS_KIND = ("pretrained", "channels_last", "stain")
MAX_NAMES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What became of a model's tensors in a run that starts from it.

    Attributes:
        path: The model's ``.safetensors``.
        sha256: Of that file.
        classes: Names of its classes.
        taken: Names of tensors, in the run's model, whose values are now the model's.
        heads: Those that start anew because the classes are others.
        anew: Those that start anew because the model has none of that name and shape.
        unused: Names in the model that the run has not.
    """

    path: Path
    sha256: str
    classes: tuple[str, ...]
    taken: tuple[str, ...]
    heads: tuple[str, ...]
    anew: tuple[str, ...]
    unused: tuple[str, ...]

    def text(self) -> str:
        """Lines for people: what was taken and what was not."""
        whole = len(self.taken) + len(self.heads) + len(self.anew)
        lines = [f"weights of {self.path}: {len(self.taken)} of {whole} tensors taken."]
        if self.heads:
            lines.append(f"  anew, for its classes are {', '.join(self.classes)}: {_shown(self.heads)}")
        if self.anew:
            lines.append(f"  anew, for it has none of that name and shape: {_shown(self.anew)}")
        if self.unused:
            lines.append(f"  not used, for this run has none of that name: {_shown(self.unused)}")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "classes": list(self.classes),
            "taken": len(self.taken),
            "anew": [*self.heads, *self.anew],
            "unused": list(self.unused),
        }

    def write(self, run: Path) -> None:
        """Keep it in the run folder."""
        write_json(run / NAME, self.facts())


def start_from(model: Model, path: Path) -> Origin:
    """Give a model the weights of another one, as far as they fit.

    Args:
        model: The run's, on the CPU; changed in place.
        path: A run folder or a file of a model, see ``find_model``.

    Returns:
        What was taken and what was not.

    Raises:
        ModelError: There is no such model, or its networks are of another kind: the message has the keys that differ,
            with both values.

    Convention:
        The layer that scores classes starts anew where the classes or their order differ, all of it: a class of the
        same name may mean something else. Networks that only one of the two has (another ``sampling.density``) are no
        matter of kind: they start anew, or are not used.
    """
    found, about, tensors, sha256 = read_stored(path)
    _refuse_another_kind(model, about, found)
    source = class_table_from_data(about["classes"], f"model {found}: classes")
    is_same = source.names == model.classes.names
    heads = frozenset() if is_same else _names_that_follow_the_classes(model)
    own = model.state_dict()
    fitting = {
        name: tensors[name]
        for name, tensor in own.items()
        if name in tensors and name not in heads and tensors[name].shape == tensor.shape
    }
    if not any(name.startswith(SEGMENTATION) for name in fitting):
        raise ModelError(
            f"model {found}: none of its tensors fits this run's segmentation network. Needed a model of the same "
            "kind. Choose another, or train without --init-from."
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    return Origin(
        path=found,
        sha256=sha256,
        classes=source.names,
        taken=tuple(fitting),
        heads=tuple(name for name in own if name in heads),
        anew=tuple(name for name in own if name not in fitting and name not in heads),
        unused=tuple(sorted(tensors.keys() - own.keys())),
    )


def origin_sha256(path: Path) -> str:
    """SHA-256 of a model's tensors.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    return read_stored(path)[3]


def origin_facts(run: Path) -> dict[str, Any] | None:
    """What ``Origin.write`` kept in a run folder, or None where the run has no origin."""
    try:
        found = json.loads((run / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_another_kind(model: Model, about: Mapping[str, Any], path: Path) -> None:
    """Refuse a model whose networks are of another kind."""
    there, here = (
        {key: value for key, value in networks.items() if key not in NOT_OF_ITS_KIND}
        for networks in (about["config"]["networks"], model.config.model_dump(mode="json")["networks"])
    )
    if model.has_blocks:
        for networks in (there, here):
            # Whether an encoder learns is no matter of its kind.
            networks["segmentation"].pop("frozen", None)
    geometry, own = about["config"]["sampling"].get("geometry", "warp"), model.config.sampling.geometry
    if geometry != own:
        raise ModelError(
            f"model {path}: its sampling.geometry is {geometry}, here {own}, whose networks are others. Needed a model "
            f"of the same geometry. Train with --config {'joint' if geometry == 'warp' else DEFAULT}, or with the "
            "config.yaml of its run, choose another model, or train without --init-from."
        )
    if model.deformation is None or about["config"]["sampling"]["density"] != "learned":
        # A network that only one of the two has.
        there.pop("deformation", None)
        here.pop("deformation", None)
    said = differences({"networks": there}, {"networks": here}, now_word="here")
    if said:
        raise ModelError(
            f"model {path}: its networks are of another kind than this run's: {said}. Needed the same to start from "
            "its weights. Set them with --set, choose another model, or train without --init-from."
        )


def _names_that_follow_the_classes(model: Model) -> frozenset[str]:
    """Names of tensors whose shape depends on the number of classes."""
    networks = model.config.networks
    # Drawing its start values must not change those that follow.
    with torch.random.fork_rng(devices=[]):
        wider_network: nn.Module = (
            block_network(model.config, model.classes.count + 1)
            if model.has_blocks
            else segmentation_network(
                networks.segmentation.name,
                classes=model.classes.count + 1,
                in_channels=4 if model.sees_areas else 3,
                **networks.segmentation.options,
            )
        )
        wider = wider_network.state_dict()
    own: Mapping[str, Tensor] = model.segmentation.state_dict()
    return frozenset(SEGMENTATION + name for name, tensor in own.items() if wider[name].shape != tensor.shape)


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (
        f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    )
