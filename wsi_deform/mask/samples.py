"""The samples that a mask was made from, on disk: positions, labels and fields in one ``.npz``.

Positions are whole numbers of 1/256 px, as exact as the reverse sampler takes them: a mask made from the file
is the mask that was made from memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform.compiled import UNITS_PER_PX
from wsi_deform.deform.reverse import FieldSamples, ReverseSampler
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.provenance import write_aside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideSamples:
    """The labelled samples of a slide.

    Attributes:
        size: Level-0 size of the slide, px.
        fields: The samples of each field; none on a slide without tissue.
        outside_label: Class of everything that no field keeps.
    """

    size: Size
    fields: tuple[FieldSamples, ...]
    outside_label: int

    @property
    def points_px(self) -> NDArray[np.float64]:
        """(N, 2) float64 (x, y) of all samples, slide edge frame, level-0 px, field by field."""
        return np.concatenate([np.empty((0, 2)), *(field.points_px for field in self.fields)])

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(N,) uint8 labels of all samples, field by field."""
        return np.concatenate([np.empty(0, np.uint8), *(field.labels for field in self.fields)])

    def relabelled(self, label: Callable[[NDArray[np.float64]], NDArray[np.uint8]]) -> SlideSamples:
        """The same points with other labels.

        Args:
            label: From points (N, 2) float64 (x, y), level-0 px, to labels (N,) uint8.

        Returns:
            Samples with the labels that it gives; where nothing was sampled nothing changes.
        """
        fields = tuple(replace(field, labels=label(field.points_px)) for field in self.fields)
        return replace(self, fields=fields)

    def reverse(self) -> ReverseSampler:
        """The reverse sampler of these samples: any region of the mask at any level."""
        return ReverseSampler(self.fields, size=self.size, outside_label=self.outside_label)


class SamplesWriter:
    """Writes the samples of a slide field by field; a context manager whose file is whole or absent.

    Args:
        path: The ``.npz``.
        count: Number of samples of all fields together.
        size: Level-0 size of the slide, px.
        outside_label: Class of everything that no field keeps.

    Raises:
        MaskError: On leaving, when there were more or fewer samples than ``count``.

    Convention:
        ``points`` (N, 2) int32 (x, y) in ``1 / units_per_px`` level-0 px from the slide's top-left edge;
        ``labels`` (N,) uint8; ``kept`` (F, 4) int64 x, y, width, height, level-0 px; the samples of field f
        are rows ``starts[f]`` to ``starts[f + 1]``; ``size`` (2,) width, height; ``outside_label``.
    """

    def __init__(self, path: Path | str, *, count: int, size: Size, outside_label: int) -> None:
        self.path = Path(path)
        self.count = count
        self._about = {
            "units_per_px": np.int64(UNITS_PER_PX),
            "size": np.array([size.width, size.height], np.int64),
            "outside_label": np.int64(outside_label),
        }
        self._kept: list[tuple[int, int, int, int]] = []
        self._starts = [0]
        # One byte per sample; the points, nine times as much, go to the file as they come.
        self._labels: list[NDArray[np.uint8]] = []
        self._open = ExitStack()

    def __enter__(self) -> SamplesWriter:
        with ExitStack() as opening:
            aside = opening.enter_context(write_aside(self.path))
            self._zip = opening.enter_context(
                zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
            )
            self._points = opening.enter_context(self._zip.open("points.npy", "w", force_zip64=True))
            header = {"descr": "<i4", "fortran_order": False, "shape": (self.count, 2)}
            np.lib.format.write_array_header_1_0(self._points, header)
            self._open = opening.pop_all()
        return self

    def add(self, field: FieldSamples) -> None:
        """Append the samples of a field."""
        self._points.write(np.rint(field.points_px * UNITS_PER_PX).astype("<i4").tobytes())
        self._labels.append(field.labels)
        self._kept.append((field.kept.x, field.kept.y, field.kept.width, field.kept.height))
        self._starts.append(self._starts[-1] + len(field.labels))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if error is not None:
                # Handing the error on makes ``write_aside`` remove the file.
                raise error
            self._points.close()
            if self._starts[-1] != self.count:
                raise MaskError(
                    f"samples {self.path}: {self._starts[-1]} samples came. Needed {self.count}, as announced."
                )
            arrays = {
                "labels": np.concatenate([np.empty(0, np.uint8), *self._labels]),
                "kept": np.array(self._kept, np.int64).reshape(-1, 4),
                "starts": np.array(self._starts, np.int64),
                **self._about,
            }
            for name, array in arrays.items():
                with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def write_samples(
    path: Path | str, fields: Sequence[FieldSamples], *, size: Size, outside_label: int
) -> None:
    """Write the samples of a slide that are all in memory; see ``SamplesWriter``."""
    count = sum(len(field.labels) for field in fields)
    with SamplesWriter(path, count=count, size=size, outside_label=outside_label) as writer:
        for field in fields:
            writer.add(field)


def read_samples(path: Path | str) -> SlideSamples:
    """Read the samples of a slide.

    Raises:
        MaskError: The file is missing, damaged, or not one that ``write_samples`` wrote.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as held:
            points_px = held["points"] / float(held["units_per_px"])
            labels, starts = held["labels"], held["starts"].tolist()
            regions = [Region(*map(int, row)) for row in held["kept"]]
            size, outside = Size(*map(int, held["size"])), int(held["outside_label"])
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MaskError(
            f"samples {path}: cannot be read ({type(error).__name__}: {error}). Needed the .npz that "
            "`wsi-deform segment` wrote beside the mask. Segment the slide again with --overwrite."
        ) from error
    fields = tuple(
        FieldSamples(kept=kept, points_px=points_px[start:stop], labels=labels[start:stop])
        for kept, start, stop in zip(regions, starts[:-1], starts[1:], strict=True)
    )
    return SlideSamples(size=size, fields=fields, outside_label=outside)
