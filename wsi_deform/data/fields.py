"""Training fields, with what loaders can read before the deformation network has spoken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wsi_deform.annotation.raster import LabelMask
from wsi_deform.cover import view_of
from wsi_deform.geometry import Size
from wsi_deform.slide.fields import Field
from wsi_deform.slide.slide import Slide

VIEW_CACHE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledField:
    """A field with its labels; pickles as paths.

    Attributes:
        slide: Its slide.
        labels: The slide's label mask.
        field: Where on the slide.
        size: Size of its sampled image, px.
        map_size: Size of its low-res view and deformation map, px.
    """

    slide: Slide
    labels: LabelMask
    field: Field
    size: Size
    map_size: Size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldBatch:
    """What loaders give for a batch of fields; the gather comes later, when it is known where.

    Attributes:
        items: The fields; their sampled images have one size.
        views: (B, 3, H, W) float32 low-res views of ``cover.view_of``; (B, 4, H, W) with tissue.
        fractions: (B, C, H, W) float32 class fractions of the map's cells.
    """

    items: list[LabelledField]
    views: Tensor
    fractions: Tensor


class FieldViews(Dataset[tuple[int, Tensor, Tensor]]):
    """Low-res view and class fractions of each field, read once and kept within a memory limit."""

    def __init__(
        self, items: Sequence[LabelledField], *, tissue: bool = False, cache_bytes: int = VIEW_CACHE_BYTES
    ) -> None:
        self.items = list(items)
        self.tissue = tissue
        self.cache_bytes = cache_bytes
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        """Index, view (3, H, W) and fractions (C, H, W) of one field."""
        if index not in self._kept:
            item = self.items[index]
            view = view_of(item.slide, item.field, item.map_size, tissue=self.tissue)
            fractions = item.labels.cell_fractions(item.field.region, item.map_size)
            self._keep(index, view, fractions)
        view_3hw, fractions_chw = self._kept[index]
        return index, view_3hw, fractions_chw

    def collate(self, read: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[list[int], Tensor, Tensor]:
        """Stack what was read for one batch."""
        indices, views, fractions = zip(*read, strict=True)
        return list(indices), torch.stack(views), torch.stack(fractions)

    def batch(self, loaded: tuple[list[int], Tensor, Tensor]) -> FieldBatch:
        """Put the fields, which never travel between processes, beside what was loaded."""
        indices, views, fractions = loaded
        return FieldBatch(items=[self.items[index] for index in indices], views=views, fractions=fractions)

    def _keep(self, index: int, view: Tensor, fractions: NDArray[np.float32]) -> None:
        entry = (view, torch.from_numpy(fractions))
        self._kept[index] = entry
        self._kept_bytes += sum(tensor.nbytes for tensor in entry)
        while self._kept_bytes > self.cache_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._kept_bytes -= sum(tensor.nbytes for tensor in old)


def shuffled_batches(items: Sequence[LabelledField], batch: int, *, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches: every field once, in an order of its own, each batch of one sampled size.

    Args:
        items: All fields.
        batch: Most fields per batch.
        seed: Seed of the run.
        epoch: Number of the epoch; another epoch has another order.

    Returns:
        Indices of each batch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(items))
    shapes = [(items[index].size, items[index].map_size) for index in order]
    batches = [[int(order[place]) for place in group] for group in _groups(shapes, batch)]
    # Left-overs of rare sizes would otherwise always come last.
    shuffled = np.random.default_rng((seed, epoch, 1)).permutation(len(batches))
    return [batches[place] for place in shuffled]


def _groups(shapes: Sequence[tuple[Size, Size]], batch: int) -> Iterator[list[int]]:
    """Places of equal shapes, up to ``batch`` at a time, in order."""
    waiting: dict[tuple[Size, Size], list[int]] = {}
    for place, shape in enumerate(shapes):
        group = waiting.setdefault(shape, [])
        group.append(place)
        if len(group) == batch:
            yield waiting.pop(shape)
    yield from waiting.values()
