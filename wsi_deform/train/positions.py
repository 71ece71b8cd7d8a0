"""The first phase of edge-based sampling: a network learns the positions that equation 2 has for the training fields.

It sees low-res views and labels alone, no sampled image, so that its epochs are short. Then it is frozen, and the
segmentation network is trained on the images sampled at its positions. It has a checkpoint of its own, beside the
run's, which holds the frozen weights with all others from then on: where that exists this phase is over.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_deform.data.batches import load, shuffled_batches
from wsi_deform.data.fields import FieldBatch, FieldViews
from wsi_deform.deform.lattice import uniform_lattice
from wsi_deform.errors import TrainingError
from wsi_deform.files import write_text
from wsi_deform.geometry import Size
from wsi_deform.model import Model, view_input
from wsi_deform.networks.positions import PositionNetwork
from wsi_deform.train import checkpoint
from wsi_deform.train.checkpoint import load_checkpoint, save_checkpoint, stored_counters
from wsi_deform.train.identity import check_identity
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.step_loss import change_of_step
from wsi_deform.train.watcher import Watcher

NAME = "positions.checkpoint.safetensors"
LOG = "positions.csv"
COLUMNS = ("epoch", "rms_cells", "undeformed_rms_cells", "learning_rate", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstPhase:
    """What the first phase needs of a run that is being started.

    Attributes:
        folder: The run folder.
        identity: What must be the same for the run to go on.
        ranks: The processes; each trains the whole network by itself, on all fields, and process 0 alone writes.
        watcher: Told how it goes, as of any training.
        stop: Asked after every step.
        checkpoint_every_s: Least time between checkpoints, s.
    """

    folder: Path
    identity: Mapping[str, Any]
    ranks: Ranks
    watcher: Watcher
    stop: Callable[[], bool]
    checkpoint_every_s: float


def learn_positions(model: Model, views: FieldViews, phase: FirstPhase) -> bool:
    """Train a model's network of positions, if it has one that is not trained yet, and freeze it.

    Args:
        model: On its device; its other networks are left as they are.
        views: The training fields.
        phase: The run.

    Returns:
        Whether it is done; False when it was asked to stop, and goes on the next time.

    Raises:
        TrainingError: The checkpoint is of another run, or the loss is not finite.

    Convention:
        The loss is the mean squared error of the positions that may move, in cells of the lattice, over the fields of
        a step, against equation 2 solved for the labels of each field *as it is seen*, flipped or turned. Adam follows
        a cosine from ``optimiser.deformation_learning_rate`` to 0 over ``training.auxiliary_epochs``.

    Source:
        Marin et al., ICCV 2019, section 3: squared error to solved positions, trained before segmentation.
    """
    network = model.positions
    if network is None:
        return True
    done = True
    # Once the run has a checkpoint, the weights are in it.
    if not (phase.folder / checkpoint.NAME).is_file():
        check_identity(phase.folder, stored_counters(phase.folder, name=NAME).identity, phase.identity)
        done = _Phase(model, network, views, phase).run()
    network.requires_grad_(False).eval()
    # What is left of the last step would count in the norm that later gradients are clipped by.
    network.zero_grad()
    return done


class _Phase:
    """The loop."""

    def __init__(self, model: Model, network: PositionNetwork, views: FieldViews, phase: FirstPhase) -> None:
        settings = model.config.optimiser
        self.model, self.network, self.views, self.phase = model, network, views, phase
        self.epochs = model.config.training.auxiliary_epochs
        self.optimiser = torch.optim.Adam(
            network.parameters(),
            lr=settings.deformation_learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.weights = {f"positions.{name}": tensor for name, tensor in network.state_dict().items()}
        self.counters = load_checkpoint(phase.folder, None, self.optimiser, extra=self.weights, name=NAME)
        # All have read it before process 0 writes the next one, and all do the same steps.
        found = phase.ranks.gather((self.counters.epoch, self.counters.step))
        if len(set(found)) > 1:
            raise TrainingError(
                f"run {phase.folder}: its processes found {NAME} at different (epoch, step): {found}. Needed one "
                "folder that all of them see. Put --out on a shared file system."
            )
        self.counters.identity = dict(phase.identity)
        self.saved_at = time.monotonic()

    def run(self) -> bool:
        """The epochs that are left; whether none is left."""
        phase, counters = self.phase, self.counters
        if counters.epoch < self.epochs:
            phase.watcher.start(
                epochs=self.epochs,
                steps=len(self._batches(0)),
                fields=len(self.views),
                samples=sum(item.map_size.area for item in self.views.items),
                resumed_at=counters.epoch,
                phase="positions",
            )
        while counters.epoch < self.epochs:
            if not self._epoch():
                self._save()
                return False
            row = self._row()
            counters.rows.append(row)
            counters.epoch, counters.step, counters.sums = row["epoch"], 0, {}
            if counters.epoch == self.epochs or time.monotonic() - self.saved_at >= phase.checkpoint_every_s:
                self._save()
            phase.watcher.epoch({"epoch": row["epoch"], "loss": row["rms_cells"] ** 2})
        return True

    def _epoch(self) -> bool:
        """The steps of an epoch that are left; False when it was asked to stop."""
        phase, counters = self.phase, self.counters
        self.network.requires_grad_(True).train()
        batches = self._batches(counters.epoch)
        since = time.monotonic()
        for shapes in load(self.views, batches[counters.step :], self.model.config.training.workers):
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate(counters.epoch + counters.step / len(batches))
            sums = self._step(shapes)
            sums["seconds"] = time.monotonic() - since
            for name, value in sums.items():
                counters.sums[name] = counters.sums.get(name, 0.0) + value
            counters.step += 1
            loss = sums["error"] / sums["free"]
            phase.watcher.step(epoch=counters.epoch, step=counters.step, loss=loss)
            if phase.ranks.any(phase.stop()):
                return False
            if time.monotonic() - self.saved_at >= phase.checkpoint_every_s:
                self._save()
            since = time.monotonic()
        return True

    def _step(self, shapes: Sequence[FieldBatch]) -> dict[str, float]:
        """One step of the optimiser; squared errors summed over coordinates that may move, and their number."""
        model, counters = self.model, self.counters
        terms, free, undeformed = [], 0, 0.0
        for batch in shapes:
            change = change_of_step(model.config, batch, epoch=counters.epoch, step=counters.step)
            wanted = model.target_of(change.transform_fractions(batch.fractions).to(model.device))
            size = Size(wanted.shape[2], wanted.shape[1])
            view = change.transform_view(batch.views).to(model.device)
            offsets = self.network(view_input(view), size)
            cells = torch.tensor([size.width - 1, size.height - 1], device=offsets.device)
            needed = wanted - uniform_lattice(size).to(wanted)
            terms.append((((offsets - needed) * cells) ** 2).sum())
            undeformed += float(((needed * cells) ** 2).sum())
            free += len(batch.items) * _free(size)
        error: Tensor = torch.stack(terms).sum()
        if not torch.isfinite(error.detach()):
            names = ", ".join(sorted({item.slide.slide_id for batch in shapes for item in batch.items}))
            raise TrainingError(
                f"loss of positions is {float(error)} on slides {names}. Needed a finite number. Look at these slides, "
                "or lower optimiser.deformation_learning_rate."
            )
        self.optimiser.zero_grad()
        (error / max(1, free)).backward()  # type: ignore[no-untyped-call]
        clip_norm = model.config.optimiser.clip_norm
        torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), math.inf if clip_norm is None else clip_norm
        )
        self.optimiser.step()
        return {"error": float(error.detach()), "free": float(max(1, free)), "undeformed": undeformed}

    def _rate(self, epoch: float) -> float:
        rate = self.model.config.optimiser.deformation_learning_rate
        return rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))

    def _batches(self, epoch: int) -> list[list[int]]:
        settings = self.model.config.training
        return shuffled_batches(
            self.views.items,
            settings.batch * self.phase.ranks.world,
            seed=self.model.config.seed,
            epoch=epoch,
            mixed=settings.mixed_shapes,
        )

    def _row(self) -> dict[str, Any]:
        sums = self.counters.sums
        return {
            "epoch": self.counters.epoch + 1,
            "rms_cells": math.sqrt(sums["error"] / sums["free"]),
            "undeformed_rms_cells": math.sqrt(sums["undeformed"] / sums["free"]),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": sums["seconds"],
        }

    def _save(self) -> None:
        """Write what a killed run goes on from, and the log."""
        self.saved_at = time.monotonic()
        if not self.phase.ranks.writes:
            return
        folder, rows = self.phase.folder, self.counters.rows
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / LOG, text.getvalue())
        save_checkpoint(folder, None, self.optimiser, self.counters, extra=self.weights, name=NAME)


def _free(size: Size) -> int:
    """Coordinates of a lattice that may move: x off the left and right, y off the top and bottom frame."""
    return (size.width - 2) * size.height + size.width * (size.height - 2)
