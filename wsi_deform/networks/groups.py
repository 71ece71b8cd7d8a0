"""The network of groups: an encoder that nobody trains further, and the group that each of its features is nearest to.

It is a network of blocks whose parts are not learned from labels: ``explore`` computes them from features of slides.

Source:
    Ours. Features of a frozen encoder, principal components and k-means are each of the textbook.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.blocks import LABEL_PX, LABELS_PER_CELL, BlockNetwork, cells_of
from wsi_deform.networks.layers import require_image, resized

GROUP_STRIDES = (8, 16)
"""Of the feature maps that tell groups apart; those of finer ones made groups of edges and colours."""
SMOOTHED_CELLS = 3
"""Cells along a side over which features are averaged: how a tissue is woven is seen in several of them."""
BACKGROUND_SCORE = -30.0
"""Nothing but the limit to tissue makes background: no group is glass by what it looks like."""
WINDOWS_AT_ONCE = 16


class GroupNetwork(BlockNetwork):
    """Encoder, projections and linear scores of groups.

    Args:
        classes: Groups, and the background before them.
        levels: Levels of the blocks, the first look among them.
        encoder: A key of ``block_encoders.ENCODERS`` that has the strides of ``GROUP_STRIDES``.
        width: Channels that features are projected to.
        frozen: The encoder keeps its weights; there is no other way.
        label_px: As of ``BlockNetwork``.

    Attributes:
        joins: By level, features at cells -> (N, width, H / cell_px, W / cell_px), linear.
        merges: By level, these -> a score for each group, linear.
    """

    def __init__(
        self,
        *,
        classes: int,
        levels: int,
        encoder: str = "efficientnet-lite0",
        width: int = 24,
        frozen: bool = True,
        label_px: int = LABEL_PX,
    ) -> None:
        super().__init__(
            classes=classes,
            levels=levels,
            encoder=encoder,
            width=width,
            frozen=frozen,
            scores=False,
            label_px=label_px,
        )
        if not set(GROUP_STRIDES) <= {*self.strides}:
            raise ModelError(f"head groups with {encoder}: needed an encoder with strides 8 and 16.")
        entering = sum(self.channels[stride] for stride in GROUP_STRIDES)
        self.joins = nn.ModuleList(nn.Conv2d(entering, width, 1) for _ in range(levels))
        self.merges = nn.ModuleList(nn.Conv2d(width, classes - 1, 1) for _ in range(levels))
        self.context = nn.Sequential()
        self.head = nn.Sequential(nn.Upsample(scale_factor=LABELS_PER_CELL, mode="bilinear"))

    def encode(self, images: Tensor, level: int) -> Tensor:
        """As of ``BlockNetwork``; some windows at a time, so that memory does not follow their number."""
        require_image(images, 3, "groups")
        found = []
        for part in torch.split(images, WINDOWS_AT_ONCE):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                maps = self.backbone(self.pixels(part))
            found.append(self.joins[level](cells_of(maps, GROUP_STRIDES, self.cell_px)))
        return torch.cat(found)

    def label(self, rasters: Sequence[Tensor]) -> Tensor:
        """Scores of the groups.

        Args:
            rasters: Of all levels, (B, width + 1, rows, columns).

        Returns:
            (B, classes, 2 rows, 2 columns) of the finest raster. Each cell is scored by the finest level that was read
            there; what was read more coarsely by what its look tells of the groups.
        """
        scores = self.merges[0](rasters[0][:, :-1])
        for merge, each in zip(self.merges[1:], rasters[1:], strict=True):
            was_read = each[:, -1:]
            scores = was_read * merge(each[:, :-1]) + (1 - was_read) * resized(scores, each.shape[-2:])
        scores = smoothed(scores)
        whole = F.pad(scores, (0, 0, 0, 0, 1, 0), value=BACKGROUND_SCORE)
        labelled: Tensor = self.head(whole)
        return labelled

    def put(self, level: int, *, mean: Tensor, axes: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Set what is linear of a level.

        Args:
            level: 0, the coarsest, or finer.
            mean: (C,) of the encoder's features.
            axes: (width, C): features less their mean -> what is kept of them.
            weight: (K, width): that -> scores of the groups.
            bias: (K,).
        """
        join, merge = self.joins[level], self.merges[level]
        with torch.no_grad():
            for part, values in (
                (join.weight, axes[:, :, None, None]),
                (join.bias, -axes @ mean),
                (merge.weight, weight[:, :, None, None]),
                (merge.bias, bias),
            ):
                assert isinstance(part, Tensor)
                part.copy_(values)


def smoothed(features: Tensor, was_read: Tensor | None = None) -> Tensor:
    """Means over ``SMOOTHED_CELLS`` x ``SMOOTHED_CELLS`` cells.

    Args:
        features: (B, C, H, W), 0 where nothing was read.
        was_read: (B, 1, H, W), 1 where something was; None is everywhere. What was not read counts nowhere.

    Returns:
        (B, C, H, W); 0 where nothing near was read.
    """
    reach = SMOOTHED_CELLS // 2

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (reach,) * 4, mode="replicate"), SMOOTHED_CELLS, 1)

    if was_read is None:
        return mean(features)
    share = mean(was_read)
    return torch.where(share > 0, mean(features * was_read) / share.clamp_min(1e-6), 0.0)


def feature_steps(raster: Tensor) -> Tensor:
    """How far features are from those around them: where blocks have several kinds of tissue.

    Args:
        raster: (B, C + 1, H, W) of ``blocks.raster``.

    Returns:
        (B, 1, H, W), the distance to the mean of the 3 x 3 cells around; 0 where nothing was read.
    """
    features, was_read = raster[:, :-1], raster[:, -1:]
    step = features - smoothed(features, was_read)
    distance: Tensor = torch.linalg.vector_norm(step, dim=1, keepdim=True)
    return distance * was_read
