"""Where the samples of fields lie and what is read there: the first half of segmenting, and of a training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.cover import normalised
from wsi_deform.geometry import Size
from wsi_deform.grids import even_grids, grids_of
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import TilePlan, plan_tiles
from wsi_deform.scale import px_from_um
from wsi_deform.slide.slide import Slide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """What sampling a batch of fields gives; all fields have sampled images of one size.

    Attributes:
        density: (B, 1, H, W) deformation maps; None where a lattice of positions says where samples lie.
        grid: (B, h, w, 2) sampling grids, (x, y), unit frame of each field's region.
        areas: (B, h, w) areas of the warped cells as fractions of the region, without gradient; folded
            cells too have a positive one.
        images: (B, 3, h, w) RGB in [0, 255]; with a resizer of the ``model.read_size`` that it is given.
        pixels: Pixels that enter a network, of the view and of what is read, per field.
        tiles: Tiles read for each field.
        read_seconds: Time that planning and reading of tiles took.
    """

    density: Tensor | None
    grid: Tensor
    areas: Tensor
    images: Tensor
    pixels: tuple[int, ...]
    tiles: tuple[int, ...]
    read_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedFields:
    """Where a batch of fields is sampled, and which pixels of which tiles are read for it.

    Attributes:
        density: As of ``Sampled``.
        grid: As of ``Sampled``.
        areas: As of ``Sampled``.
        read: (h, w, 2) of each field, where it is read: its grid, or the finer one of a resizer; inside its region.
        plans: The tiles of each field.
        pixels: As of ``Sampled``.
        seconds: Time that planning the tiles took.
    """

    density: Tensor | None
    grid: Tensor
    areas: Tensor
    read: tuple[Tensor, ...]
    plans: tuple[TilePlan, ...]
    pixels: tuple[int, ...]
    seconds: float


def sample_fields(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    views: Tensor,
    *,
    size: Size,
    read_size: Size | None = None,
    targets: Tensor | None = None,
    place: Callable[[Tensor], Tensor] | None = None,
    cut_gradient: bool = False,
    scheduler: Any = "auto",
) -> Sampled:
    """Look at low-res views, decide where to sample, and sample.

    Args:
        model: The model.
        slides: The slide of each field.
        fields: B fields.
        views: (B, 3 or 4, H, W) low-res views of ``view_of``.
        size: Size of the sampled images.
        read_size: ``model.read_size`` of the fields, the same for all: where a resizer makes the sampled images, that
            is the size of what is read for it, at the places of the same grid refined.
        targets: Of ``model.target_of``, for an oracle.
        place: Changes the sampling grids before they are used (augmentation by sampling). What it puts outside a
            region reads the nearest place inside; ``Sampled.grid`` keeps where it was put.
        cut_gradient: Whether the sampled images tell the density nothing in the backward pass.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        Maps, grids and sampled images.
    """
    planned = plan_fields(
        model,
        slides,
        fields,
        views,
        size=size,
        read_size=read_size,
        targets=targets,
        place=place,
        cut_gradient=cut_gradient,
    )
    return read_fields(model, slides, planned, scheduler=scheduler)


def plan_fields(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    views: Tensor,
    *,
    size: Size,
    read_size: Size | None = None,
    targets: Tensor | None = None,
    place: Callable[[Tensor], Tensor] | None = None,
    cut_gradient: bool = False,
) -> PlannedFields:
    """Decide where fields are sampled, and which tiles are read for it; no tile of them is read yet.

    Args:
        model: As for ``sample_fields``, and so are all others.
        slides: The slide of each field.
        fields: B fields.
        views: Their low-res views.
        size: Size of the sampled images.
        read_size: Size of what a resizer is given.
        targets: For an oracle.
        place: Augmentation by sampling.
        cut_gradient: Whether the grids are cut off from the density.

    Returns:
        Grids and plans.
    """
    found = grids_of(model, views, size, targets=targets)
    grid = found.grid.detach() if cut_gradient else found.grid
    # A resizer is given a finer image of the same places.
    finer = None if read_size is None else even_grids(read_size, like=views)
    read = grid if finer is None else finer.grid
    if place is not None:
        grid = place(grid)
        read = grid if finer is None else place(read)
    started = time.monotonic()
    areas = found.areas if finer is None else finer.areas
    inside = [each if place is None else each.clamp(0, 1) for each in read]
    plans = tuple(
        plan_field(model, slide, field, field_grid, field_areas)
        for slide, field, field_grid, field_areas in zip(slides, fields, inside, areas, strict=True)
    )
    return PlannedFields(
        density=found.density,
        grid=grid,
        areas=found.areas,
        read=tuple(inside),
        plans=plans,
        pixels=(model.entering_pixels(read_size or size, Size(views.shape[3], views.shape[2])),)
        * len(fields),
        seconds=time.monotonic() - started,
    )


def read_fields(
    model: Model, slides: Sequence[Slide], planned: PlannedFields, *, scheduler: Any = "auto"
) -> Sampled:
    """Read what was planned: the sampled images, in the colours that the networks see.

    Args:
        model: The model that planned.
        slides: The slide of each field.
        planned: Of ``plan_fields``.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        Maps, grids and sampled images.

    Raises:
        SlideError: A tile cannot be read.
    """
    started = time.monotonic()
    images = []
    for slide, grid, plan in zip(slides, planned.read, planned.plans, strict=True):
        image = gather(slide, grid, plan=plan, scheduler=scheduler)
        images.append(normalised(slide, image, model.config.networks.stain))
    return Sampled(
        density=planned.density,
        grid=planned.grid,
        areas=planned.areas,
        images=torch.stack(images),
        pixels=planned.pixels,
        tiles=tuple(plan.tile_count for plan in planned.plans),
        read_seconds=planned.seconds + time.monotonic() - started,
    )


def plan_field(model: Model, slide: Slide, field: Field, grid: Tensor, areas: Tensor) -> TilePlan:
    """The tiles that a field's samples read, at the levels that the model's configuration says.

    Args:
        model: The model.
        slide: The field's slide.
        field: The field.
        grid: (h, w, 2), unit frame of the field's region.
        areas: (h, w) areas of the warped cells as fractions of the region.

    Returns:
        The plan.

    Raises:
        SlideError: The model's ``coarsest_um`` is set, and the slide has no mpp.
    """
    settings = model.config.sampling
    coarsest_px = settings.coarsest_px
    if settings.coarsest_um is not None:
        coarsest_px = px_from_um(settings.coarsest_um, slide, model)
    return plan_tiles(
        slide,
        grid,
        region=field.region,
        areas=areas,
        level=settings.level,
        bias=settings.level_bias,
        coarsest_px=coarsest_px,
    )


def points_of(field: Field, grid: Tensor) -> NDArray[np.float64]:
    """Where the samples of a field lie on its slide.

    Args:
        field: The field.
        grid: (h, w, 2), unit frame of the field's region.

    Returns:
        (h * w, 2) float64 (x, y), level-0 px, row by row.
    """
    origin = torch.tensor([field.region.x, field.region.y], dtype=torch.float64)
    extent = torch.tensor([field.region.width, field.region.height], dtype=torch.float64)
    points: NDArray[np.float64] = (origin + grid.detach().cpu().double().reshape(-1, 2) * extent).numpy()
    return points
