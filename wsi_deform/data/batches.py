"""Which fields a step works on together, and which of them each process takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.data.fields import FieldBatch, FieldViews, LabelledField
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size

# Mixed batches are cut from so many batches' worth of shuffled fields, sorted by shape: longer runs of one
# shape, yet an order of their own in each epoch.
BATCHES_SORTED_TOGETHER = 8

Shape = tuple[Size, Size, Size | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process does of the fields of one shape in one step.

    Attributes:
        indices: The fields, all with sampled images of one size and maps of one size.
        places: The place of each in the batch of all processes together; chance is drawn by it, so that a
            field gets the same change however the batch is split.
        counted: False where there are fewer fields than processes: this process then works on a field of
            another one, which counts nothing, because every process must take part in every exchange.
    """

    indices: tuple[int, ...]
    places: tuple[int, ...]
    counted: bool = True


def shuffled_batches(
    items: Sequence[LabelledField],
    batch: int,
    *,
    seed: int,
    epoch: int,
    mixed: bool = False,
    weights: Sequence[float] | None = None,
) -> list[list[int]]:
    """One epoch's batches, in an order of its own.

    Args:
        items: All fields.
        batch: Most fields per batch, over all processes.
        seed: Seed of the run.
        epoch: Number of the epoch; another epoch has another order.
        mixed: Whether a batch may hold several shapes. All batches are then full but one, and fields of like
            aspect meet. Otherwise each batch has one sampled size and one map size.
        weights: How often each field is drawn, on any scale: as many draws as fields, with replacement. None
            takes every field once.

    Returns:
        Indices of each batch.

    Raises:
        TrainingError: Weights that are not one positive sum of non-negative numbers for the fields.
    """
    rng = np.random.default_rng((seed, epoch))
    if weights is None:
        order = rng.permutation(len(items))
    else:
        order = rng.choice(len(items), size=len(items), p=_shares(weights, len(items)))
    shapes = [items[index].shape for index in order]
    groups = _mixed(shapes, batch, rng) if mixed else _of_one_shape(shapes, batch)
    batches = [[int(order[place]) for place in group] for group in groups]
    # Left-overs of rare sizes would otherwise always come last.
    shuffled = np.random.default_rng((seed, epoch, 1)).permutation(len(batches))
    return [batches[place] for place in shuffled]


def shares_of(
    items: Sequence[LabelledField], batch: Sequence[int], *, rank: int = 0, world: int = 1
) -> list[Share]:
    """The part of a batch that one of several processes works on, shape by shape.

    Args:
        items: All fields.
        batch: Indices of the fields of all processes together.
        rank: Number of this process.
        world: Number of processes.

    Returns:
        One share per shape, in the same order of shapes in every process; no share is empty.
    """
    shapes: dict[Shape, list[int]] = {}
    for place, index in enumerate(batch):
        shapes.setdefault(items[index].shape, []).append(place)
    shares = []
    for places in shapes.values():
        own = places[rank::world]
        taken = own or places[-1:]
        shares.append(
            Share(
                indices=tuple(batch[place] for place in taken),
                places=tuple(taken),
                counted=bool(own),
            )
        )
    return shares


def load(
    views: FieldViews, batches: Sequence[Sequence[int]], workers: int, *, rank: int = 0, world: int = 1
) -> Iterator[list[FieldBatch]]:
    """Batches in the given order, read by spawned workers, which stay with the views, or right here.

    Args:
        views: The fields.
        batches: Indices of each batch, over all processes.
        workers: Loader processes; 0 reads in this one.
        rank: Number of this process.
        world: Number of processes that share each batch.

    Yields:
        What this process does in a step: its fields, one ``FieldBatch`` per shape.
    """
    shares = [shares_of(views.items, batch, rank=rank, world=world) for batch in batches]
    indices = [[index for share in step for index in share.indices] for step in shares]
    for step, read in zip(shares, views.read(indices, workers), strict=True):
        entries = iter(read)
        yield [_field_batch(views, share, entries) for share in step]


def _field_batch(views: FieldViews, share: Share, entries: Iterator[Any]) -> FieldBatch:
    read = [next(entries) for _ in share.indices]
    return views.batch(views.collate(read), places=share.places, counted=share.counted)


def _of_one_shape(shapes: Sequence[Shape], batch: int) -> Iterator[list[int]]:
    """Places of equal shapes, up to ``batch`` at a time, in order."""
    waiting: dict[Shape, list[int]] = {}
    for place, shape in enumerate(shapes):
        group = waiting.setdefault(shape, [])
        group.append(place)
        if len(group) == batch:
            yield waiting.pop(shape)
    yield from waiting.values()


def _mixed(shapes: Sequence[Shape], batch: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Places in batches that are full but for the last, with like shapes side by side."""
    pool = batch * BATCHES_SORTED_TOGETHER
    for start in range(0, len(shapes), pool):
        # The sort is stable: places of one shape stay shuffled. The shift lets other neighbours meet.
        places = sorted(
            range(start, min(start + pool, len(shapes))), key=lambda place: _aspect(shapes[place])
        )
        shift = int(rng.integers(batch))
        places = places[shift:] + places[:shift]
        yield from (places[first : first + batch] for first in range(0, len(places), batch))


def _aspect(shape: Shape) -> tuple[float, int, int]:
    size, map_size, _ = shape
    return size.width / size.height, size.width, map_size.width


def _shares(weights: Iterable[float], count: int) -> NDArray[np.float64]:
    """Weights as shares of 1."""
    shares = np.asarray(list(weights), dtype=np.float64)
    if shares.shape != (count,) or not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
        raise TrainingError(
            f"weights of {len(shares)} fields, sum {shares.sum()}: needed {count} finite numbers, none below 0, "
            "with a positive sum."
        )
    return np.asarray(shares / shares.sum(), dtype=np.float64)
