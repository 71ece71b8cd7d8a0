"""Sampling grids from a coarse lattice of positions, where no deformation map says where samples lie."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.deform.grid import Placement, undeformed_places
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size


def lattice_size(view: Size, cells: int) -> Size:
    """Columns and rows of the lattice over a field.

    Args:
        view: Size of the field's low-res view, px; says its aspect.
        cells: Cells of the lattice along the short side; never more than the view has pixels.

    Returns:
        One more than the cells of each side: the first and last position lie on the field's frame.
    """
    short = min(cells, view.short)
    long = max(1, round(short * view.long / view.short))
    return Size(long + 1, short + 1) if view.width >= view.height else Size(short + 1, long + 1)


def uniform_lattice(size: Size) -> Tensor:
    """Undeformed positions, (1, size.height, size.width, 2) float32, (x, y), [0, 1] from edge to edge."""
    y, x = (torch.from_numpy(undeformed_places(n, "corner")).float() for n in size.shape)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def grid_of_lattice(lattice: Tensor, size: Size, *, placement: Placement = "cell") -> Tensor:
    """Where samples lie, by bilinear interpolation between the positions of a lattice.

    Args:
        lattice: (B, n, m, 2), (x, y), unit frame; undeformed, its first and last positions lie on the frame.
        size: Size of the sampled image, px.
        placement: As ``sampling_grid``; with "corner" and one more sample along each axis than cells it gives the
            corners of the cells.

    Returns:
        (B, size.height, size.width, 2), (x, y), unit frame; dtype of the lattice.

    Raises:
        ShapeError: The lattice is not (B, n, m, 2) with 2 or more positions along each axis.

    Convention:
        The undeformed lattice gives the undeformed grid. What lies on the frame in the lattice does so in the grid.
    """
    if lattice.ndim != 4 or lattice.shape[-1] != 2 or min(lattice.shape[1:3]) < 2:
        raise ShapeError(f"lattice of shape {tuple(lattice.shape)}: needed (B, n, m, 2), n and m at least 2.")
    y, x = (
        torch.as_tensor(_weights(lattice.shape[1 + axis], size.shape[axis], placement)).to(lattice)
        for axis in (0, 1)
    )
    return torch.einsum("hn,bnmc,wm->bhwc", y, lattice, x)


def density_of_cells(grid: Tensor, areas: Tensor, size: Size) -> NDArray[np.float64]:
    """How densely each part of a field is sampled, for pictures: what a deformation map would say.

    Args:
        grid: (h, w, 2) sampling grid, unit frame.
        areas: (h, w) areas of the samples' cells, in any unit.
        size: Size of the map, px.

    Returns:
        (size.height, size.width), positive, sums to 1: at each place 1 / area of the cell of the nearest sample.
    """
    from scipy.spatial import cKDTree

    scale = np.array([size.width, size.height], np.float64)
    x, y = np.meshgrid(undeformed_places(size.width, "cell"), undeformed_places(size.height, "cell"))
    tree = cKDTree(grid.detach().cpu().double().reshape(-1, 2).numpy() * scale)
    _, nearest = tree.query(np.stack((x, y), axis=-1).reshape(-1, 2) * scale)
    cells = areas.detach().cpu().double().flatten().numpy()
    # A cell without an area, on a fold, would be all there is to see.
    density = 1 / np.maximum(cells, 1e-3 * cells.mean())[nearest].reshape(size.shape)
    return np.asarray(density / density.sum(), np.float64)


def _weights(nodes: int, queries: int, placement: Placement) -> NDArray[np.float64]:
    """(queries, nodes): what each node of an axis gives to each query."""
    at = undeformed_places(queries, placement) * (nodes - 1)
    lower = np.clip(np.floor(at).astype(np.int64), 0, nodes - 2)
    weights = np.zeros((queries, nodes))
    rows = np.arange(queries)
    weights[rows, lower], weights[rows, lower + 1] = 1 - (at - lower), at - lower
    return weights
