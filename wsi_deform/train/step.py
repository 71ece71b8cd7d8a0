"""One training step: equation 4 for a batch of fields."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_deform.config import Config
from wsi_deform.data.augment import GridChange, random_change
from wsi_deform.data.fields import FieldBatch
from wsi_deform.errors import TrainingError
from wsi_deform.model import Model
from wsi_deform.segment import Sampled, points_of, sample_fields
from wsi_deform.train.losses import edge_loss, focal_loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """The terms of equation 4 for one batch; scalars."""

    total: Tensor
    segmentation: Tensor
    edge: Tensor


def batch_losses(model: Model, batch: FieldBatch, change: GridChange) -> Losses:
    """Forward pass and losses of a batch.

    Args:
        model: In training mode.
        batch: Fields with their low-res views.
        change: Augmentation by sampling.

    Returns:
        The losses, differentiable.

    Raises:
        TrainingError: The loss is not finite; the message names the slides.

    Source:
        Jin et al., ICLR 2022, equation 4.
    """
    config = model.config
    size = batch.items[0].size
    views = change.of_view(batch.views).to(model.device)
    learns = model.deformation is not None and config.loss.edge_weight > 0
    targets = None
    if learns or model.needs_labels:
        targets = model.target_of(change.of_view(batch.fractions).to(model.device))
    sampled = sample_fields(
        model,
        [item.slide for item in batch.items],
        [item.field for item in batch.items],
        views,
        size=size,
        targets=targets if model.needs_labels else None,
        place=change,
        cut_gradient=not config.loss.segmentation_gradient,
        # Training slides come from the tile cache; a task per batch would cost more than it saves.
        scheduler="loop",
    )
    scores = model.scores(sampled.images)
    segmentation = focal_loss(
        scores,
        labels_of(batch, sampled.grid).to(model.device),
        gamma=config.loss.focal_gamma,
        sample_weights=_sample_weights(config, sampled),
    )
    edge = torch.zeros((), device=model.device)
    if learns and targets is not None:
        edge = edge_loss(sampled.density, targets)
    total = segmentation + config.loss.edge_weight * edge
    if not bool(torch.isfinite(total)):
        names = ", ".join(sorted({item.slide.slide_id for item in batch.items}))
        found = [float(term.detach()) for term in (total, segmentation, edge)]
        raise TrainingError(
            f"loss is {found[0]} (segmentation {found[1]}, edge {found[2]}) on slides {names}. "
            "Needed a finite number. Look at these slides, or lower optimiser.learning_rate."
        )
    return Losses(total=total, segmentation=segmentation, edge=edge)


def training_step(
    model: Model, optimiser: torch.optim.Optimizer, batch: FieldBatch, *, epoch: int, step: int
) -> dict[str, float]:
    """One step; returns its losses by their names in the log."""
    config = model.config
    torch.manual_seed(hash_of(config.seed, epoch, step))
    losses = batch_losses(model, batch, change_of_step(config, batch, epoch=epoch, step=step))
    optimiser.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    if config.optimiser.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.clip_norm)
    optimiser.step()
    return {
        "loss": float(losses.total.detach()),
        "segmentation_loss": float(losses.segmentation.detach()),
        "edge_loss": float(losses.edge.detach()),
    }


def labels_of(batch: FieldBatch, grid: Tensor) -> Tensor:
    """Classes at the sampling points, (B, h, w) uint8: nearest at level 0, never interpolated."""
    return torch.stack(
        [
            torch.from_numpy(item.labels.at_points(points_of(item.field, field_grid))).view(grid.shape[1:3])
            for item, field_grid in zip(batch.items, grid, strict=True)
        ]
    )


def change_of_step(config: Config, batch: FieldBatch, *, epoch: int, step: int) -> GridChange:
    """The augmentation of one step; the same for the same seed, epoch and step, whatever came before."""
    generator = torch.Generator().manual_seed(hash_of(config.seed, epoch, step))
    settings = config.augmentation
    return random_change(
        len(batch.items),
        batch.items[0].size,
        flip_x=settings.flip_x,
        flip_y=settings.flip_y,
        shift_cells=settings.shift_cells,
        warp_cells=settings.warp_cells,
        generator=generator,
    )


def hash_of(seed: int, epoch: int, step: int) -> int:
    """A seed for one step of one epoch of one run, 0 to 2^63 - 1."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + step
    return (mixed * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 63)


def _sample_weights(config: Config, sampled: Sampled) -> Tensor | None:
    """Weight of each sample in the segmentation loss, mean 1 per field; None when all count the same."""
    if config.loss.weighting == "none":
        return None
    area = sampled.areas / sampled.areas.mean(dim=(1, 2), keepdim=True)
    area = area.clamp(min=0)
    return area if config.loss.weighting == "area" else (1 + area) / 2
