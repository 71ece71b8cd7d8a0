"""Which cases there are: every kind of file, in turn, the more often the more there is to damage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# Of 40 cases so many are of a kind; every kind of ``seeds.SEEDS`` is among them.
WEIGHTS = {
    "tiff-jpeg": 3, "tiff-deflate": 2, "tiff-jpeg2000": 1, "tiff-strips": 2, "svs": 3, "ome-tiff": 3, "dicom": 3,
    "zarr-2": 1, "zarr-3": 3, "png": 1, "jpeg": 1, "mask-tiff": 1, "mask-png": 1, "manifest": 1, "classes-yaml": 1,
    "classes-json": 1, "config": 1, "model": 1, "checkpoint": 1, "state": 1, "outlines-geojson": 2,
    "outlines-asap": 1, "outlines-imagescope": 1, "outlines-sedeen": 1, "outlines-darwin": 1, "outlines-coco": 1,
    "outlines-dsa": 1,
}  # fmt: skip


class Case(NamedTuple):
    """A case: the same numbers always give the same file."""

    kind: str
    number: int
    seed: int

    def __str__(self) -> str:
        """Kind, number and seed, as the command takes them."""
        return f"{self.kind} {self.number} of seed {self.seed}"


def cases(seed: int) -> Iterator[Case]:
    """Cases without end."""
    number = 0
    while True:
        for kind, weight in WEIGHTS.items():
            for each in range(weight):
                yield Case(kind, number * weight + each, seed)
        number += 1
