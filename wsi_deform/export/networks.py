"""The parts of a model that run elsewhere: RGB in [0, 255] in, deformation map or scores out.

A run's model centres its input, calls a network and normalises what comes out; here each of these chains is one
module whose constants move with it to another device and into an exported file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wsi_deform.deform.density import deformation_map
from wsi_deform.export.blocks import block_arguments, block_channels, block_scores
from wsi_deform.model import Model
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.inputs import area_input
from wsi_deform.networks.layers import CHANNEL_MEAN, CHANNEL_STD
from wsi_deform.networks.registry import segmentation_network


class Centred(nn.Module):
    """Centre and scale channels as ``Model`` does: RGB in [0, 255] by ImageNet's statistics, [0, 1] to [-1, 1].

    Args:
        channels: Channels of the input, 3 or more.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        extra = [0.5] * (channels - 3)
        shift = torch.tensor([255 * mean for mean in CHANNEL_MEAN] + extra).view(1, -1, 1, 1)
        scale = torch.tensor([255 * std for std in CHANNEL_STD] + extra).view(1, -1, 1, 1)
        # Not stored: the weights of an exported network are those of the network alone.
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W), any type, to float32 around 0."""
        return (image.float() - self.shift) / self.scale


class DensityNetwork(nn.Module):
    """Low-res view -> deformation map.

    Args:
        in_channels: 3 for RGB; 4 with the tissue mask.
        widths: As ``DeformationNetwork``.
        kernel: As ``DeformationNetwork``.
        dilations: As ``DeformationNetwork``.
        floor: Share of the density that is spread evenly.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (24, 24, 3),
        kernel: int = 3,
        dilations: Sequence[int] | None = None,
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        self.floor = floor
        self.centred = Centred(in_channels)
        self.network = DeformationNetwork(
            in_channels=in_channels, widths=widths, kernel=kernel, dilations=dilations
        )

    def forward(self, image: Tensor) -> Tensor:
        """The deformation map of low-res views.

        Args:
            image: (B, in_channels, H, W): RGB in [0, 255], then the share of tissue in [0, 1] where wanted.

        Returns:
            (B, 1, H, W) float32, positive, sums to 1 over each map.
        """
        return deformation_map(self.network(self.centred(image)), floor=self.floor)


class ScoreNetwork(nn.Module):
    """Sampled image -> scores.

    Args:
        name: As ``segmentation_network``.
        classes: Classes to score.
        in_channels: 3 for RGB; 4 with the areas of the samples' cells.
        options: The network's own options.
    """

    def __init__(
        self, *, name: str, classes: int, in_channels: int = 3, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.centred = Centred(3)
        self.network = segmentation_network(name, classes=classes, in_channels=in_channels, **(options or {}))

    def forward(self, image: Tensor) -> Tensor:
        """The scores of every class at every pixel.

        Args:
            image: (B, in_channels, h, w): RGB in [0, 255], then, where wanted, the area of each sample's cell / their
                mean over the field.

        Returns:
            (B, classes, h, w) float32 logits.
        """
        seen = self.centred(image[:, :3])
        if self.in_channels > 3:
            seen = torch.cat((seen, area_input(image[:, 3:])), dim=1)
        scores: Tensor = self.network(seen)
        return scores


def input_channels(model: Model, part: str) -> dict[str, tuple[float, float | None]]:
    """What each channel of a part's input is, and its least and greatest value; None is without limit."""
    if model.has_blocks:
        return block_channels(model, part)
    channels: dict[str, tuple[float, float | None]] = dict.fromkeys(("red", "green", "blue"), (0, 255))
    if part == "deformation" and model.sees_tissue:
        channels["share of tissue"] = (0, 1)
    if part == "segmentation" and model.sees_areas:
        channels["area of the sample's cell / mean of the field"] = (0, None)
    return channels


def network_arguments(model: Model) -> dict[str, dict[str, Any]]:
    """What the modules above are built from, as plain data, by the name of the part.

    Returns:
        ``deformation`` (only where the density is learned) and ``segmentation``, each keyword -> value.
    """
    if model.has_blocks:
        return {"segmentation": block_arguments(model)}
    networks = model.config.networks
    arguments: dict[str, dict[str, Any]] = {}
    if model.deformation is not None:
        dilations = networks.deformation.dilations
        arguments["deformation"] = {
            "in_channels": model.deformation.in_channels,
            "widths": list(networks.deformation.widths),
            "kernel": networks.deformation.kernel,
            "dilations": None if dilations is None else list(dilations),
            "floor": model.config.sampling.floor,
        }
    segmentation = networks.segmentation.model_dump(mode="json")
    arguments["segmentation"] = {
        "name": segmentation.pop("name"),
        "classes": model.classes.count,
        "in_channels": len(input_channels(model, "segmentation")),
        "options": segmentation,
    }
    return arguments


def exported_networks(model: Model) -> dict[str, nn.Module]:
    """The parts of a model as modules of their own, with its weights, on the CPU, in evaluation mode."""
    if model.has_blocks:
        return {"segmentation": block_scores(model)}
    kinds: dict[str, type[DensityNetwork] | type[ScoreNetwork]] = {
        "deformation": DensityNetwork,
        "segmentation": ScoreNetwork,
    }
    weights = {"deformation": model.deformation, "segmentation": model.segmentation}
    parts: dict[str, nn.Module] = {}
    for name, arguments in network_arguments(model).items():
        source = weights[name]
        if source is not None:
            part = kinds[name](**arguments)
            part.get_submodule("network").load_state_dict(source.state_dict())
            parts[name] = part.eval()
    return parts
