"""The tasks of a batch of fields: view -> plan -> fetch -> label, and the dask graph that they make.

Each is a function of where the fields come from (a slide and a model), which fields, and what the task before it gave.
So whoever runs them gives the same samples: a loop, dask's threads, or workers of a cluster, to which a slide goes as
its path. ``segment.segment_fields`` hands them out; the reverse sampler puts together what they give.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget, view_of, windows_of
from wsi_deform.geometry import Region, Size
from wsi_deform.looks import Looks, label_looks, look_at_fields
from wsi_deform.model import Model
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.sampled_fields import PlannedFields, Sampled, plan_fields, points_of, read_fields
from wsi_deform.slide.slide import Slide

FieldBatch = tuple[FieldBudget, ...]
"""Neighbours whose sampled images have one size: they share a forward pass."""

TaskName = Literal["view", "plan", "fetch", "label"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentedField:
    """The labelled samples of a field.

    Attributes:
        samples: Where they are and what they are; those in what could not be read are unlabelled.
        tiles: Number of tiles read for them.
        blanks: What could not be read of the slide until then, level-0 px, where such tiles are left out.
        pixels: Pixels, of whatever levels, that entered a network for them; None where nobody counted.
    """

    samples: FieldSamples
    tiles: int
    blanks: tuple[Region, ...] = ()
    pixels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldContext:
    """What all fields of a slide have in common.

    Attributes:
        slide: The slide, open.
        model: The model, in evaluation mode.
        labels: The slide's labels, for an oracle.
    """

    slide: Slide
    model: Model
    labels: Labels | None = None

    def opened(self) -> FieldContext:
        """Itself: it is open."""
        return self


class FieldSource(Protocol):
    """Where tasks get slide and model: a ``FieldContext``, or what opens one where the task runs."""

    def opened(self) -> FieldContext:
        """The slide and the model, in this process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """Low-res views (B, 3 or 4, H, W) of a batch, and for an oracle its targets."""

    views: Tensor
    targets: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetched:
    """Sampled images or looks of a batch, and what could not be read of the slide until then, level-0 px."""

    sampled: Sampled | Looks
    blanks: tuple[Region, ...]


@torch.no_grad()
def view_task(source: FieldSource, batch: FieldBatch) -> Views:
    """Look at a batch of fields at low resolution.

    Args:
        source: Slide and model.
        batch: The fields.

    Raises:
        SlideError: A tile cannot be read.
    """
    opened = source.opened()
    model, map_size = opened.model, opened.model.map_size(batch[0].size)
    seen = [
        view_of(
            opened.slide,
            budget.field,
            map_size,
            tissue=model.sees_tissue,
            stain=model.config.networks.stain,
        )
        for budget in batch
    ]
    targets = None
    if model.needs_labels and opened.labels is not None:
        fractions = [
            torch.from_numpy(opened.labels.cell_fractions(budget.field.region, map_size)) for budget in batch
        ]
        targets = model.target_of(torch.stack(fractions).to(model.device))
    return Views(views=torch.stack(seen).to(model.device), targets=targets)


@torch.no_grad()
def plan_task(source: FieldSource, batch: FieldBatch, seen: Views) -> PlannedFields | Views:
    """Decide where a batch is sampled, and which tiles are read.

    What is read of blocks depends on what was read before: their views are all that is known now.

    Args:
        source: Slide and model.
        batch: The fields.
        seen: Of ``view_task``.

    Raises:
        SlideError: The model has lengths in um, and the slide has no mpp.
    """
    opened = source.opened()
    if opened.model.has_blocks:
        return seen
    size, fields = batch[0].size, [budget.field for budget in batch]
    return plan_fields(
        opened.model,
        [opened.slide] * len(batch),
        fields,
        seen.views,
        size=size,
        read_size=opened.model.read_size(size, fields[0].region.size),
        targets=seen.targets,
    )


@torch.no_grad()
def fetch_task(source: FieldSource, batch: FieldBatch, planned: PlannedFields | Views) -> Fetched:
    """Read the tiles of a batch and blend them to its sampled images; or look at its blocks, level by level.

    Args:
        source: Slide and model.
        batch: The fields.
        planned: Of ``plan_task``.

    Raises:
        SlideError: A tile cannot be read.
    """
    opened = source.opened()
    slides = [opened.slide] * len(batch)
    sampled: Sampled | Looks
    if isinstance(planned, Views):
        fields, size = [budget.field for budget in batch], batch[0].size
        sampled = look_at_fields(
            opened.model,
            slides,
            fields,
            planned.views,
            size=size,
            fractions=planned.targets,
            counts=[windows_of(budget, opened.model) for budget in batch],
        )
    else:
        sampled = read_fields(opened.model, slides, planned)
    return Fetched(sampled=sampled, blanks=opened.slide.blank_regions)


@torch.no_grad()
def label_task(source: FieldSource, batch: FieldBatch, fetched: Fetched) -> tuple[SegmentedField, ...]:
    """Score and label the samples of a batch, but for those in what could not be read.

    Args:
        source: Slide and model.
        batch: The fields.
        fetched: Of ``fetch_task``.

    Returns:
        One of each field.
    """
    model, sampled = source.opened().model, fetched.sampled
    probabilities = scores_of(model, sampled).softmax(dim=1)
    # The first of the largest, as argmax says, in a ninth of its time: that looks at pixels one by one.
    labels = probabilities.max(dim=1).indices.to(torch.uint8).cpu()
    # (B, h, w, C) half floats: what linear reverse sampling and probability maps need, two bytes per class.
    soft = probabilities.permute(0, 2, 3, 1).half().cpu().numpy()
    areas = sampled.areas.cpu().numpy()
    found = []
    for number, (budget, grid) in enumerate(zip(batch, sampled.grid, strict=True)):
        field = budget.field
        points, label = points_of(field, grid), labels[number].numpy().ravel()
        for blank in fetched.blanks:
            label[_inside(blank, points)] = UNLABELLED
        samples = FieldSamples(
            kept=field.kept,
            points_px=points,
            labels=label,
            probabilities=soft[number].reshape(-1, soft.shape[-1]),
            lattice=budget.size,
            areas_px=(areas[number].ravel() * field.region.size.area).astype(np.float32),
        )
        found.append(
            SegmentedField(
                samples=samples,
                tiles=sampled.tiles[number],
                blanks=fetched.blanks,
                pixels=sampled.pixels[number] + budget.seen_px,
            )
        )
    return tuple(found)


def scores_of(model: Model, sampled: Sampled | Looks) -> Tensor:
    """Scores of the classes, (B, classes, h, w), of sampled images or of looks."""
    if isinstance(sampled, Looks):
        return label_looks(model, sampled)
    return model.scores(model.segmentation_input(sampled.images, sampled.areas))


TASKS: tuple[tuple[TaskName, Callable[..., Any]], ...] = (
    ("view", view_task),
    ("plan", plan_task),
    ("fetch", fetch_task),
    ("label", label_task),
)


def field_graph(
    source: Any, batch: FieldBatch, *, last: TaskName = "label", fused: bool = False
) -> tuple[dict[str, Any], str]:
    """The dask graph of a batch of fields.

    Args:
        source: A ``FieldSource``, or the key of a task whose result is one.
        batch: The fields.
        last: The task whose result is wanted; what comes after it is not in the graph.
        fused: Whether dask makes one task of them: on a cluster all four then run on one worker, and neither plans nor
            sampled images travel.

    Returns:
        Key -> task, and the key of the last one. Keys are unique.
    """
    name = uuid.uuid4().hex
    graph: dict[str, Any] = {}
    key: str | None = None
    for task, function in TASKS:
        before = () if key is None else (key,)
        key = f"{task}-fields-{name}"
        # A partial: dask looks for keys in what it holds itself, and would walk through every field.
        graph[key] = (partial(_with, function, batch), source, *before)
        if task == last:
            break
    assert key is not None
    if fused:
        from dask.optimization import fuse

        graph, _ = fuse(graph, keys=[key], rename_keys=False)
    return graph, key


def field_batches(budgets: Sequence[FieldBudget], batch: int, model: Model) -> list[FieldBatch]:
    """Neighbours whose sampled images, and those that are read, have one size, up to ``batch`` at a time, in order."""

    def sizes(budget: FieldBudget) -> tuple[Size, Size | None]:
        return budget.size, model.read_size(budget.size, budget.field.region.size)

    batches: list[list[FieldBudget]] = []
    for budget in budgets:
        if batches and len(batches[-1]) < batch and sizes(batches[-1][0]) == sizes(budget):
            batches[-1].append(budget)
        else:
            batches.append([budget])
    return [tuple(each) for each in batches]


def _with(function: Callable[..., Any], batch: FieldBatch, source: FieldSource, *before: Any) -> Any:
    """A task with its fields, its slide and model, and what the task before it gave."""
    return function(source, batch, *before)


def _inside(region: Region, points_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 2) points (x, y) lie in a region of the same frame; (N,)."""
    x, y = points_px.T
    found: NDArray[np.bool_] = (region.x <= x) & (x < region.right) & (region.y <= y) & (y < region.bottom)
    return found
