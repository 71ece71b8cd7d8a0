"""One training step: loss, gradients and optimiser, in one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsi_deform.data.fields import FieldBatch
from wsi_deform.errors import TrainingError
from wsi_deform.model import Model
from wsi_deform.train.ranks import Ranks, distributed, synchronise_batch_norm, without_idle_parameters
from wsi_deform.train.step_loss import StepLoss, hash_of, names_of_all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learner:
    """Both networks with everything that a step changes or goes through.

    Attributes:
        model: Both networks.
        loss: Their loss; with several processes inside ``DistributedDataParallel``.
        optimiser: Of both networks.
        scaler: Keeps float16 gradients from vanishing; does nothing at other precisions.
        ranks: The processes.
    """

    model: Model
    loss: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ranks: Ranks

    def scale(self) -> Tensor:
        """The scaler's state, (2,) float64: its scale, and the steps since it changed."""
        state = self.scaler.state_dict()  # empty where it is not enabled
        return torch.tensor([self.scaler.get_scale(), state.get("_growth_tracker", 0)], dtype=torch.float64)

    def restore_scale(self, state: Tensor) -> None:
        """Go on with a state of ``scale``, (2,)."""
        if self.scaler.is_enabled():
            scale, steps = state.tolist()
            self.scaler.load_state_dict(
                self.scaler.state_dict() | {"scale": scale, "_growth_tracker": int(steps)}
            )


def learner_of(
    model: Model,
    optimiser: torch.optim.Optimizer,
    *,
    ranks: Ranks | None = None,
    class_weights: Tensor | None = None,
) -> Learner:
    """Make a model ready to be trained as its configuration says.

    Args:
        model: On its device, with its weights; changed in place (compilation, batch normalisation).
        optimiser: Of ``schedule.optimiser_of(model)``.
        ranks: The processes; None is this one alone.
        class_weights: (C,) weights of the classes in the segmentation loss, or None.
    """
    ranks = ranks or Ranks(device=model.device)
    settings, loss = model.config.training, model.config.loss
    if ranks.world > 1:
        synchronise_batch_norm(model, ranks)
        shape = (1, 4 if model.sees_areas else 3, *model.config.sampling.budget)
        if not model.has_blocks:  # of these every parameter is used in every step
            without_idle_parameters(model.segmentation, torch.zeros(shape, device=model.device))
        if model.deformation is not None and not (loss.segmentation_gradient or loss.edge_weight > 0):
            model.deformation.requires_grad_(False)
    if settings.compile:
        # In place: the names of parameters stay as they are.
        model.segmentation.compile()
    return Learner(
        model=model,
        loss=distributed(StepLoss(model, ranks, class_weights), ranks),
        optimiser=optimiser,
        scaler=torch.amp.GradScaler(model.device.type, enabled=settings.precision == "float16"),
        ranks=ranks,
    )


def training_step(
    learner: Learner, batches: Sequence[FieldBatch], *, epoch: int, step: int, edge_weight: float
) -> dict[str, float]:
    """One step of the optimiser.

    Args:
        learner: Of ``learner_of``.
        batches: What this process does of the step, of ``data.batches.load``.
        epoch: The epoch under way, from 0.
        step: The step of it, from 0.
        edge_weight: gamma of equation 4 in this step, of ``schedule.edge_weight``.

    Returns:
        What ``log.epoch_row`` sums up over an epoch, of all processes together; seconds are this process's.

    Raises:
        TrainingError: The loss or its gradient is not finite.
    """
    model, optimiser, scaler = learner.model, learner.optimiser, learner.scaler
    clip_norm = model.config.optimiser.clip_norm
    torch.manual_seed(hash_of(model.config.seed, epoch, step, learner.ranks.rank))
    started = time.monotonic()
    loss, numbers = learner.loss(batches, epoch=epoch, step=step, edge_weight=edge_weight)
    forward = time.monotonic()
    optimiser.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if clip_norm is None else clip_norm)
    if not scaler.is_enabled():  # a scaler leaves out such a step, and tries a smaller scale
        _require_finite_gradient(norm, numbers, batches, learner.ranks)
    scaler.step(optimiser)
    scaler.update()
    if model.device.type == "cuda":
        # Else the next step's reading would be charged for what the device still does of this one.
        torch.cuda.synchronize(model.device)
    return {
        **numbers,
        "forward_seconds": forward - started - numbers["read_seconds"],
        "backward_seconds": time.monotonic() - forward,
    }


def _require_finite_gradient(
    norm: Tensor, numbers: Mapping[str, float], batches: Sequence[FieldBatch], ranks: Ranks
) -> None:
    """Stop every process when the gradient of a step is not a number, before it reaches the weights."""
    # All processes hold the same mean of gradients, so that all of them come here together.
    if torch.isfinite(norm):
        return
    own = [item.slide.slide_id for batch in batches for item in batch.items if batch.counted]
    raise TrainingError(
        f"gradient is {float(norm)}, of a loss of {numbers['loss']}, on slides {names_of_all(ranks, own)}. Needed a "
        "finite number. Look at these slides, or lower optimiser.learning_rate and optimiser.deformation_learning_rate."
    )
