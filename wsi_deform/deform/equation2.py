"""Equation 2: sampling positions that are drawn to class borders and to their neighbours, as one sparse linear solve.

Marin et al. place samples by two wishes at once: each sample shall lie on the class border that is nearest to its
undeformed place, and neighbours shall stay close to each other,

    sum over ij ||g_ij - b_ij||^2 + lambda * sum over pairs ||g_ij - g_i'j'||^2,

where each pair of 4-neighbours counts once. It is quadratic, and x and y do not meet, so that its least value is the
solution of two sparse linear systems, (I + lambda L) g = b with the Laplacian L of the lattice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.deform.grid import undeformed_places
from wsi_deform.deform.lattice import lattice_size
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

if TYPE_CHECKING:
    from scipy.sparse.linalg import SuperLU

UNLABELLED = 255


def solved_lattices(fractions: Tensor, *, cells: int, smoothness: float = 1.0) -> Tensor:
    """Solve equation 2 for the class fractions of fields.

    Args:
        fractions: (B, C, H, W) as for ``deform.targets.edge_target``; a cell has the class that most of it is.
        cells: Of the lattice along the short side, see ``lattice_size``.
        smoothness: As for ``edge_positions``.

    Returns:
        (B, n, m, 2), (x, y), unit frame; dtype and device of the fractions.
    """
    most = fractions.argmax(dim=1).to(torch.uint8)
    labels = most.masked_fill(fractions.sum(dim=1) <= 0, UNLABELLED).cpu().numpy()
    size = lattice_size(Size(fractions.shape[3], fractions.shape[2]), cells)
    solved = [torch.from_numpy(edge_positions(each, size, smoothness=smoothness)) for each in labels]
    return torch.stack(solved).to(fractions)


def edge_positions(
    labels: NDArray[np.uint8], lattice: Size, *, smoothness: float = 1.0
) -> NDArray[np.float64]:
    """Solve equation 2 for a label map.

    Args:
        labels: (H, W) class indices, 255 is unlabelled; the low-res label map of a field, of about square pixels.
        lattice: Columns and rows of the samples; undeformed, the first and last lie on the field's frame.
        smoothness: lambda, 0 or more. 0 puts every sample inside the frame on a border.

    Returns:
        (lattice.height, lattice.width, 2) float64, (x, y), unit frame of the field, edge to edge.

    Raises:
        ShapeError: See ``border_points`` and ``solved_positions``.

    Convention:
        The whole field is covered: samples of the top and bottom rows keep their y, those of the left and right columns
        their x, corners both. Without a border between two classes nothing pulls: the undeformed lattice.

        Nearest is measured in pixels of the label map.

        Folds: the nearest point of a set is a monotone function of the place and so is its smoothing, but the frame
        keeps samples that borders would draw away, and cells beside it can turn over. Of 300 random label maps on
        17 x 17 and 17 x 9 samples none had a cell of negative area with a smoothness of 1 or more, 6 with .25 and 95
        with .01 (.4 % of all cells). A finer lattice smooths over less of the field and folds more: on 65 x 65 samples
        15 of 60 maps with a smoothness of 1 (.1 % of the cells), none with 16.

    Source:
        Marin et al., ICCV 2019; Jin et al., ICLR 2022, equation 2. Read to the letter, its second sum counts every pair
        twice, which is this lambda doubled.
    """
    borders = border_points(labels)
    undeformed = undeformed_lattice(lattice)
    if not len(borders):
        return undeformed
    from scipy.spatial import cKDTree

    scale = np.array([labels.shape[1], labels.shape[0]], np.float64)
    _, nearest = cKDTree(borders).query(undeformed.reshape(-1, 2) * scale)
    return solved_positions((borders[nearest] / scale).reshape(undeformed.shape), smoothness=smoothness)


def border_points(labels: NDArray[np.uint8], *, unlabelled: int = UNLABELLED) -> NDArray[np.float64]:
    """The borders between classes, as points half a pixel apart.

    Args:
        labels: (H, W) class indices.
        unlabelled: The index that is no class.

    Returns:
        (N, 2) float64 (x, y) in pixels of the label map, edge frame: the middle and both ends of every edge that two
        pixels of different classes share. Where one of them is unlabelled there is no border.

    Raises:
        ShapeError: The labels are not (H, W).
    """
    if labels.ndim != 2:
        raise ShapeError(f"label map of shape {labels.shape}: needed (H, W).")
    points = []
    for axis, (before, after) in enumerate(((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:]))):
        row, column = np.nonzero((before != after) & (before != unlabelled) & (after != unlabelled))
        for along in (0.0, 0.5, 1.0):
            points.append((column + along, row + 1.0) if axis == 0 else (column + 1.0, row + along))
    return np.unique(np.concatenate([np.stack(pair, axis=1) for pair in points]), axis=0)


def undeformed_lattice(lattice: Size) -> NDArray[np.float64]:
    """Positions from edge to edge, (lattice.height, lattice.width, 2), unit frame; one sample alone lies at .5."""
    x, y = (undeformed_places(n, "corner") for n in (lattice.width, lattice.height))
    return np.stack(np.meshgrid(x, y), axis=-1)


def solved_positions(closest: NDArray[np.float64], *, smoothness: float) -> NDArray[np.float64]:
    """The positions for which equation 2 is least.

    Args:
        closest: (h, w, 2), b of equation 2, (x, y) in the unit frame.
        smoothness: lambda.

    Returns:
        (h, w, 2) float64. What lies on the frame stays on it, whatever ``closest`` says.

    Raises:
        ShapeError: The points are not finite (h, w, 2), or a smoothness below 0 or not finite.
    """
    closest = np.asarray(closest, np.float64)
    if closest.ndim != 3 or closest.shape[2] != 2 or not np.isfinite(closest).all():
        raise ShapeError(f"closest points of shape {closest.shape}, or not finite: needed finite (h, w, 2).")
    if not 0 <= smoothness < np.inf:
        raise ShapeError(f"smoothness {smoothness}: needed a finite number of 0 or more.")
    return np.stack(
        (
            _solved_along_rows(closest[..., 0], smoothness),
            _solved_along_rows(closest[..., 1].T, smoothness).T,
        ),
        axis=-1,
    )


def _solved_along_rows(wanted: NDArray[np.float64], smoothness: float) -> NDArray[np.float64]:
    """The coordinate that grows along rows, (rows, n): 0 in the first column, 1 in the last."""
    rows, n = wanted.shape
    solved = np.tile(undeformed_places(n, "corner"), (rows, 1))
    if n > 2:
        right_side = wanted[:, 1:-1].copy()
        right_side[:, -1] += smoothness  # times 1, where the last column lies; the first lies at 0
        solved[:, 1:-1] = _system(rows, n - 2, smoothness).solve(right_side.ravel()).reshape(rows, n - 2)
    return solved


@lru_cache(maxsize=64)
def _system(rows: int, free: int, smoothness: float) -> SuperLU:
    """I + lambda L of the columns that may move, factored; sample (r, c) is number r * free + c."""
    from scipy.sparse import eye_array, kron
    from scipy.sparse.linalg import splu

    # Along a row both neighbours of a free sample exist, if only on the frame; across rows the ends have one.
    along, across = _path(free, ends=2.0), _path(rows, ends=1.0 if rows > 1 else 0.0)
    laplacian = kron(eye_array(rows), along) + kron(across, eye_array(free))
    return splu((eye_array(rows * free) + smoothness * laplacian).tocsc())


def _path(n: int, *, ends: float) -> Any:
    """The Laplacian of n samples in a row whose ends have so many neighbours."""
    from scipy.sparse import diags_array

    middle = np.full(n, 2.0)
    middle[[0, -1]] = ends
    return diags_array([np.full(n - 1, -1.0), middle, np.full(n - 1, -1.0)], offsets=[-1, 0, 1])
