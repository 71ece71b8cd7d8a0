"""The optimiser, and what changes over a run: learning rates and the edge loss's weight."""

from __future__ import annotations

import math
from typing import Any

import torch

from wsi_deform.config_sections import Config
from wsi_deform.model import Model

RATES = ("learning_rate", "deformation_learning_rate")
"""The learning rates by their names in the log, in the order of the optimiser's groups."""


def optimiser_of(model: Model) -> torch.optim.Optimizer:
    """Adam with a learning rate for each network; ``base`` remembers it for the schedule.

    A resizer learns as the segmentation network does; a network of positions is not trained with them.
    """
    settings = model.config.optimiser
    segmentation = [*model.segmentation.parameters()]
    if model.resizer is not None:
        segmentation += model.resizer.parameters()
    groups: list[dict[str, Any]] = [{"params": segmentation, "base": settings.learning_rate}]
    if model.deformation is not None:
        groups.append({"params": model.deformation.parameters(), "base": settings.deformation_learning_rate})
    return torch.optim.Adam(
        groups,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        # One pass over each tensor: 3 to 4 times as fast on a CPU as the plain loop, which small networks feel.
        fused=True,
    )


def set_learning_rates(
    optimiser: torch.optim.Optimizer, config: Config, epoch: int, step: int, steps: int
) -> dict[str, float]:
    """Set the rates of one step from the schedule.

    Args:
        optimiser: Of ``optimiser_of``.
        config: The configuration.
        epoch: The epoch under way, from 0.
        step: The step of it, from 0.
        steps: Steps of an epoch.

    Returns:
        The rates by their names in the log; without a deformation network there is one.

    Convention:
        Warm-up multiplies the decay, which counts from the start of the run with or without it. The first step
        of a warm-up has the first part of the rate, not 0: it is a step like the others. A deformation network
        with a warm-up of its own follows the slower of the two.
    """
    settings = config.optimiser
    decay = 1.0
    if settings.decay == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / config.training.epochs))
    elif settings.decay == "step":
        decay = 0.1 ** (epoch // settings.step_epochs)
    done = epoch + (step + 1) / steps
    everything = warmup_factor(done, settings.warmup_epochs)
    deformation = min(everything, warmup_factor(done, settings.deformation_warmup_epochs))
    for group, warmup in zip(optimiser.param_groups, (everything, deformation), strict=False):
        group["lr"] = group["base"] * decay * warmup
    return {name: float(group["lr"]) for name, group in zip(RATES, optimiser.param_groups, strict=False)}


def warmup_factor(done: float, warmup_epochs: float) -> float:
    """How far a linear rise over ``warmup_epochs`` epochs is after ``done`` epochs, 0 to 1; none is 1."""
    return 1.0 if done >= warmup_epochs else done / warmup_epochs


def more_epochs_text(config: Config, *, done: int) -> str:
    """What is said where a finished run goes on.

    Args:
        config: Of the longer run.
        done: Epochs that are done.

    Convention:
        The next epochs have the rates, and the edge loss's weight, that they have in a run of so many epochs from the
        start. After a cosine, which has ended near 0, the rates rise again; the run is not the one that it would have
        been with so many epochs from the start, whose first epochs had higher rates.
    """
    epochs = config.training.epochs
    text = f"goes on after its {done} epochs to {epochs}"
    if config.optimiser.decay == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * done / epochs))
        text += (
            f": learning rates are those of a run of {epochs} epochs from here on, {factor:.2g} of the start's, and "
            "fall to 0 again"
        )
    return text


def edge_weight(config: Config, epoch: int, step: int, steps: int) -> float:
    """Weight of the edge loss in one step: gamma of equation 4, times the fall of ``loss.edge_decay``.

    Args:
        config: The configuration.
        epoch: The epoch under way, from 0.
        step: The step of it, from 0.
        steps: Steps of an epoch.

    Returns:
        ``loss.edge_weight`` in the first step; with a decay it would be 0 in the one after the last.
    """
    progress = (epoch + step / steps) / config.training.epochs
    factor = {
        "none": 1.0,
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[config.loss.edge_decay]
    return config.loss.edge_weight * factor
