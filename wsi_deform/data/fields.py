"""Training fields, with what loaders can read before the deformation network has spoken."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import view_of
from wsi_deform.data.workers import Workers
from wsi_deform.geometry import Size
from wsi_deform.look.fields import Field
from wsi_deform.look.stain import StainChoice
from wsi_deform.slide.slide import Slide

VIEW_CACHE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledField:
    """A field with its labels; pickles as paths.

    Attributes:
        slide: Its slide.
        labels: The slide's labels.
        field: Where on the slide.
        size: Size of its sampled image, px.
        map_size: Size of its low-res view and deformation map, px.
        read_size: Size of the image that a resizer is given of it, px; None without one.
    """

    slide: Slide
    labels: Labels
    field: Field
    size: Size
    map_size: Size
    read_size: Size | None = None

    @property
    def shape(self) -> tuple[Size, Size, Size | None]:
        """What fields that share a batch have in common."""
        return self.size, self.map_size, self.read_size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldBatch:
    """What loaders give for a batch of fields; the gather comes later, when it is known where.

    Attributes:
        items: The fields; their sampled images have one size.
        views: (B, 3, H, W) float32 low-res views of ``cover.view_of``; (B, 4, H, W) with tissue.
        fractions: (B, C, H, W) float32 class fractions of the map's cells.
        places: The place of each field in the whole step, over all shapes and processes.
        counted: False for fields that only keep a process in step with others, see ``batches.Share``.
    """

    items: list[LabelledField]
    views: Tensor
    fractions: Tensor
    places: tuple[int, ...]
    counted: bool = True


class FieldViews(Dataset[tuple[int, Tensor, Tensor]]):
    """Low-res view and class fractions of each field, read once and kept within a memory limit."""

    def __init__(
        self,
        items: Sequence[LabelledField],
        *,
        tissue: bool = False,
        stain: StainChoice = "none",
        cache_bytes: int = VIEW_CACHE_BYTES,
    ) -> None:
        self.items = list(items)
        self.tissue = tissue
        self.stain: StainChoice = stain
        self.cache_bytes = cache_bytes
        self._moved = False
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self._kept_bytes = 0
        self._workers: Workers | None = None

    def move(self, items: Sequence[LabelledField]) -> None:
        """Look elsewhere from now on: at as many fields of the same slides and sizes; what is read is not kept.

        Workers stay: they are told with every field where it lies.
        """
        self.items = list(items)
        self._moved = True
        self._kept.clear()
        self._kept_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what was kept: a spawned worker gets names of files, and reads its own share."""
        return self.__dict__ | {"_kept": OrderedDict(), "_kept_bytes": 0, "_workers": None}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int | tuple[int, Field]) -> tuple[int, Tensor, Tensor]:
        """Index, view (3, H, W) and fractions (C, H, W) of one field, or of another place on its slide."""
        if isinstance(at, tuple):
            index, field = at
            view, fractions = self._read(index, field)
            return index, view, torch.from_numpy(fractions)
        index = at
        if index not in self._kept:
            self._keep(index, *self._read(index, self.items[index].field))
        view_3hw, fractions_chw = self._kept[index]
        return index, view_3hw, fractions_chw

    def read(
        self, batches: Sequence[Sequence[int]], workers: int
    ) -> Iterator[list[tuple[int, Tensor, Tensor]]]:
        """Read batches of fields.

        Args:
            batches: Indices of each batch.
            workers: Spawned processes that read ahead; they stay for the next call. 0 reads here.

        Yields:
            What ``self[index]`` gives for each field of a batch, (index, view (3 or 4, H, W), fractions (C, H, W)), in
            order, the same for any number of workers.

        Raises:
            WsiDeformError: A slide or mask cannot be read.
            TrainingError: A worker was killed.
        """
        places: list[list[int | tuple[int, Field]]] = [
            [(index, self.items[index].field) if self._moved else index for index in batch]
            for batch in batches
        ]
        if workers == 0:
            for batch in places:
                yield [self[at] for at in batch]
            return
        if self._workers is None or self._workers.count != workers:
            # A copy, which holds no workers: they end when this object does.
            self._workers = Workers(copy.copy(self), workers)
        yield from self._workers.read(places)

    def collate(self, read: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[list[int], Tensor, Tensor]:
        """Stack what was read for one batch, (3 or 4, H, W) and (C, H, W), to (B, 3 or 4, H, W) and (B, C, H, W)."""
        indices, views, fractions = zip(*read, strict=True)
        return list(indices), torch.stack(views), torch.stack(fractions)

    def batch(
        self,
        loaded: tuple[list[int], Tensor, Tensor],
        *,
        places: tuple[int, ...] | None = None,
        counted: bool = True,
    ) -> FieldBatch:
        """Put the fields, which never travel between processes, beside what was loaded.

        Args:
            loaded: Indices, views (B, 3 or 4, H, W) and fractions (B, C, H, W) of ``collate``.
            places: See ``FieldBatch``; None is 0 to B - 1.
            counted: See ``FieldBatch``.
        """
        indices, views, fractions = loaded
        return FieldBatch(
            items=[self.items[index] for index in indices],
            views=views,
            fractions=fractions,
            places=tuple(range(len(indices))) if places is None else places,
            counted=counted,
        )

    def _read(self, index: int, field: Field) -> tuple[Tensor, NDArray[np.float32]]:
        item = self.items[index]
        view = view_of(item.slide, field, item.map_size, tissue=self.tissue, stain=self.stain)
        return view, item.labels.cell_fractions(field.region, item.map_size)

    def _keep(self, index: int, view: Tensor, fractions: NDArray[np.float32]) -> None:
        entry = (view, torch.from_numpy(fractions))
        self._kept[index] = entry
        self._kept_bytes += sum(tensor.nbytes for tensor in entry)
        while self._kept_bytes > self.cache_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._kept_bytes -= sum(tensor.nbytes for tensor in old)
