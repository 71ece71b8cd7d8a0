"""The networks of a model that another runtime can compute, each from one image to its outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.model import Model
from wsi_deform.networks.stand_in import take_out

ENCODERS: dict[str, tuple[int, ...]] = {"encoder": (4, 8, 16), "encoder_from_2": (2, 4, 8, 16)}
"""Names that the encoder of blocks has as a part -> strides of the feature maps that it gives then."""


class Outputs(nn.Module):
    """A network whose outputs are a tuple of tensors, as what is written for other runtimes needs them.

    Args:
        network: (B, channels, H, W) -> a tensor, or feature maps by stride.
        strides: Of its feature maps; empty where it gives one tensor.
    """

    def __init__(self, network: nn.Module, strides: Sequence[int] = ()) -> None:
        super().__init__()
        self.network, self.strides = network, tuple(strides)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, channels, H, W), as the network itself is given it."""
        found = self.network(image)
        return tuple(found[stride] for stride in self.strides) if self.strides else (found,)


def parts_of(model: Model) -> dict[str, nn.Module]:
    """The networks that another runtime computes, by name.

    Returns:
        ``segmentation`` and, where the density is learned, ``deformation``; of blocks one of ``ENCODERS``, which sees
        all px.
        What is left (a resizer, a network of positions, scorers and head of blocks) is PyTorch's.

    Raises:
        ModelError: An encoder whose feature maps have other strides than runtimes are prepared for.
    """
    if model.has_blocks:
        # The fewest that hold all that are needed, and that the encoder has.
        for name, strides in ENCODERS.items():
            if set(model.blocks.strides) <= set(strides) <= set(model.blocks.channels):
                return {name: model.blocks.backbone}
        known = " or ".join(", ".join(map(str, strides)) for strides in ENCODERS.values())
        raise ModelError(
            f"encoder {model.config.networks.segmentation.name}: gives feature maps of strides "
            f"{', '.join(map(str, model.blocks.strides))}; other runtimes compute those with {known}. Needed runtime "
            "torch, or another encoder."
        )
    parts: dict[str, nn.Module] = {"segmentation": model.segmentation}
    if model.deformation is not None:
        parts["deformation"] = model.deformation
    return parts


def plain_part(network: nn.Module, name: str) -> Outputs:
    """A copy of a part that computes by itself, on the CPU, in evaluation mode, without gradients."""
    alone = copy.deepcopy(network)
    take_out(alone)
    alone = alone.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Outputs(alone, strides_of(name)).eval().requires_grad_(False)


def strides_of(name: str) -> tuple[int, ...]:
    """Strides of the feature maps that a part gives; empty for one tensor."""
    return ENCODERS.get(name, ())


def joined(outputs: Sequence[Tensor], name: str) -> Any:
    """The outputs of a part as its ``forward`` gives them."""
    strides = strides_of(name)
    return dict(zip(strides, outputs, strict=True)) if strides else outputs[0]


def channels_of(model: Model, name: str) -> int:
    """Channels of a part's input."""
    if name == "deformation" and model.deformation is not None:
        return model.deformation.in_channels
    return 4 if name == "segmentation" and model.sees_areas else 3
