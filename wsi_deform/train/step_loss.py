"""Equation 4 of a training step: for fields of every shape and in every process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.config_sections import Config
from wsi_deform.data.augment import GridChange, random_change
from wsi_deform.data.fields import FieldBatch
from wsi_deform.errors import TrainingError
from wsi_deform.looks import Looks, label_looks, look_at_fields, score_losses
from wsi_deform.model import Model
from wsi_deform.networks.losses import NamedLoss
from wsi_deform.sampled_fields import Sampled, points_of, sample_fields
from wsi_deform.train.losses import edge_losses, focal_sums, named_loss_of
from wsi_deform.train.ranks import Ranks

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TERMS = ("segmentation", "weight", "edge", "fields", "samples", "labelled")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldSums:
    """What fields of one shape add to the terms of equation 4; both means are taken over the whole step later.

    Attributes:
        segmentation: (B,) losses summed over the labelled samples of each field, weighted; of named losses that of
            the whole field.
        weight: (B,) sums of those weights; of named losses 1 where the field has a label, else 0.
        edge: (B,) edge loss of each field.
        samples: Number of samples.
        labelled: Number of them that lie on labelled pixels.
        read_seconds: Time that reading tiles and labels took.
    """

    segmentation: Tensor
    weight: Tensor
    edge: Tensor
    samples: int
    labelled: int
    read_seconds: float


class StepLoss(nn.Module):
    """Equation 4 for all fields of a step; what ``DistributedDataParallel`` wraps.

    Args:
        model: Both networks.
        ranks: The processes.
        class_weights: (C,), non-negative; None when all classes count the same.

    Source:
        Jin et al., ICLR 2022, equation 4.
    """

    def __init__(self, model: Model, ranks: Ranks, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.ranks = ranks
        # Beside the networks' state, not in it: a stored model does not know how it was trained.
        self.class_weights = None if class_weights is None else class_weights.to(model.device)
        self.named_loss = named_loss_of(model.config, model.classes.count, class_weights, model.device)

    def forward(
        self, batches: Sequence[FieldBatch], *, epoch: int, step: int, edge_weight: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Forward pass and loss.

        Args:
            batches: What this process does of the step, one ``FieldBatch`` per shape; every process has as many.
            epoch: The epoch under way, from 0.
            step: The step of it, from 0.
            edge_weight: gamma of equation 4 in this step, of ``schedule.edge_weight``.

        Returns:
            What this process goes back from, a scalar, and the numbers of the whole step for the log.

        Raises:
            TrainingError: The loss is not finite; the message names the slides.

        Convention:
            The segmentation loss is the weighted mean over all labelled samples of the step (of named losses the mean
            over the fields that have labels), the edge loss the mean over its fields, whatever their shapes and
            processes. Each process goes back from its own part of the sum times the number of processes, because
            ``DistributedDataParallel`` takes the mean of gradients.
        """
        sums = []
        for batch in batches:
            change = change_of_step(self.model.config, batch, epoch=epoch, step=step)
            with self.ranks.counting(batch.counted):
                found = field_sums(
                    self.model,
                    batch,
                    change,
                    class_weights=self.class_weights,
                    named_loss=self.named_loss,
                    seed=hash_of(self.model.config.seed, epoch, step),
                )
                sums.append(found)
        local = [_terms(batch, each) for batch, each in zip(batches, sums, strict=True)]
        segmentation, edge = sum(term["segmentation"] for term in local), sum(term["edge"] for term in local)
        own = torch.stack(
            [torch.as_tensor(sum(t[name] for t in local)).detach().cpu().double() for name in TERMS]
        )
        whole = dict(zip(TERMS, self.ranks.sum(own).tolist(), strict=True))
        weight, fields = whole["weight"] or 1.0, whole["fields"]
        numbers = {
            "loss": whole["segmentation"] / weight + edge_weight * whole["edge"] / fields,
            "segmentation_loss": whole["segmentation"] / weight,
            "edge_loss": whole["edge"] / fields,
            "samples": whole["samples"],
            "labelled_share": whole["labelled"] / whole["samples"],
            "read_seconds": sum(each.read_seconds for each in sums),
        }
        self._require_finite(numbers, batches, sums)
        return self.ranks.world * (segmentation / weight + edge_weight * edge / fields), numbers

    def _require_finite(
        self, numbers: Mapping[str, float], batches: Sequence[FieldBatch], sums: Sequence[FieldSums]
    ) -> None:
        """Stop every process when the loss of the step is not a number, and say where it came from."""
        # NaN or infinite in one process is so in the sum, so that all of them come here together.
        if torch.isfinite(torch.tensor(numbers["loss"])):
            return
        own = [
            item.slide.slide_id
            for batch, each in zip(batches, sums, strict=True)
            for item, term in zip(batch.items, (each.segmentation + each.edge).tolist(), strict=True)
            if batch.counted and not -float("inf") < term < float("inf")
        ]
        raise TrainingError(
            f"loss is {numbers['loss']} (segmentation {numbers['segmentation_loss']}, edge {numbers['edge_loss']}) "
            f"on slides {names_of_all(self.ranks, own)}. Needed a finite number. Look at these slides, lower "
            "optimiser.learning_rate, or set training.precision to float32."
        )


def names_of_all(ranks: Ranks, own: list[str]) -> str:
    """Names of slides of all processes, as one line."""
    return ", ".join(sorted({slide_id for found in ranks.gather(own) for slide_id in found}))


def field_sums(
    model: Model,
    batch: FieldBatch,
    change: GridChange,
    *,
    class_weights: Tensor | None = None,
    named_loss: NamedLoss | None = None,
    seed: int = 0,
) -> FieldSums:
    """Forward pass of fields of one shape, up to the sums that their losses are made of.

    Args:
        model: In training mode.
        batch: Fields with their low-res views.
        change: Augmentation.
        class_weights: (C,), or None.
        named_loss: Of ``named_loss_of``, which has the class weights in it; None is the focal loss.
        seed: Of the step, for what is drawn where blocks are chosen.

    Returns:
        The sums, differentiable.
    """
    config = model.config
    views = change.transform_view(batch.views).to(model.device)
    learns = (model.deformation is not None or model.has_scorers) and config.loss.edge_weight > 0
    targets = None
    if learns or model.needs_labels:
        targets = model.target_of(change.transform_fractions(batch.fractions).to(model.device))
    sampled = _seen(model, batch, change, views, targets, seed)
    started = time.monotonic()
    labels = labels_of(batch, change(sampled.grid) if isinstance(sampled, Looks) else sampled.grid)
    read_seconds = sampled.read_seconds + time.monotonic() - started
    precision = PRECISIONS[config.training.precision]
    # Only the segmentation network: a softmax over all cells of a map underflows in half precision, and so do grids.
    with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
        if isinstance(sampled, Looks):
            scores = label_looks(model, sampled)
        else:
            images = change.transform_images(sampled.images)
            scores = model.scores(model.segmentation_input(images, sampled.areas))
    on_device = labels.to(model.device)
    if named_loss is None:
        segmentation, weight = focal_sums(
            scores,
            on_device,
            gamma=config.loss.focal_gamma,
            class_weights=class_weights,
            sample_weights=None if isinstance(sampled, Looks) else _sample_weights(config, sampled),
        )
    else:
        segmentation, weight = named_loss.sums(scores, on_device, UNLABELLED)
    edge = torch.zeros(len(batch.items), device=model.device)
    if isinstance(sampled, Looks):
        if learns and targets is not None:
            edge = score_losses(sampled, targets, class_weights)
    elif learns and targets is not None and sampled.density is not None:
        edge = edge_losses(sampled.density, targets, scale=config.loss.edge_scale)
    return FieldSums(
        segmentation=segmentation,
        weight=weight,
        edge=edge,
        samples=labels.numel(),
        labelled=int((labels != UNLABELLED).sum()),
        read_seconds=read_seconds,
    )


def _seen(
    model: Model,
    batch: FieldBatch,
    change: GridChange,
    views: Tensor,
    targets: Tensor | None,
    seed: int,
) -> Sampled | Looks:
    """What the networks are shown of a batch: sampled images, or looks."""
    slides, fields = [item.slide for item in batch.items], [item.field for item in batch.items]
    item = batch.items[0]
    size = change.size_of(item.size)
    # Training slides come from the tile cache; a task per batch would cost more than it saves.
    if model.has_blocks:
        seeds = [seed + place for place in batch.places]
        return look_at_fields(
            model,
            slides,
            fields,
            views,
            size=size,
            fractions=targets,
            change=change,
            seeds=seeds,
            scheduler="loop",
        )
    return sample_fields(
        model,
        slides,
        fields,
        views,
        size=size,
        read_size=None if item.read_size is None else change.size_of(item.read_size),
        targets=targets if model.needs_labels else None,
        place=change,
        cut_gradient=not model.config.loss.segmentation_gradient,
        scheduler="loop",
    )


def labels_of(batch: FieldBatch, grid: Tensor) -> Tensor:
    """Classes at the sampling points, (B, h, w) uint8: nearest at level 0, never interpolated.

    Points that a rotation puts outside their field are unlabelled: their pixels are those of its border.
    """
    labels = torch.stack(
        [
            torch.from_numpy(item.labels.at_points(points_of(item.field, field_grid))).view(grid.shape[1:3])
            for item, field_grid in zip(batch.items, grid, strict=True)
        ]
    )
    outside = ((grid < 0) | (grid > 1)).any(dim=-1).cpu()
    return labels.masked_fill(outside, UNLABELLED)


def change_of_step(config: Config, batch: FieldBatch, *, epoch: int, step: int) -> GridChange:
    """The augmentation of one step; the same for the same seed, epoch and step, whatever came before."""
    settings = config.augmentation
    return random_change(
        [item.size for item in batch.items],
        [item.slide.squared(item.field.region.size) for item in batch.items],
        flip_x=settings.flip_x,
        flip_y=settings.flip_y,
        shift_cells=settings.shift_cells,
        warp_cells=settings.warp_cells,
        transpose=settings.transpose,
        rotate_degrees=settings.rotate_degrees,
        stain_jitter=settings.stain_jitter,
        seed=hash_of(config.seed, epoch, step),
        places=batch.places,
    )


def hash_of(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """A seed for one step of one epoch of one run, 0 to 2^63 - 1; by process where that matters."""
    mixed = ((seed * 1_000_003 + epoch) * 1_000_003 + step) + rank * 1_000_000_007
    return (mixed * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 63)


def _terms(batch: FieldBatch, sums: FieldSums) -> dict[str, Any]:
    """What fields of one shape add to each of ``TERMS``; zeros that keep their graph where they do not count."""
    counts = 1.0 if batch.counted else 0.0
    return {
        "segmentation": sums.segmentation.sum() * counts,
        "weight": sums.weight.sum() * counts,
        "edge": sums.edge.sum() * counts,
        "fields": len(batch.items) * counts,
        "samples": sums.samples * counts,
        "labelled": sums.labelled * counts,
    }


def _sample_weights(config: Config, sampled: Sampled) -> Tensor | None:
    """Weight of each sample in the segmentation loss, mean 1 per field; None when all count the same."""
    if config.loss.weighting == "none":
        return None
    area = sampled.areas / sampled.areas.mean(dim=(1, 2), keepdim=True)
    return area if config.loss.weighting == "area" else (1 + area) / 2
