"""From the deformation network's logits, or from nothing, to a deformation map."""

from __future__ import annotations

import torch
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size


def deformation_map(logits: Tensor, *, floor: float = 0.0) -> Tensor:
    """Normalise logits to a density over the whole map.

    Args:
        logits: (B, 1, H, W), any real numbers.
        floor: Share of the samples, 0 to 1, that is spread evenly whatever the logits say.

    Returns:
        (B, 1, H, W), positive, sums to 1 over each map; float32, or float64 if the logits are.

    Raises:
        ShapeError: The logits are not (B, 1, H, W) or the floor is outside [0, 1].

    Source:
        Jin et al., ICLR 2022, appendix A.7 (softmax over all positions); the floor is ours.
    """
    if logits.ndim != 4 or logits.shape[1] != 1:
        raise ShapeError(f"logits of shape {tuple(logits.shape)}: needed (B, 1, H, W).")
    if not 0 <= floor <= 1:
        raise ShapeError(f"floor {floor}: needed a share between 0 and 1.")
    # A softmax over tens of thousands of cells underflows in half precision.
    flat = logits.flatten(1).to(torch.promote_types(logits.dtype, torch.float32))
    density = torch.softmax(flat, dim=1)
    density = (1 - floor) * density + floor / flat.shape[1]
    return density.view_as(logits)


def density_of(weights: Tensor, *, floor: float = 0.0) -> Tensor:
    """Normalise weights that nobody learned, such as a tissue mask, to a density over the whole map.

    Args:
        weights: (B, 1, H, W), non-negative, positive somewhere in each map.
        floor: As in ``deformation_map``.

    Returns:
        (B, 1, H, W), sums to 1 over each map; float32, or float64 if the weights are.

    Raises:
        ShapeError: The weights are not (B, 1, H, W), a map sums to 0, or the floor is outside [0, 1].
    """
    if weights.ndim != 4 or weights.shape[1] != 1:
        raise ShapeError(f"weights of shape {tuple(weights.shape)}: needed (B, 1, H, W).")
    if not 0 <= floor <= 1:
        raise ShapeError(f"floor {floor}: needed a share between 0 and 1.")
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    total = weights.sum((2, 3), keepdim=True)
    if not bool((total > 0).all()):
        raise ShapeError("weights: a map is 0 everywhere. Needed a positive weight somewhere; add a floor.")
    return (1 - floor) * weights / total + floor / weights[0, 0].numel()


def uniform_map(size: Size, *, batch: int = 1) -> Tensor:
    """The deformation map that deforms nothing.

    Args:
        size: Size of the map.
        batch: Number of maps.

    Returns:
        (batch, 1, H, W) float32, the same positive number everywhere, sums to 1 over each map.
    """
    return torch.full((batch, 1, *size.shape), 1.0 / size.area)
