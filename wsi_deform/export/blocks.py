"""The parts of a model that reads fields in blocks, each from one tensor to one tensor, to run elsewhere.

- ``look0``, ``look1``, ...: pixels of a level -> features of its cells, of 8 px or what ``blocks.label_px`` makes them.
- ``scorer1``, ...: features of all levels before -> how much reading the level at each cell is worth.
- ``merge0``, ...: features of a level -> what is summed over the levels.
- ``head``: that sum -> scores of the classes, 2 x 2 labels for each cell of the finest level.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.deform.blocks import STRIDE
from wsi_deform.model import Model
from wsi_deform.model_blocks import encoder_arguments
from wsi_deform.networks.blocks import BlockNetwork, cells_of, raster

Channels = dict[str, tuple[float, float | None]]


class Look(nn.Module):
    """Features of what was read of a level.

    Args:
        network: Of the model.
        level: 0, the coarsest, or finer.
    """

    def __init__(self, network: BlockNetwork, level: int) -> None:
        super().__init__()
        self.backbone, self.join = network.backbone, network.joins[level]
        self.pixels, self.strides, self.cell_px = network.pixels, network.strides, network.cell_px
        self.context = network.context if level == 0 else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 255], sides multiples of 16 -> (N, width, H / cell_px, W / cell_px)."""
        cells = cells_of(self.backbone(self.pixels(image)), self.strides, self.cell_px)
        features: Tensor = self.context(self.join(cells))
        return features


class BlockScores(nn.Module):
    """The networks of blocks as one, which MONAI builds by name; called by itself it labels the first look alone.

    Args:
        classes: As ``BlockNetwork``.
        levels: As ``BlockNetwork``.
        encoder: As ``BlockNetwork``.
        width: As ``BlockNetwork``.
        frozen: As ``BlockNetwork``.
        scores: As ``BlockNetwork``.
        options: Further arguments of ``BlockNetwork``.
    """

    def __init__(
        self,
        *,
        classes: int,
        levels: int,
        encoder: str,
        width: int,
        frozen: bool,
        scores: bool,
        **options: Any,
    ) -> None:
        super().__init__()
        self.network = BlockNetwork(
            classes=classes,
            levels=levels,
            encoder=encoder,
            width=width,
            frozen=frozen,
            scores=scores,
            **options,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes where nothing is read but the first look.

        Args:
            image: (B, 3, H, W) RGB in [0, 255], of the coarsest level.

        Returns:
            (B, classes, h, w) float32 logits, one for each label of the finest level.
        """
        height, width = image.shape[2:]
        filled = F.pad(image.float(), (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        features = self.network.encode(filled, 0)
        size = (features.shape[2], features.shape[3])
        rasters = [raster(features, len(image), size)]
        for level in range(1, self.network.levels):
            rows, columns = size[0] << level, size[1] << level
            # Nothing was read of it: 0 everywhere, and in the channel that says so.
            rasters.append(features.new_zeros(len(image), features.shape[1] + 1, rows, columns))
        scores: Tensor = self.network.label(rasters)
        return scores


def block_arguments(model: Model) -> dict[str, object]:
    """What ``BlockScores`` is built from, as plain data."""
    network = model.blocks
    return {
        "classes": network.classes,
        "levels": network.levels,
        "encoder": model.config.networks.segmentation.name,
        "width": network.width,
        "frozen": network.frozen,
        "scores": model.has_scorers,
        "label_px": model.label_px,
        **encoder_arguments(model.config),
    }


def block_scores(model: Model) -> BlockScores:
    """The networks of a model as one, with its weights, on the CPU, in evaluation mode."""
    found = BlockScores(**block_arguments(model))  # type: ignore[arg-type]
    found.network.load_state_dict(model.blocks.state_dict())
    return found.eval()


def block_parts(model: Model) -> dict[str, nn.Module]:
    """The parts by name, with weights of their own, on the CPU, in evaluation mode."""
    # In PyTorch's own memory format: torch.export takes weights in another one for parts of something larger.
    network = copy.deepcopy(model.blocks).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    network.requires_grad_(False)
    parts: dict[str, nn.Module] = {f"look{level}": Look(network, level) for level in range(network.levels)}
    parts |= {f"scorer{level}": scorer for level, scorer in enumerate(network.scorers, start=1)}
    parts |= {f"merge{level}": merge for level, merge in enumerate(network.merges)}
    return {name: part.eval() for name, part in (parts | {"head": network.head}).items()}


def block_reference(model: Model, part: str) -> Callable[[Tensor], Tensor]:
    """What the model itself computes in place of a part."""
    network, kind, level = model.blocks, *_kind(part)
    if kind == "look":
        return lambda image: network.encode(image, level)
    if kind == "segmentation":
        return block_scores(model)
    modules: dict[str, nn.Module] = {"head": network.head}
    modules |= {f"scorer{number}": each for number, each in enumerate(network.scorers, start=1)}
    modules |= {f"merge{number}": each for number, each in enumerate(network.merges)}
    return modules[part]


def block_channels(model: Model, part: str) -> Channels:
    """What each channel of a part's input is, and its least and greatest value; None is without limit."""
    kind, level = _kind(part)
    if kind in ("look", "segmentation"):
        return dict.fromkeys(("red", "green", "blue"), (0, 255))
    features = {f"feature {number}": (0.0, None) for number in range(model.blocks.width)}
    if kind == "head":
        return dict.fromkeys(features, (0.0, None))
    levels = range(level) if kind == "scorer" else (level,)
    found: Channels = {}
    for each in levels:
        found |= {f"level {each}, {name}": limits for name, limits in features.items()}
        found[f"level {each}, 1 where it was read"] = (0, 1)
    return found


def block_meanings(model: Model, part: str) -> tuple[str, str, list[str]]:
    """What a part is given, what it makes, and the names of the channels that it makes."""
    kind, level = _kind(part)
    features = [f"feature {number}" for number in range(model.blocks.width)]
    classes = list(model.classes.names)
    return {
        "look": (
            f"what was read of level {level}, sides multiples of {STRIDE}",
            f"features of {model.blocks.cell_px} x {model.blocks.cell_px} px",
            features,
        ),
        "scorer": (
            f"features of levels 0 to {level - 1}, resized to the last of them",
            f"log of the odds that level {level} is worth reading",
            ["score"],
        ),
        "merge": (f"features of level {level}", "what is summed over the levels", features),
        "head": (
            "that sum, each resized to the finest level's cells",
            "scores before the softmax, 2 x 2 labels for each cell",
            classes,
        ),
        "segmentation": ("first look at a field", "scores before the softmax, of that look alone", classes),
    }[kind]


def _kind(part: str) -> tuple[str, int]:
    kind = part.rstrip("0123456789")
    return kind, int(part[len(kind) :] or 0)
