"""Looks at fields: the first at all of them, each further one closer, at the blocks that the looks before it chose.

The stages are those of the warp, once per level: look, decide, plan tiles, gather.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.block_choice import RGB, Windows, allowed_blocks, first_raster, priority_of
from wsi_deform.config_blocks import MAX_LEVELS
from wsi_deform.cover import block_share, normalised
from wsi_deform.deform.blocks import BlockLayout, chosen_blocks, impurity
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.grids import even_grids
from wsi_deform.look.fields import Field
from wsi_deform.look.lowres import tiles_of_view
from wsi_deform.model import Model
from wsi_deform.networks.blocks import raster
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.slide.slide import Slide

MAX_PLANNED_PX = 1 << 17
IMPURITY_ODDS = 4.0
"""Odds of a block per impurity: a block that is half one class and half another is worth odds of 2."""


class FieldChange(Protocol):
    """Augmentation of the fields of a batch, as ``data.augment.GridChange`` has it."""

    def place(self, item: int, points: Tensor) -> Tensor:
        """(N, k, k, 2) points of one field as the networks see it -> where on the slide, unit frame of its region."""
        ...

    def colour(self, items: Sequence[int], images: Tensor) -> Tensor:
        """(N, 3, k, k) images of these fields, RGB in [0, 255] -> with the colours that their views were given."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """What looking at a batch of fields gives; all of one size.

    Attributes:
        layout: Levels and blocks of each field.
        grid: (B, h, w, 2) where the labels lie, (x, y), unit frame of the fields' regions.
        areas: (B, h, w) area of a pixel of the finest level that was read at each label, as a fraction of the region.
        rasters: By level, (B, width + 1, rows, columns) features of all levels but the last.
        last: The windows of the finest level; None where there is but one level.
        scores: By further level, (B, 1, rows, columns): what each block's reading is said to be worth; for a learned
            choice the log of the odds, with its gradient.
        pixels: Pixels that entered the encoder, per field.
        tiles: Tiles read for each field, those of the first look among them.
        read_seconds: Time that planning and reading of tiles took.
    """

    layout: BlockLayout
    grid: Tensor
    areas: Tensor
    rasters: list[Tensor]
    last: Windows | None
    scores: list[Tensor]
    pixels: tuple[int, ...]
    tiles: tuple[int, ...]
    read_seconds: float

    @property
    def density(self) -> None:
        """Blocks have no deformation map."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Cost:
    """What reading took so far, per field."""

    tiles: list[int]
    pixels: list[int]
    seconds: float = 0.0


def look_at_fields(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    views: Tensor,
    *,
    size: Size,
    fractions: Tensor | None = None,
    change: FieldChange | None = None,
    seeds: Sequence[int] | None = None,
    counts: Sequence[tuple[int, ...]] | None = None,
    scheduler: Any = "auto",
) -> Looks:
    """Look at fields, level by level.

    Args:
        model: The model; has blocks.
        slides: The slide of each field.
        fields: B fields.
        views: (B, 3 or 4, H, W): the first look, ``view_of`` with the size of the layout's root.
        size: Size of the labels of each.
        fractions: (B, C, H, W) class fractions of the pixels of the first look, for an oracle.
        change: Augmentation; ``views`` and ``fractions`` are changed already.
        seeds: Of the noise on the scores of each field, in training; None is no noise.
        counts: How many blocks of levels 1, 2, ... of each field are read; None asks the settings.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        What was seen; ``label_looks`` labels it.

    Raises:
        SlideError: A tile cannot be read.
        ShapeError: The views have no share of tissue, and the model looks at it.
    """
    if model.sees_tissue and views.shape[1] == RGB:
        raise ShapeError(
            "views (B, 3, H, W): blocks that skip glass need the share of tissue too, (B, 4, H, W)."
        )
    layout = model.layout(size)
    if counts is None:
        split = model.block_settings.split
        counts = [layout.counts(block_share(slide, layout, model), split) for slide in slides]
    first = [
        tiles_of_view(slide, field.region, layout.root) for slide, field in zip(slides, fields, strict=True)
    ]
    cost = _Cost(tiles=first, pixels=[layout.padded(0).area] * len(fields))
    rasters = [first_raster(model, layout, views)]
    scores: list[Tensor] = []
    seen: list[Windows] = []
    for level in range(1, layout.levels):
        priority = priority_of(model, layout, level, views, rasters, seen, fractions)
        scores.append(priority)
        blocks = _chosen(
            model, layout, level, priority, views, seen, [each[level - 1] for each in counts], seeds
        )
        windows = _read(model, slides, fields, layout, level, blocks, change, scheduler, cost, views.device)
        seen.append(windows)
        if level < layout.levels - 1:
            rasters.append(_raster_of(model, layout, windows, level, len(fields)))
    return Looks(
        layout=layout,
        grid=even_grids(size, like=views).grid,
        areas=_areas(layout, seen, len(fields), size).to(views.device),
        rasters=rasters,
        last=seen[-1] if seen else None,
        scores=scores,
        pixels=tuple(cost.pixels),
        tiles=tuple(cost.tiles),
        read_seconds=cost.seconds,
    )


def label_looks(model: Model, looks: Looks) -> Tensor:
    """Scores of the classes, out of all looks.

    Args:
        model: The model.
        looks: Of ``look_at_fields``.

    Returns:
        (B, classes, h, w) of the labels' size, before the softmax.
    """
    scores = model.blocks.label(rasters_of(model, looks))
    return scores[:, :, : looks.grid.shape[1], : looks.grid.shape[2]]


def rasters_of(model: Model, looks: Looks) -> list[Tensor]:
    """Features of all levels at their places, those of the finest too, which is encoded here.

    Args:
        model: The model.
        looks: Of ``look_at_fields``.

    Returns:
        By level, (B, width + 1, rows, columns).
    """
    rasters, layout = list(looks.rasters), looks.layout
    if looks.last is not None:
        rasters.append(_raster_of(model, layout, looks.last, layout.levels - 1, len(looks.grid)))
    return rasters


def score_losses(looks: Looks, fractions: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """How far the scorers are from what the labels say: binary cross-entropy.

    Args:
        looks: Of a learned choice.
        fractions: (B, C, H, W) class fractions of the pixels of the first look, as the networks see it.
        class_weights: (C,), or None.

    Returns:
        (B,), the mean over the blocks of all further levels. The target is g / (1 + g) with g of ``IMPURITY_ODDS``
        times the block's impurity, so that the odds are g: the same in any batch, field and process.
    """
    losses = []
    for level, logits in enumerate(looks.scores, start=1):
        mixed = impurity(looks.layout.pooled(fractions, level), class_weights)
        odds = IMPURITY_ODDS * mixed
        target = odds / (1 + odds)
        each = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
        losses.append(each.mean(dim=(1, 2, 3)))
    return torch.stack(losses).mean(dim=0)


def _chosen(
    model: Model,
    layout: BlockLayout,
    level: int,
    priority: Tensor,
    views: Tensor,
    seen: Sequence[Windows],
    counts: Sequence[int],
    seeds: Sequence[int] | None,
) -> list[Tensor]:
    """The blocks of a level that are read, (N, 2) row and column, for each field."""
    settings, found = model.block_settings, []
    tissue = allowed_blocks(layout, level, views[:, RGB:]) if settings.skip_glass else None
    for item in range(len(views)):
        allowed = None if tissue is None else tissue[item]
        if level > 1:
            parents = seen[-1].places
            children = layout.children(level, parents[parents[:, 0] == item, 1:])
            both = children if allowed is None else children & allowed
            allowed = both if bool(both.any()) else children
        wanted = priority[item, 0].detach().double().cpu()
        if seeds is not None or settings.choice in ("random", "tissue"):
            # Without a seed always the same: a slide is segmented alike each time.
            # Seeds of neighbours follow each other: levels must not lead from one to the next.
            seed = (MAX_LEVELS * (0 if seeds is None else seeds[item]) + level) % (1 << 63)
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
            if settings.choice in ("random", "tissue"):
                # Of whole shares of tissue any is as good as another.
                wanted = wanted + 1e-6 * drawn
            elif settings.choice == "learned":
                wanted = wanted + settings.noise * drawn
        found.append(chosen_blocks(wanted, allowed, counts[item]))
    return found


def _read(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    layout: BlockLayout,
    level: int,
    blocks: Sequence[Tensor],
    change: FieldChange | None,
    scheduler: Any,
    cost: _Cost,
    device: torch.device,
) -> Windows:
    """The windows of a level."""
    started = time.monotonic()
    side, images, places = layout.read_px, [], []
    area = 1 / (layout.root.area * 4**level)
    for item, (slide, field, of_field) in enumerate(zip(slides, fields, blocks, strict=True)):
        cost.pixels[item] += len(of_field) * side**2
        # A plan takes some hundred bytes per pixel: a few windows at a time.
        for chosen in torch.split(of_field, max(1, MAX_PLANNED_PX // side**2)):
            points = layout.window_points(level, chosen)
            if change is not None:
                points = change.place(item, points)
            grid = points.clamp(0, 1).view(-1, side, 2)
            plan = plan_tiles(
                slide, grid, region=field.region, areas=torch.full(grid.shape[:2], area), level="mip"
            )
            image = gather(slide, grid.float(), plan=plan, scheduler=scheduler)
            image = normalised(slide, image, model.config.networks.stain)
            read = image.view(RGB, len(chosen), side, side).transpose(0, 1)
            images.append(read if change is None else change.colour([item] * len(chosen), read))
            places.append(torch.cat((torch.full((len(chosen), 1), item), chosen), dim=1))
            cost.tiles[item] += plan.tile_count
    cost.seconds += time.monotonic() - started
    return Windows(images=torch.cat(images).to(device), places=torch.cat(places))


def _raster_of(model: Model, layout: BlockLayout, windows: Windows, level: int, fields: int) -> Tensor:
    """Features of the windows of a level, at their places."""
    return raster(
        model.blocks.encode(windows.images, level),
        fields,
        layout.cells(level).shape,
        windows.places,
        margin=layout.margin_px // layout.cell_px,
    )


def _areas(layout: BlockLayout, seen: Sequence[Windows], fields: int, size: Size) -> Tensor:
    """(B, h, w), area of a pixel of the finest level that was read at each label / that of the region."""
    areas = torch.full((fields, *size.shape), 1 / layout.root.area)
    for level, windows in enumerate(seen, start=1):
        read = torch.zeros(fields, *layout.blocks(level).shape, dtype=torch.bool)
        read[windows.places[:, 0], windows.places[:, 1], windows.places[:, 2]] = True
        # Labels per block of this level.
        per_block = layout.window_px * 2 ** (layout.levels - 1 - level) // layout.label_px
        rows, columns = (torch.arange(side) // per_block for side in (size.height, size.width))
        areas = torch.where(read[:, rows][:, :, columns], 1 / (layout.root.area * 4**level), areas)
    return areas
