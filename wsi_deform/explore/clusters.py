"""Groups of cells whose features are near each other.

Source:
    Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; by SciPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor

from wsi_deform.errors import SlideError

STARTS, ROUNDS = 8, 50
"""Of k-means: the best of so many starts is taken."""
RIDGE = 1e-3
"""Weight of the squared coefficients where groups are told from coarser features."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """Principal components of features.

    Attributes:
        mean: (C,).
        axes: (D, C): features less their mean, each divided by its standard deviation, -> the D components.
    """

    mean: Tensor
    axes: Tensor

    def of(self, features: Tensor) -> Tensor:
        """(N, C) -> (N, D)."""
        return (features - self.mean) @ self.axes.T


def components_of(features: Tensor, count: int) -> Components:
    """The directions along which features differ most.

    Args:
        features: (N, C) float64.
        count: How many; as many as there are where these are fewer, the others are 0.

    Returns:
        Components in the order of their variance. A feature that is the same everywhere counts nothing.
    """
    mean, spread = features.mean(dim=0), features.std(dim=0, correction=0)
    scale = torch.where(spread > 1e-9, 1 / spread.clamp_min(1e-9), 0.0)
    _, _, directions = torch.linalg.svd((features - mean) * scale, full_matrices=False)
    axes = torch.zeros(count, features.shape[1], dtype=features.dtype)
    kept = min(count, len(directions))
    axes[:kept] = directions[:kept] * scale
    return Components(mean=mean, axes=axes)


def grouped(points: Tensor, groups: int, *, seed: int) -> tuple[NDArray[np.int64], Tensor]:
    """Put points into groups, the largest first.

    Args:
        points: (N, D) float64.
        groups: K.
        seed: Of the starts: the same points are grouped alike each time.

    Returns:
        (N,) the group of each point, and (K, D) their means.

    Raises:
        SlideError: There are not so many groups among the points.
    """
    data, best = points.numpy(), None
    for start in range(STARTS if len(data) >= groups else 0):
        try:
            means, labels = kmeans2(
                data,
                groups,
                iter=ROUNDS,
                minit="++",
                missing="raise",
                seed=np.random.default_rng((seed, start)),
            )
        except ClusterError:  # a group became empty
            continue
        spread = float(((data - means[labels]) ** 2).sum())
        if best is None or spread < best[0]:
            best = (spread, means, labels)
    if best is None:
        raise SlideError(
            f"{groups} groups: the tissue that was seen, {len(data):,} cells of 8 px, does not fall into so many. "
            "Needed fewer groups, or more tissue."
        )
    _, means, labels = best
    order = np.argsort(-np.bincount(labels, minlength=groups), kind="stable")
    rank = np.empty(groups, np.int64)
    rank[order] = np.arange(groups)
    return rank[labels], torch.from_numpy(np.ascontiguousarray(means[order]))


def nearest_mean_scores(points: Tensor, means: Tensor, labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Linear scores that are largest for the nearest mean.

    Args:
        points: (N, D).
        means: (K, D).
        labels: (N,) the group of each.

    Returns:
        (K, D) weights and (K,) biases: the logits of groups that are round and equally wide, as k-means takes them.
    """
    spread = ((points - means[torch.from_numpy(labels)]) ** 2).mean().clamp_min(1e-12)
    return means / spread, -(means**2).sum(dim=1) / (2 * spread)


def told_scores(points: Tensor, labels: NDArray[np.int64], groups: int) -> tuple[Tensor, Tensor]:
    """Linear scores that tell groups by other features of the same cells, by logistic regression.

    Args:
        points: (N, D) float64.
        labels: (N,) the group of each.
        groups: K.

    Returns:
        (K, D) weights and (K,) biases.
    """
    scale = points.std(dim=0, correction=0).clamp_min(1e-6)
    inputs, wanted = points / scale, torch.from_numpy(labels)
    weight = torch.zeros(groups, points.shape[1], dtype=points.dtype, requires_grad=True)
    bias = torch.zeros(groups, dtype=points.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(inputs @ weight.T + bias, wanted) + RIDGE * (weight**2).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return (weight / scale).detach(), bias.detach()
