"""Where the samples of fields lie: from a deformation map, or from a lattice of positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_deform.deform.grid import Placement, cell_areas, sampling_grid
from wsi_deform.deform.lattice import grid_of_lattice, uniform_lattice
from wsi_deform.geometry import Size
from wsi_deform.model import Model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grids:
    """Where the samples of fields lie.

    Attributes:
        density: (B, 1, H, W) deformation maps; None where positions come from a lattice.
        grid: (B, h, w, 2) sampling grids, (x, y), unit frame of each field's region.
        areas: (B, h, w) areas of the warped cells as fractions of the region, without gradient; folded cells too have
            a positive one.
    """

    density: Tensor | None
    grid: Tensor
    areas: Tensor


def grids_of(model: Model, views: Tensor, size: Size, *, targets: Tensor | None = None) -> Grids:
    """Decide where fields are sampled: the only place that knows how each kind of density does it.

    Args:
        model: The model.
        views: (B, 3 or 4, H, W) low-res views of ``cover.view_of``.
        size: Size of the sampled images, px.
        targets: Of ``model.target_of``, for an oracle.

    Returns:
        The grids, differentiable with respect to a learned map; a lattice carries no gradient.

    Raises:
        ModelError: An oracle without labels.
    """
    settings = model.config.sampling
    corners = Size(size.width + 1, size.height + 1)
    if model.has_lattice:
        with torch.no_grad():
            lattice = model.lattice(views, targets)
            areas = cell_areas(grid_of_lattice(lattice, corners, placement="corner")).abs()
            grid = grid_of_lattice(lattice, size, placement=settings.placement)
            return Grids(density=None, grid=grid, areas=areas)
    density = model.density(views, targets)
    sigma_px = settings.pull_px(min(density.shape[-2:]))

    def grid_of(lattice: Size, placement: Placement) -> Tensor:
        return sampling_grid(
            density,
            sigma_px=sigma_px,
            radius_px=settings.radius_sigmas * sigma_px,
            size=lattice,
            placement=placement,
            warp_steps=settings.warp_steps,
            border=settings.border,
        )

    grid = grid_of(size, settings.placement)
    with torch.no_grad():
        # A map of extreme peaks folds the grid; a folded cell is as large as its area is without the sign.
        areas = cell_areas(grid_of(corners, "corner")).abs()
    return Grids(density=density, grid=grid, areas=areas)


def even_grids(size: Size, *, like: Tensor) -> Grids:
    """Cells of one size, as the resizer's image is read.

    Args:
        size: Size of that image, px.
        like: (B, ...), says how many fields there are, and where.
    """
    count = len(like)
    grid = grid_of_lattice(uniform_lattice(Size(2, 2)), size).to(like.device)
    areas = torch.full((count, *size.shape), 1 / size.area, device=like.device)
    return Grids(density=None, grid=grid.expand(count, -1, -1, -1), areas=areas)
