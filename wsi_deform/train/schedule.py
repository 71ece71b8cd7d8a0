"""The optimiser, and what changes over a run: learning rates."""

from __future__ import annotations

import math
from typing import Any

import torch

from wsi_deform.config import Config
from wsi_deform.model import Model


def optimiser_of(model: Model) -> torch.optim.Optimizer:
    """Adam with a learning rate for each network; ``base`` remembers it for the schedule."""
    settings = model.config.optimiser
    groups: list[dict[str, Any]] = [
        {"params": model.segmentation.parameters(), "base": settings.learning_rate}
    ]
    if model.deformation is not None:
        groups.append({"params": model.deformation.parameters(), "base": settings.deformation_learning_rate})
    return torch.optim.Adam(
        groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, config: Config, epoch: int, step: int, steps: int
) -> float:
    """Set the rates of one step from the schedule; returns the segmentation network's."""
    settings = config.optimiser
    factor = 1.0
    if settings.decay == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / config.training.epochs))
    elif settings.decay == "step":
        factor = 0.1 ** (epoch // settings.step_epochs)
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factor
    return float(optimiser.param_groups[0]["lr"])
