"""A run under way: what changes from step to step, and what is written of it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_deform.annotation.labels import Labels
from wsi_deform.config_sections import Config
from wsi_deform.data.batches import shuffled_batches
from wsi_deform.data.crops import drawn_fields, moved_fields
from wsi_deform.data.fields import FieldViews, LabelledField
from wsi_deform.model import Model
from wsi_deform.model_card import write_model_card
from wsi_deform.model_file import save_model
from wsi_deform.provenance import provenance
from wsi_deform.slide.slide import Slide
from wsi_deform.train.allocation import allocated_fields, allocates, is_due, sizes_of
from wsi_deform.train.checkpoint import (
    Counters,
    save_checkpoint,
)
from wsi_deform.train.ema import WeightAverage
from wsi_deform.train.identity import ORIGIN
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.step import Learner
from wsi_deform.train.training_fields import views_of

logger = logging.getLogger(__name__)
SCALE, SIZES = "scale", "sizes"


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way.

    Attributes:
        folder: Where its files are.
        config: Its configuration.
        learner: Both networks, where they are trained, and what changes them.
        counters: How far it is; changes from step to step.
        average: Of the weights, where ``optimiser.ema`` asks for one.
        views: The training fields.
        fields: The same, where they lie before they are moved.
        validation: Slides and labels that choose the best model.
        saved_at: Monotonic time of the newest checkpoint, s.
        checkpoint_every_s: Least time between checkpoints, s.
        shown: The validation fields that are drawn; None before the first validation.
        field_weights: How often each training field is drawn; None takes each once an epoch.
        data: How many slides, patients and fields there are, for the model card.
        origin: What was taken of the model whose weights it started from; None where it started anew.
        knows_positions: Whether the first phase, if there is one, is over; False where it was asked to stop.
    """

    folder: Path
    config: Config
    learner: Learner
    counters: Counters
    average: WeightAverage | None
    views: FieldViews
    fields: Sequence[LabelledField]
    validation: list[tuple[Slide, Labels]]
    saved_at: float
    checkpoint_every_s: float
    shown: list[LabelledField] | None = None
    field_weights: Sequence[float] | None = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: dict[str, Any] | None = None
    knows_positions: bool = True

    @property
    def model(self) -> Model:
        """Both networks."""
        return self.learner.model

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Of both networks."""
        return self.learner.optimiser

    @property
    def ranks(self) -> Ranks:
        """The processes."""
        return self.learner.ranks

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether the newest checkpoint is old enough for another one."""
        return time.monotonic() - self.saved_at >= self.checkpoint_every_s

    @property
    def stopped_early(self) -> bool:
        """Whether ``training.patience`` has ended it before its last epoch."""
        patience = self.config.training.patience
        return (
            patience is not None
            and self.counters.waited >= patience
            and self.counters.epoch < self.config.training.epochs
        )

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.stopped_early or self.counters.epoch >= self.config.training.epochs

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """Within, the model has the weights that are validated and stored: their average, where there is one."""
        with nullcontext() if self.average is None else self.average.applied():
            yield

    def allocate(self) -> None:
        """Share the samples of each slide out among its fields by the map as it is now, where it is time."""
        if not is_due(self.config, epoch=self.counters.epoch, step=self.counters.step):
            return
        items = allocated_fields(self.fields, self.model, self.ranks)
        if items != self.fields:
            self.fields = items
            self.views = views_of(items, self.model)

    def move(self) -> None:
        """Move the training fields on their slides for this epoch, where random crops are wanted."""
        share = self.config.augmentation.move
        if share > 0:
            self.views.move(
                moved_fields(self.fields, share, seed=self.config.seed, epoch=self.counters.epoch)
            )

    def batches(self, *, epoch: int) -> list[list[int]]:
        """All batches of an epoch, each of all processes together."""
        settings, seed, weights = self.config.training, self.config.seed, self.field_weights
        items = self.views.items
        drawn = drawn_fields(items, settings.fields_per_slide, seed=seed, epoch=epoch, weights=weights)
        if settings.fields_per_slide is not None:
            # The draw has weighed them.
            weights = None
        batches = shuffled_batches(
            [items[index] for index in drawn],
            settings.batch * self.ranks.world,
            seed=seed,
            epoch=epoch,
            mixed=settings.mixed_shapes,
            weights=weights,
        )
        return [[drawn[place] for place in batch] for batch in batches]

    def save(self, row: dict[str, Any] | None) -> None:
        """Write the model as it is now, and the checkpoint."""
        # The checkpoint last: a run killed in between trains the end again and writes the same model.
        with self.kept_weights():
            self.save_model("last", row)
        self.save_checkpoint()

    def save_model(self, name: str, row: dict[str, Any] | None) -> None:
        """Write the model as it is now, and its card beside it.

        Args:
            name: Of the files, without suffix.
            row: The epoch's line of the log, if it is the end of an epoch.
        """
        path = self.folder / f"{name}.safetensors"
        facts = facts_of(self.config, self.counters, row) | {"data": self.data}
        save_model(self.model, path, facts=facts | ({} if self.origin is None else {ORIGIN: self.origin}))
        write_model_card(path)

    def save_checkpoint(self) -> None:
        """Write what a killed run goes on from."""
        save_checkpoint(
            self.folder,
            self.model,
            self.optimiser,
            self.counters,
            extra=extra_tensors(self.average, self.learner, self.views.items),
        )
        self.saved_at = time.monotonic()


def extra_tensors(
    average: WeightAverage | None, learner: Learner, items: Sequence[LabelledField]
) -> dict[str, Tensor]:
    """State of a run besides weights, optimiser and counters, for its checkpoint.

    Args:
        average: Of the weights, where there is one.
        learner: Says the scale of float16 gradients.
        items: The training fields; their sizes are state where the map decides them.

    Returns:
        ``scale`` (2,); ``sizes`` (fields, 2) where they are state; ``WeightAverage.tensors``.
    """
    sizes = {SIZES: sizes_of(items)} if allocates(learner.model.config) else {}
    return {SCALE: learner.scale()} | sizes | ({} if average is None else average.tensors())


def facts_of(config: Config, counters: Counters, row: dict[str, Any] | None) -> dict[str, Any]:
    """What a stored model says of itself."""
    epoch = counters.epoch if row is None else row["epoch"]
    return {"epoch": epoch, "metrics": row or {}, "provenance": provenance_of(config, None)}


def provenance_of(config: Config, command: Sequence[str] | None) -> dict[str, Any]:
    """Where a run comes from."""
    return provenance(command=command, config=config.model_dump(mode="json"), seed=config.seed)
