"""Which blocks of fields are worth reading, and how the blocks of all fields of a slide share its budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.deform.block_budget import FieldWorth, shared_counts
from wsi_deform.deform.block_choices import block_choice
from wsi_deform.deform.blocks import LEAST_TISSUE, BlockLayout, impurity
from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.networks.blocks import raster
from wsi_deform.networks.groups import feature_steps
from wsi_deform.networks.layers import resized

RGB = 3
ENCODED = ("learned", "features")
"""Choices that the encoder has to see a field for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """What was read of one level.

    Attributes:
        images: (N, 3, k, k) RGB in [0, 255], margins included.
        places: (N, 3) int64: field, row and column of the block of each.
    """

    images: Tensor
    places: Tensor


def filled(view: Tensor, layout: BlockLayout) -> Tensor:
    """(B, 3, H, W) with its right and bottom edge repeated up to a whole number of strides."""
    padded = layout.padded(0)
    right, down = padded.width - view.shape[3], padded.height - view.shape[2]
    return F.pad(view, (0, right, 0, down), mode="replicate") if right or down else view


def priority_of(
    model: Model,
    layout: BlockLayout,
    level: int,
    views: Tensor,
    rasters: Sequence[Tensor],
    seen: Sequence[Windows],
    fractions: Tensor | None,
) -> Tensor:
    """(B, 1, rows, columns): what reading each block of a level is worth, by the model's choice."""
    choice = model.block_settings.choice
    if choice == "learned":
        return layout.pooled(model.blocks.score(rasters), level)
    if choice == "features":
        steps = feature_steps(rasters[-1])
        if views.shape[1] > RGB:
            # The edge of glass is the largest step of all, and tells nothing of the tissue.
            steps = steps * resized(views[:, RGB:], steps.shape[-2:])
        return layout.pooled(steps, level)
    if choice == "labels":
        return impurity(layout.pooled(model.with_labels(fractions), level))
    if choice == "tissue":
        return layout.pooled(views[:, RGB:], level)
    if choice == "random":
        return torch.zeros(len(views), 1, *layout.blocks(level).shape)
    if level == 1:
        return layout.pooled(_worth_of(choice, views[:, :RGB]), level)
    # Of what was read of the level before: its windows' quarters.
    windows, inner = seen[-1], slice(layout.margin_px, layout.margin_px + layout.window_px)
    found = F.avg_pool2d(_worth_of(choice, windows.images)[:, :, inner, inner], layout.window_px // 2)
    whole = raster(found, len(views), _doubled(layout.blocks(level - 1)), windows.places)[:, :1]
    return whole[:, :, : layout.blocks(level).height, : layout.blocks(level).width]


def _worth_of(choice: str, view: Tensor) -> Tensor:
    """(B, 1, H, W): what each pixel of a view is worth, by a choice that nothing but the view decides.

    Raises:
        ShapeError: A plug-in's function gives something else.
    """
    worth = block_choice(choice).worth
    if worth is None:
        raise ModelError(f"choice of blocks {choice!r}: is not by a view. Needed one of add_choice.")
    found = worth(view)
    needed = (len(view), 1, *view.shape[2:])
    if tuple(found.shape) != needed:
        raise ShapeError(
            f"choice of blocks {choice!r}: gives {tuple(found.shape)} for a view {tuple(view.shape)}. Needed {needed}."
        )
    return found.float()


def _doubled(size: Size) -> tuple[int, int]:
    return 2 * size.height, 2 * size.width


def allowed_blocks(layout: BlockLayout, level: int, tissue: Tensor) -> Tensor:
    """Which blocks of a level are not glass.

    Args:
        layout: Of the fields.
        level: 1 or finer.
        tissue: (B, 1, H, W), share of each pixel of the first look that is tissue.

    Returns:
        (B, rows, columns) bool, on the CPU.
    """
    return (layout.pooled(tissue, level)[:, 0] >= LEAST_TISSUE).cpu()


@torch.no_grad()
def shared_blocks(
    model: Model, layouts: Sequence[BlockLayout], views: Iterable[Tensor], *, budget_px: float
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Share a slide's pixels out among its fields, by what the first look says.

    Args:
        model: The model, in evaluation mode; has blocks, of more than one level.
        layouts: Of each field.
        views: (3 or 4, H, W), the first look at each; one is in memory at a time.
        budget_px: Pixels read of all fields.

    Returns:
        Of each field, how many blocks of levels 1, 2, ... are read, and the pixels that the encoder was shown here.
    """
    fields, seen_px = [], []
    for number, (layout, view) in enumerate(zip(layouts, views, strict=True)):
        encoded = layout.padded(0).area if model.block_settings.choice in ENCODED else 0
        fields.append(_worth(model, layout, view[None].to(model.device), number, encoded))
        seen_px.append(encoded)
    return shared_counts(fields, budget_px=budget_px, split=model.block_settings.split), seen_px


def _worth(model: Model, layout: BlockLayout, view: Tensor, number: int, encoded_px: int) -> FieldWorth:
    """What a first look, (1, 3 or 4, H, W), says of the blocks of level 1."""
    settings, rasters = model.block_settings, []
    if encoded_px:
        rasters = [first_raster(model, layout, view)]
    priority = priority_of(model, layout, 1, view, rasters, (), None)[0, 0].double().cpu()
    worth = priority.exp() if settings.choice == "learned" else priority.clamp_min(0)
    if settings.choice == "random":
        worth = torch.ones_like(priority)
    if settings.choice in ("random", "tissue"):
        # Of blocks that are alike no field's come first.
        generator = torch.Generator().manual_seed(number)
        priority = priority + 1e-6 * torch.randn(priority.shape, generator=generator, dtype=torch.float64)
    within, above = [], torch.ones(layout.blocks(1).shape, dtype=torch.bool)
    for level in range(1, layout.levels):
        if level > 1:
            rows, columns = layout.blocks(level).shape
            above = above.repeat_interleave(2, 0).repeat_interleave(2, 1)[:rows, :columns]
        if settings.skip_glass:
            above = above & allowed_blocks(layout, level, view[:, RGB:])[0]
        within.append(_counted(above, 2 ** (level - 1), layout.blocks(1).shape))
    allowed = within[0] > 0
    return FieldWorth(
        layout=layout,
        priority=priority[allowed].numpy(),
        worth=worth[allowed].numpy(),
        within=tuple(each[allowed].numpy() for each in within),
        looked_px=layout.padded(0).area + encoded_px,
    )


def _counted(blocks: Tensor, scale: int, size: tuple[int, int]) -> Tensor:
    """(rows, columns) int64, how many of the blocks of a finer level, bool, lie in each block of level 1."""
    rows, columns = size[0] * scale - blocks.shape[0], size[1] * scale - blocks.shape[1]
    filled = F.pad(blocks.long(), (0, columns, 0, rows))
    return filled.view(size[0], scale, size[1], scale).sum(dim=(1, 3))


def first_raster(model: Model, layout: BlockLayout, views: Tensor) -> Tensor:
    """Features of first looks, (B, 3 or 4, H, W): (B, width + 1, rows, columns)."""
    seen = model.blocks.encode(filled(views[:, :RGB], layout), 0)
    return raster(seen, len(views), layout.cells(0).shape)
