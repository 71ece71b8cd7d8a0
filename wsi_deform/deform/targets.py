"""What a deformation map should look like, drawn from labels: dense at class borders or where labels are.

Every target starts from class fractions, not from class numbers, whose differences mean nothing.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.errors import ShapeError

EdgeScale = Literal["mean", "paper"]
TargetKind = Literal["edge", "region", "both", "class_numbers"]


def edge_target(fractions: Tensor, *, blur_std: float = 1.0) -> Tensor:
    """How strongly classes change at each cell of the deformation map.

    Every class is blurred and compared with its 8 neighbours (the Laplacian kernel [-1, -1, -1; -1, 8, -1;
    -1, -1, -1]); the largest absolute value over the classes is kept. Borders of the image are replicated.

    Args:
        fractions: (B, C, H, W), non-negative. Share of each class in the labelled part of a map cell, times
            the labelled share of the cell: sums over C to at most 1, and to 0 where nothing is labelled.
        blur_std: Standard deviation of the Gaussian, in map cells; 0 leaves it out.

    Returns:
        (B, 1, H, W), non-negative, the dtype of ``fractions`` but at least float32.

    Raises:
        ShapeError: Not a floating-point (B, C, H, W), or a negative ``blur_std``.

    Convention:
        Unlabelled means unknown, not a class of its own: the border of a labelled part is no edge. The blur
        is a normalised convolution (blurred class over blurred labelled share), neighbours count by whether
        they know anything, and the result is faded by the blurred labelled share. Labelled everywhere, this
        is the plain filter chain. Renumbering classes changes nothing; one class, with or without
        unlabelled parts, gives exactly 0.

    Source:
        Jin et al., ICLR 2022, section 2.4 and footnote 4; normalised convolution after Knutsson and
        Westin, CVPR 1993.
    """
    _require_fractions(fractions, blur_std)
    fractions = _at_least_float32(fractions)
    support = _blurred(fractions.sum(1, keepdim=True), blur_std)
    known = (support > 0).to(fractions.dtype)
    # 0 / 0 is avoided before the division, so that gradients stay finite as well.
    shares = _blurred(fractions, blur_std) / torch.where(support > 0, support, torch.ones_like(support))
    return _laplacian(shares, known).abs().amax(1, keepdim=True) * support


def class_number_target(fractions: Tensor, *, blur_std: float = 1.0) -> Tensor:
    """The edges of a map of class numbers, taken as if they were grey values: a control, not a recipe.

    It is the paper's formula word for word, whose downsampled label has one channel. A border between classes 0 and 4
    counts four times as much as one between 0 and 1, and renumbering the classes changes it; ``edge_target`` does
    neither.

    Args:
        fractions: (B, C, H, W), as for ``edge_target``. A cell has the number of its largest class, the lower one
            where two are alike.
        blur_std: Standard deviation of the Gaussian, in map cells; 0 leaves it out.

    Returns:
        (B, 1, H, W), non-negative, at most 8 (C - 1).

    Raises:
        ShapeError: Not a floating-point (B, C, H, W), or a negative ``blur_std``.

    Convention:
        Absolute values and unlabelled parts are as for ``edge_target``: the paper's filter gives both signs along
        every border, and a density has one. One class, with or without unlabelled parts, gives exactly 0.

    Source:
        Jin et al., ICLR 2022, section 2.4 and footnote 4.
    """
    _require_fractions(fractions, blur_std)
    fractions = _at_least_float32(fractions)
    labelled = fractions.sum(1, keepdim=True)
    numbers = fractions.argmax(1, keepdim=True).to(fractions.dtype)
    # Differences are all that counts: from the least number on, so that one class is 0 without rounding.
    least = numbers.masked_fill(labelled <= 0, math.inf).amin((2, 3), keepdim=True)
    numbers = torch.where(labelled > 0, numbers - least, torch.zeros_like(numbers))
    support = _blurred(labelled, blur_std)
    known = (support > 0).to(fractions.dtype)
    blurred = _blurred(numbers * labelled, blur_std) / torch.where(
        support > 0, support, torch.ones_like(support)
    )
    return _laplacian(blurred, known).abs() * support


def region_target(fractions: Tensor, background_class: int | None = None, *, blur_std: float = 1.0) -> Tensor:
    """How much of each cell of the deformation map is labelled as something other than background.

    Args:
        fractions: (B, C, H, W), as for ``edge_target``.
        background_class: The class that does not count; None counts every labelled pixel.
        blur_std: Standard deviation of the Gaussian, in map cells; 0 leaves it out.

    Returns:
        (B, 1, H, W) in [0, 1].

    Raises:
        ShapeError: Not a floating-point (B, C, H, W), a negative ``blur_std``, or no such class.
    """
    _require_fractions(fractions, blur_std)
    classes = fractions.shape[1]
    if background_class is not None and not 0 <= background_class < classes:
        raise ShapeError(
            f"background class {background_class}: the fractions have classes 0 to {classes - 1}."
        )
    counted = [index for index in range(classes) if index != background_class]
    area = _at_least_float32(fractions[:, counted]).sum(1, keepdim=True)
    return _blurred(area, blur_std).clamp(0, 1)


def target_map(edges: Tensor, *, floor: float = 0.03, scale: EdgeScale = "mean") -> Tensor:
    """Turn the strength of edges (or of regions) into a target deformation map.

    Args:
        edges: (B, 1, H, W), non-negative.
        floor: Added everywhere, as a fraction of the largest value of the image: it keeps some samples away
            from edges.
        scale: "mean": every image has mean 1. "paper": the edges as they are, with the floor on top.

    Returns:
        (B, 1, H, W), positive if ``floor`` is. With mean 1 an image with no edge, or the same value everywhere, gives
        all ones: the uniform map.

    Raises:
        ShapeError: Not a floating-point (B, 1, H, W), or a negative floor.
    """
    if edges.dim() != 4 or edges.shape[1] != 1 or not edges.is_floating_point():
        raise ShapeError(
            f"edges of shape {tuple(edges.shape)}, {edges.dtype}: needed floating-point (B, 1, H, W)."
        )
    if floor < 0:
        raise ShapeError(f"floor {floor}: needed 0 or more.")
    edges = _at_least_float32(edges)
    largest, least = edges.amax((2, 3), keepdim=True), edges.amin((2, 3), keepdim=True)
    if scale == "paper":
        return edges + floor * largest
    # Scaled by the maximum first: no mean of the result can underflow.
    scaled = edges / torch.where(largest > 0, largest, torch.ones_like(largest)) + floor
    mean = scaled.mean((2, 3), keepdim=True)
    flat = largest <= least
    return torch.where(flat, torch.ones_like(scaled), scaled / torch.where(flat, torch.ones_like(mean), mean))


def wanted_map(
    fractions: Tensor,
    kind: TargetKind,
    *,
    background: int | None,
    blur_std: float,
    floor: float,
    scale: EdgeScale,
) -> Tensor:
    """The target deformation map of labels.

    Args:
        fractions: As for ``edge_target``.
        kind: Dense at edges, in regions of other classes than the background, at the mean of both, or at edges of
            class numbers.
        background: Index of the background class, or None.
        blur_std: As for ``edge_target``.
        floor: As for ``target_map``.
        scale: As for ``target_map``.

    Returns:
        (B, 1, H, W).
    """
    maps = []
    for each in ("edge", "region") if kind == "both" else (kind,):
        if each == "edge":
            strength = edge_target(fractions, blur_std=blur_std)
        elif each == "class_numbers":
            strength = class_number_target(fractions, blur_std=blur_std)
        else:
            strength = region_target(fractions, background, blur_std=blur_std)
        maps.append(target_map(strength, floor=floor, scale=scale))
    return torch.stack(maps).mean(0)


def _require_fractions(fractions: Tensor, blur_std: float) -> None:
    if fractions.dim() != 4 or fractions.shape[1] < 1 or not fractions.is_floating_point():
        raise ShapeError(
            f"class fractions of shape {tuple(fractions.shape)}, {fractions.dtype}: "
            "needed floating-point (B, C, H, W)."
        )
    if not 0 <= blur_std < math.inf:
        raise ShapeError(f"blur_std {blur_std}: needed a number of map cells, 0 or more.")


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _blurred(values: Tensor, std: float) -> Tensor:
    """Gaussian blur of (B, C, H, W), truncated at 3 standard deviations, borders replicated.

    It is written as sums of shifted images, not as a convolution: every channel then goes through the same
    roundings, so that a class that equals the labelled share is divided by itself and gives 1, not nearly 1.
    """
    radius = math.ceil(3 * std)
    if radius == 0:
        return values
    weights = [math.exp(-0.5 * (offset / std) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(weights)
    for axis, padding in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        length = values.shape[axis]
        padded = F.pad(values, padding, mode="replicate")
        blurred = torch.zeros_like(values)
        for offset, weight in enumerate(weights):
            blurred = blurred + padded.narrow(axis, offset, length) * (weight / total)
        values = blurred
    return values


def _laplacian(values: Tensor, known: Tensor) -> Tensor:
    """Sum of the differences to those of the 8 neighbours that are known; 0 where the cell itself is not.

    Args:
        values: (B, C, H, W).
        known: (B, 1, H, W), 1 or 0.
    """
    height, width = values.shape[-2:]
    around, around_known = (F.pad(x, (1, 1, 1, 1), mode="replicate") for x in (values, known))
    total = torch.zeros_like(values)
    for dy, dx in product(range(3), range(3)):
        neighbour = around[..., dy : dy + height, dx : dx + width]
        total = total + around_known[..., dy : dy + height, dx : dx + width] * (values - neighbour)
    return total * known
