"""The networks of blocks: an encoder that sees every look, scorers that say where to look closer, and a dense head.

Features of all levels that were read meet on rasters over the field. What was not read is 0 there, and a channel says
so.

Source:
    Ours; features of several scales resized to the finest and put together, as in HRNetV2 (arXiv 1904.04514).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.block_encoders import STRIDES, Pixels, block_encoder
from wsi_deform.networks.layers import BatchNorm, Chain, he_initialise, require_image, resized

LABELS_PER_CELL = 2
"""Along each axis, where features come together."""
LABEL_PX = 4
"""Px of the finest level per label, unless another number is said."""
SCORER_WIDTH = 32


class BlockNetwork(nn.Module):
    """Encoder, scorers and head.

    Args:
        classes: Classes to score.
        levels: Levels of the blocks, the first look among them.
        encoder: A key of ``block_encoders.ENCODERS``.
        width: Channels per level, and of the head.
        frozen: The encoder keeps its weights and the statistics of its normalisation.
        scores: Whether there are scorers, one for each further level.
        encoder_options: Of the encoder itself.
        pixel_mean: Means of RGB in [0, 1] that the encoder's weights were trained with; None is those of its published
            weights.
        pixel_std: The same of standard deviations.
        label_px: Side of what a label is of, px of the finest level; features come together in cells of twice that.

    Raises:
        ModelError: Another encoder, or a size that cannot be.

    Attributes:
        backbone: (N, 3, H, W) of ``pixels`` -> feature maps by stride; one for all levels.
        pixels: RGB in [0, 255] -> what the encoder's weights were trained on.
        cell_px: Side of a cell, px of its level.
        joins: By level, feature maps at cells -> (N, width, H / cell_px, W / cell_px).
        context: Features of the first look -> the same with what lies around.
        scorers: By level, features of all levels so far -> a score for each cell.
        merges: By level, its raster -> (B, width, rows, columns), of which the sum over the levels is taken.
        head: That sum, at the finest cells -> 4 labels' scores for each cell.
    """

    def __init__(
        self,
        *,
        classes: int,
        levels: int,
        encoder: str = "efficientnet-lite0",
        width: int = 96,
        frozen: bool = False,
        scores: bool = True,
        encoder_options: Mapping[str, Any] | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        label_px: int = LABEL_PX,
    ) -> None:
        super().__init__()
        if (pixel_mean is None) != (pixel_std is None):
            raise ModelError("pixel_mean or pixel_std alone: needed both, or neither.")
        for what, found in (("classes", classes), ("width", width), ("levels", levels)):
            if found < 1:
                raise ModelError(f"blocks with {found} {what}: needed at least 1.")
        self.classes, self.levels, self.width, self.frozen = classes, levels, width, frozen
        self.backbone, self.pixels = block_encoder(encoder, encoder_options or {})
        if pixel_mean is not None and pixel_std is not None:
            self.pixels = Pixels.of_unit(pixel_mean, pixel_std)
        self.channels: Mapping[int, int] = self.backbone.channels  # type: ignore[assignment]
        self.cell_px = LABELS_PER_CELL * label_px
        # Features finer than a label tell it little that coarser ones do not.
        self.strides = tuple(each for each in STRIDES if each in self.channels and each >= label_px)
        if not self.strides:
            has = ", ".join(map(str, sorted(self.channels)))
            raise ModelError(
                f"encoder {encoder}: has features of stride {has}. Needed some of {label_px} (blocks.label_px) or "
                "more."
            )
        entering = sum(self.channels[each] * max(1, self.cell_px // each) ** 2 for each in self.strides)
        self.joins = nn.ModuleList(_unit(entering, width, 1) for _ in range(levels))
        self.context = nn.Sequential(
            _unit(width, width, 3), _unit(width, width, 3, dilation=2), _unit(width, width, 3, dilation=4)
        )
        self.scorers = nn.ModuleList(
            _Scorer((width + 1) * (level + 1)) for level in range(levels - 1 if scores else 0)
        )
        self.merges = nn.ModuleList(nn.Conv2d(width + 1, width, 1, bias=False) for _ in range(levels))
        # Cells of finer labels are four times as many: what is around each is looked at channel by channel.
        unit = _separable if label_px < LABEL_PX else partial(_unit, kernel=3)
        around = [unit(width, width) for _ in range(2)]
        self.head = nn.Sequential(
            BatchNorm(width),
            nn.ReLU(inplace=True),
            *around,
            nn.Conv2d(width, classes * LABELS_PER_CELL**2, 1),
            nn.PixelShuffle(LABELS_PER_CELL),
        )
        for part in (self.joins, self.context, self.merges, self.head):
            he_initialise(part)
        if frozen:
            self.backbone.requires_grad_(False)
            self.backbone.eval()

    def train(self, mode: bool = True) -> BlockNetwork:
        """Training mode or not; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def parts(self) -> list[nn.Module]:
        """The networks in it that are run one by one, each with one image-like input."""
        return [self.backbone, *self.joins, self.context, *self.scorers, *self.merges, self.head]

    def encode(self, images: Tensor, level: int) -> Tensor:
        """Features of what was read of a level.

        Args:
            images: (N, 3, H, W) RGB in [0, 255], sides multiples of 16.
            level: 0, the coarsest, or finer.

        Returns:
            (N, width, H / cell_px, W / cell_px).
        """
        require_image(images, 3, "blocks")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.backbone(self.pixels(images))
        features: Tensor = self.joins[level](cells_of(maps, self.strides, self.cell_px))
        return self.context(features) if level == 0 else features

    def score(self, rasters: Sequence[Tensor]) -> Tensor:
        """Where the next level is worth reading, as far as is seen so far.

        Args:
            rasters: Of levels 0 to l, (B, width + 1, rows, columns) of ``raster``, each of twice the size of the one
                before.

        Returns:
            (B, 1, rows, columns) of the last of them: the log of the odds. It sends no gradient to the features.
        """
        scorer = self.scorers[len(rasters) - 1]
        scored: Tensor = scorer(_together([each.detach() for each in rasters]))
        return scored

    def label(self, rasters: Sequence[Tensor]) -> Tensor:
        """Scores of the classes.

        Args:
            rasters: Of all levels.

        Returns:
            (B, classes, 2 rows, 2 columns) of the finest raster, before the softmax.
        """
        # Each is merged at its own size: a sum of what was resized is much cheaper than a convolution of all channels.
        merged = [merge(each) for merge, each in zip(self.merges, rasters, strict=True)]
        size = rasters[-1].shape[-2:]
        total = resized(merged[-1], size)
        for each in merged[:-1]:  # one by one: torch sums over a first axis slowly
            total = total + resized(each, size)
        labelled: Tensor = self.head(total)
        return labelled


def cells_of(maps: Mapping[int, Tensor], strides: Sequence[int], cell_px: int) -> Tensor:
    """Feature maps of an encoder, by stride, at cells: (N, channels of all, H / cell_px, W / cell_px)."""
    rows, columns = maps[strides[-1]].shape[2:]
    size = (rows * strides[-1] // cell_px, columns * strides[-1] // cell_px)
    if cell_px in maps:
        size = (maps[cell_px].shape[2], maps[cell_px].shape[3])
    at_cells = [
        F.pixel_unshuffle(maps[stride], cell_px // stride)
        if stride < cell_px
        else resized(maps[stride], size)
        for stride in strides
    ]
    return torch.cat(at_cells, dim=1)


def raster(
    features: Tensor,
    fields: int,
    size: tuple[int, int],
    places: Tensor | None = None,
    *,
    margin: int = 0,
) -> Tensor:
    """Features of windows at their places in their fields.

    Args:
        features: (N, C, h, w) cells of windows, margins included; or (B, C, H, W) of whole fields.
        fields: B.
        size: (H, W) of the raster.
        places: (N, 3) int64: field, row and column of the block of each window; None for whole fields.
        margin: Cells of a window that are left out on every side.

    Returns:
        (B, C + 1, H, W): 0 where nothing was read; the last channel is 1 where something was.
    """
    if places is None:
        return torch.cat((features, torch.ones_like(features[:, :1])), dim=1)
    inner = features[:, :, margin : features.shape[2] - margin, margin : features.shape[3] - margin]
    side, channels = inner.shape[2], inner.shape[1]
    rows, columns = (-(-each // side) for each in size)
    inner = torch.cat((inner, torch.ones_like(inner[:, :1])), dim=1)
    # A block a row: index_copy puts windows there, and their gradients come back the same way.
    at = ((places[:, 0] * rows + places[:, 1]) * columns + places[:, 2]).to(inner.device)
    flat = inner.new_zeros(fields * rows * columns, (channels + 1) * side * side)
    flat = flat.index_copy(0, at, inner.flatten(1))
    whole = flat.view(fields, rows, columns, channels + 1, side, side).permute(0, 3, 1, 4, 2, 5)
    return whole.reshape(fields, channels + 1, rows * side, columns * side)[:, :, : size[0], : size[1]]


class _Scorer(nn.Sequential):
    """Features of some levels -> a score for each cell; all alike at first, so that noise makes the first choices."""

    def __init__(self, inputs: int) -> None:
        last = nn.Conv2d(SCORER_WIDTH, 1, 1)
        super().__init__(nn.Conv2d(inputs, SCORER_WIDTH, 3, padding=1), nn.ReLU(inplace=True), last)
        he_initialise(self)
        nn.init.zeros_(last.weight)


def _together(rasters: Sequence[Tensor]) -> Tensor:
    """All rasters at the size of the last, (B, channels of all, H, W)."""
    size = rasters[-1].shape[-2:]
    return torch.cat([resized(each, size) for each in rasters], dim=1)


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of each channel by itself, then ``_unit`` of 1 x 1; the size stays."""
    alone = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(alone, _unit(inputs, outputs, 1))


def _unit(inputs: int, outputs: int, kernel: int, *, dilation: int = 1) -> Chain:
    """Convolution, normalisation, ReLU; the size stays."""
    padding = dilation * (kernel // 2)
    return Chain(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        BatchNorm(outputs),
        nn.ReLU(inplace=True),
    )
