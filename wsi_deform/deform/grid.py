"""Equation 3: from a deformation map to the points where the slide is sampled.

Every sample is pulled towards the cells of the map around it: its new position is the mean of their
positions, weighted by density times a Gaussian of the distance. The Gaussian is separable, so the two double
sums of equation 3 are products with small matrices, one pair per axis,

    den = K_y D K_x^T,    u_y = (M_y D K_x^T) / den,    u_x = (K_y D M_x^T) / den,

    K[q, i] = sum over images p of cell i of k(p - q),    M[q, i] = the same sum of k(p - q) p,

where the *images* of a cell are itself and its reflections at both edges, as far as the kernel reaches.
Reflected, every border query sees a symmetric neighbourhood, so borders map to borders exactly and no part of
the slide is lost. There is no padding, no convolution and no resize: the matrices are evaluated at whatever
points are asked for.

A query between two cell centres sees the lattice of cells lopsided, most of all where the kernel is cut off, and
would be pulled even by a constant map (by up to 0.01 cells with a radius of 3 sigma). The kernel therefore
carries the factor
``1 + a (p - q)`` with the one ``a(q)`` that makes its first moment vanish. On cell centres and at borders ``a``
is zero, and what is left is the plain Gaussian of the paper.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

Placement = Literal["cell", "corner"]
Border = Literal["mirror", "replicate"]

MIN_DENSITY = 1e-16
"""What a cell counts at least / the mean of its map: less underflows, and a mean over nothing is not a number."""


def sampling_grid(
    deformation_map: Tensor,
    *,
    sigma_px: float,
    size: Size,
    radius_px: float | None = None,
    placement: Placement = "cell",
    warp_steps: int = 1,
    border: Border = "mirror",
) -> Tensor:
    """Turn a deformation map into the points where the slide is sampled.

    Args:
        deformation_map: (B, 1, H, W), non-negative, positive somewhere in each map. Larger means sample more here;
            its scale does not matter. Where all is (nearly) 0 samples stay where they are.
        sigma_px: Standard deviation of the pull, in pixels of the deformation map.
        size: Size of the sampled image, in pixels.
        radius_px: The pull ends at this distance per axis, in pixels of the map, at least 1;
            None is ``ceil(5 sigma_px)``. The paper's kernel of 2 sigma + 1 pixels is ``radius_px=sigma_px``.
        placement: Where samples lie without deformation: in the centres of the cells that
            tile the slide, or with the first and last "corner" sample on the slide's border.
        warp_steps: How often the map is applied; 1 is the paper. Each further step moves the
            samples again, at their new places.
        border: "mirror" reflects the map at its edges; "replicate" repeats the edge values as the
            paper does, which cuts off part of the slide, and clamps what falls outside.

    Returns:
        (B, size.height, size.width, 2), last axis (x, y), unit frame [0, 1] edge to edge; dtype of the map,
        float32 at least.

    Raises:
        ShapeError: The map is not (B, 1, H, W), or sigma, radius or the number of steps is not positive.

    Convention:
        A constant map gives the identity grid. With a mirrored border, samples on the slide's border stay on it.
        The full Gaussian cannot fold the grid; one that is cut off can, where cells outweigh what is around them by
        more than the cut hides (e^12.5 at 5 sigma). Of 300 maps of 24 x 96 cells with one to five peaks of 10^6
        times the rest (sigma 6), a radius of 5 sigma folds none in one step, 3 sigma 47 (265 cells); below a sigma
        of 2 pixels single cells fold at 5 sigma too. Further steps interpolate between the corners of cells, which
        such peaks fold at any radius. With the floor of ``target_map``, .03 of the largest value, which training
        works towards, none of them folds in one step or two.

    Source:
        Jin et al., ICLR 2022, equation 3; placement "corner" is its footnote 2; ``warp_steps`` is ours.
    """
    if deformation_map.ndim != 4 or deformation_map.shape[1] != 1:
        raise ShapeError(f"deformation map of shape {tuple(deformation_map.shape)}: needed (B, 1, H, W).")
    if not sigma_px > 0 or warp_steps < 1:
        raise ShapeError(
            f"sigma_px {sigma_px}, warp_steps {warp_steps}: needed a positive sigma and 1 step or more."
        )
    radius_px = float(math.ceil(5 * sigma_px)) if radius_px is None else float(radius_px)
    if radius_px < 1:
        # Less than one pixel reaches no second cell, and a weighted mean needs two.
        radius_px = 1.0
    # Half precision has 0.0005 of the slide per step near 1: useless as a position.
    with torch.autocast(deformation_map.device.type, enabled=False):
        density = deformation_map.to(torch.promote_types(deformation_map.dtype, torch.float32))
        pull = _Pull(density, sigma_px, radius_px, border)
        grid = pull.at(size, placement)
        if warp_steps > 1:
            lattice = pull.at(Size(density.shape[3] + 1, density.shape[2] + 1), "corner").permute(0, 3, 1, 2)
            for _ in range(warp_steps - 1):
                # The lattice of cell corners spans [0, 1] exactly, which is what align_corners=True means.
                moved = F.grid_sample(
                    lattice, grid * 2 - 1, mode="bilinear", padding_mode="border", align_corners=True
                )
                grid = moved.permute(0, 2, 3, 1)
    return grid


def cell_areas(corner_grid: Tensor) -> Tensor:
    """Signed areas of the warped cells.

    Args:
        corner_grid: (B, h + 1, w + 1, 2), the warped corners of h x w cells: ``sampling_grid`` with
            ``size`` one larger on both axes and ``placement="corner"``; unit frame.

    Returns:
        (B, h, w), fractions of the slide. They sum to 1 when the border is fixed; a cell that folded is negative.
    """
    diagonal_down = corner_grid[:, 1:, 1:] - corner_grid[:, :-1, :-1]
    diagonal_up = corner_grid[:, 1:, :-1] - corner_grid[:, :-1, 1:]
    cross = diagonal_down[..., 0] * diagonal_up[..., 1] - diagonal_down[..., 1] * diagonal_up[..., 0]
    return cross / 2


class _Pull:
    """Equation 3 of one batch of maps, ready to be evaluated on any lattice of queries."""

    def __init__(self, density: Tensor, sigma_px: float, radius_px: float, border: Border) -> None:
        least = MIN_DENSITY * density[:, 0].detach().mean(dim=(1, 2), keepdim=True)
        self.density = torch.maximum(density[:, 0], least)
        self.sigma_px = sigma_px
        self.radius_px = radius_px
        self.border: Border = border

    def at(self, size: Size, placement: Placement) -> Tensor:
        """Warped positions, (B, h, w, 2), of a lattice of this size; unit frame."""
        _, height, width = self.density.shape
        k_y, m_y = self._matrices(height, size.height, placement)
        k_x, m_x = self._matrices(width, size.width, placement)
        across = self.density @ k_x.T
        weight = k_y @ across
        y = (m_y @ across) / weight
        x = (k_y @ (self.density @ m_x.T)) / weight
        # Rounding, or replicated borders, may leave the slide by a hair or more.
        return torch.stack((x, y), dim=-1).clamp(0, 1)

    def _matrices(self, cells: int, queries: int, placement: Placement) -> tuple[Tensor, Tensor]:
        k, m = _axis_matrices(cells, queries, placement, self.sigma_px, self.radius_px, self.border)
        return torch.as_tensor(k).to(self.density), torch.as_tensor(m).to(self.density)


@lru_cache(maxsize=256)
def _axis_matrices(
    cells: int, queries: int, placement: Placement, sigma_px: float, radius_px: float, border: Border
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K and M of one axis, (queries, cells) float64; M in the unit frame."""
    at = undeformed_places(queries, placement) * cells
    reach = math.ceil(radius_px)
    image = np.arange(-reach, cells + reach)
    offset = (image + 0.5)[None, :] - at[:, None]
    # The rounding of a query that is meant to be a whole number of cells away must not cut one side only.
    inside = np.abs(offset) <= radius_px * (1 + 1e-9)
    kernel = np.where(inside, np.exp(-0.5 * (offset / sigma_px) ** 2), 0.0)
    kernel /= kernel.sum(axis=1, keepdims=True)
    first, second = (kernel * offset).sum(axis=1), (kernel * offset**2).sum(axis=1)
    lean = np.where(np.abs(first) > 1e-12, -first / np.maximum(second, 1e-300), 0.0)
    kernel *= 1 + lean[:, None] * offset
    if border == "mirror":
        folded = image % (2 * cells)
        source = np.where(folded < cells, folded, 2 * cells - 1 - folded)
    else:
        source = np.clip(image, 0, cells - 1)
    k = np.zeros((queries, cells))
    m = np.zeros((queries, cells))
    # Positions are measured from the query, so that the mean of a symmetric neighbourhood is exact.
    for column, cell in enumerate(source):
        k[:, cell] += kernel[:, column]
        m[:, cell] += kernel[:, column] * offset[:, column]
    m = (m + k * at[:, None]) / cells
    return k, m


def undeformed_places(queries: int, placement: Placement) -> NDArray[np.float64]:
    """Undeformed positions of the samples along one axis, unit frame."""
    if placement == "cell":
        return (np.arange(queries) + 0.5) / queries
    if queries == 1:
        return np.array([0.5])
    return np.arange(queries) / (queries - 1)
