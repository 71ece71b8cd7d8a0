"""The samples that a mask was made from, on disk: positions, labels and fields in one ``.npz``.

A mask made by linear interpolation also needs probabilities and the lattices of the samples. Positions are
whole numbers of 1/256 px, as exact as the reverse sampler takes them: a mask made from the file is the mask
that was made from memory.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.files import write_aside
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.compiled import UNITS_PER_PX
from wsi_deform.mask.tissue_limit import TissueLimit, reverse_sampler
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

# What NumPy and its archive raise on files that are missing, cut off or scrambled.
_READ_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, SyntaxError, struct.error,
    tokenize.TokenError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# Kinds of number and shape of every array, as ``SamplesWriter`` has them; None is any length.
_ARRAYS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "points": ("i", (None, 2)), "labels": ("u", (None,)), "kept": ("i", (None, 4)), "starts": ("i", (None,)),
    "size": ("i", (2,)), "outside_label": ("i", ()), "units_per_px": ("i", ()),
}  # fmt: skip
_LINEAR_ARRAYS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "lattices": ("i", (None, 2)), "probabilities": ("uf", (None, None)),
}  # fmt: skip
_LIMIT_ARRAYS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "limit": ("b", (None, None)),
    "background": ("i", ()),
}


# Of what was read in blocks: pixels of several sizes, which positions do not tell.
_SIDE_ARRAYS: dict[str, tuple[str, tuple[int | None, ...]]] = {"sides": ("f", (None,))}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideSamples:
    """The labelled samples of a slide.

    Attributes:
        size: Level-0 size of the slide, px.
        fields: The samples of each field; none on a slide without tissue.
        outside_label: Class of everything that no field keeps.
        interpolation: How the mask was made from them, see ``ReverseSampler``.
        limit: Where the mask has other labels than background, or None where it is not limited.
    """

    size: Size
    fields: tuple[FieldSamples, ...]
    outside_label: int
    interpolation: Interpolation = "nearest"
    limit: TissueLimit | None = None

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
            Samples with the labels that it gives, for linear interpolation with certainty; where nothing was
            sampled nothing changes.
        """
        labels = [label(field.points_px) for field in self.fields]
        if self.interpolation == "nearest":
            changed = [
                replace(field, labels=new, probabilities=None)
                for field, new in zip(self.fields, labels, strict=True)
            ]
        else:
            # As many classes as the largest label asks for: 255, unlabelled, is one like the others here.
            certain = np.eye(
                1 + max((int(new.max()) for new in labels), default=0), dtype=np.uint8
            ) * np.uint8(255)
            changed = [
                replace(field, labels=new, probabilities=certain[new])
                for field, new in zip(self.fields, labels, strict=True)
            ]
        return replace(self, fields=tuple(changed))

    def reverse(self) -> ReverseSampler:
        """The reverse sampler of these samples: any region of the mask at any level."""
        return reverse_sampler(
            self.fields,
            size=self.size,
            outside_label=self.outside_label,
            interpolation=self.interpolation,
            limit=self.limit,
        )


class SamplesWriter:
    """Writes the samples of a slide field by field; a context manager whose file is whole or absent.

    Args:
        path: The ``.npz``.
        count: Number of samples of all fields together.
        size: Level-0 size of the slide, px.
        outside_label: Class of everything that no field keeps.
        interpolation: How the mask is made from them; "linear" keeps probabilities and lattices too.
        limit: Where the mask has other labels than background, or None where it is not limited.
        has_sides: Whether the size of the pixel that was read at each sample is kept.

    Raises:
        MaskError: On leaving, when there were more or fewer samples than ``count``; on adding a field without
            the probabilities that its interpolation needs.

    Convention:
        ``points`` (N, 2) int32 (x, y) in ``1 / units_per_px`` level-0 px from the slide's top-left edge;
        ``labels`` (N,) uint8; ``kept`` (F, 4) int64 x, y, width, height, level-0 px; the samples of field f
        are rows ``starts[f]`` to ``starts[f + 1]``; ``size`` (2,) width, height; ``outside_label``. For
        "linear" also ``lattices`` (F, 2) int64 width, height, and ``probabilities`` (N, C) as they were given. For a
        limited mask also ``limit`` (H, W) bool and ``background``, see ``TissueLimit``. With sides also ``sides`` (N,)
        float16, level-0 px, the square roots of the fields' ``areas_px``.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        count: int,
        size: Size,
        outside_label: int,
        interpolation: Interpolation = "nearest",
        limit: TissueLimit | None = None,
        has_sides: bool = False,
    ) -> None:
        self.path = Path(path)
        self.count = count
        self._about = {
            "units_per_px": np.int64(UNITS_PER_PX),
            "size": np.array([size.width, size.height], np.int64),
            "outside_label": np.int64(outside_label),
        }
        if limit is not None:
            self._about |= {"limit": limit.cells, "background": np.int64(limit.background)}
        self._kept: list[tuple[int, int, int, int]] = []
        self._starts = [0]
        # One byte per sample; the points, nine times as much, go to the file as they come.
        self._labels: list[NDArray[np.uint8]] = []
        self._linear = interpolation == "linear"
        self._lattices: list[tuple[int, int]] = []
        self._scores: NDArray[Any] = np.empty((0, 0), np.float16)  # type and number of classes of all fields
        self._has_sides = has_sides
        self._open = ExitStack()

    def __enter__(self) -> SamplesWriter:
        with ExitStack() as opening:
            aside = opening.enter_context(write_aside(self.path))
            self._zip = opening.enter_context(
                zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
            )
            # One member of the archive can be open at a time: the probabilities wait in a file of their own.
            self._waiting = opening.enter_context(TemporaryFile(dir=self.path.parent))
            self._sides = opening.enter_context(TemporaryFile(dir=self.path.parent))
            self._points = opening.enter_context(self._zip.open("points.npy", "w", force_zip64=True))
            header = {"descr": "<i4", "fortran_order": False, "shape": (self.count, 2)}
            np.lib.format.write_array_header_1_0(self._points, header)
            self._open = opening.pop_all()
        return self

    def add(self, field: FieldSamples) -> None:
        """Append the samples of a field."""
        if self._linear:
            if field.probabilities is None or field.lattice is None:
                raise MaskError(
                    f"samples {self.path}: the field that keeps {field.kept} has no probabilities. Needed "
                    "those of every field for linear interpolation."
                )
            self._waiting.write(np.ascontiguousarray(field.probabilities).tobytes())
            self._scores = field.probabilities[:0]
            self._lattices.append((field.lattice.width, field.lattice.height))
        if self._has_sides:
            if field.areas_px is None:
                raise MaskError(
                    f"samples {self.path}: the field that keeps {field.kept} has no areas. Needed those of every field."
                )
            self._sides.write(np.sqrt(field.areas_px).astype("<f2").tobytes())
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
            if self._linear:
                arrays["lattices"] = np.array(self._lattices, np.int64).reshape(-1, 2)
                self._write_probabilities()
            if self._has_sides:
                self._copy("sides", self._sides, np.dtype("<f2"), (self.count,))
            for name, array in arrays.items():
                with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    def _write_probabilities(self) -> None:
        """Copy the probabilities that waited into the archive."""
        shape = (self.count, self._scores.shape[1])
        if self._waiting.tell() != self._scores.dtype.itemsize * shape[0] * shape[1]:
            raise MaskError(
                f"samples {self.path}: probabilities of fields differ in type or number of classes. "
                "Needed those of one network."
            )
        self._copy("probabilities", self._waiting, self._scores.dtype, shape)

    def _copy(self, name: str, waiting: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Copy what waited in a file into an array of the archive."""
        waiting.seek(0)
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            descr = np.lib.format.dtype_to_descr(dtype)
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            copyfileobj(waiting, member, 1 << 20)


def write_samples(
    path: Path | str,
    fields: Sequence[FieldSamples],
    *,
    size: Size,
    outside_label: int,
    interpolation: Interpolation = "nearest",
    limit: TissueLimit | None = None,
) -> None:
    """Write the samples of a slide that are all in memory; see ``SamplesWriter``."""
    count = sum(len(field.labels) for field in fields)
    with SamplesWriter(
        path,
        count=count,
        size=size,
        outside_label=outside_label,
        interpolation=interpolation,
        limit=limit,
    ) as writer:
        for field in fields:
            writer.add(field)


def read_samples(path: Path | str) -> SlideSamples:
    """Read the samples of a slide.

    Raises:
        MaskError: The file is missing, damaged, or not one that ``write_samples`` wrote.
    """
    stored = _arrays_of(path)
    wrong = _misfit(stored)
    if wrong is not None:
        raise _unreadable(path, wrong)
    try:
        return _samples_of(stored)
    except ShapeError as error:
        raise _unreadable(path, str(error)) from error


def stored_points(path: Path | str) -> dict[str, NDArray[Any]]:
    """The arrays of a samples file that say where samples lie and what their labels are, as they are stored.

    Raises:
        MaskError: The file is missing, damaged, or not one that ``write_samples`` wrote.
    """
    stored = _arrays_of(path, wanted=tuple(_ARRAYS))
    wrong = _misfit(stored)
    if wrong is None and (stored["size"] < 1).any():
        wrong = f"size {stored['size'].tolist()}"
    if wrong is not None:
        raise _unreadable(path, wrong)
    return stored


def _samples_of(stored: dict[str, NDArray[Any]]) -> SlideSamples:
    """The samples that arrays of the right kinds and shapes say.

    Raises:
        ShapeError: Their values cannot be.
    """
    points_px = stored["points"] / float(stored["units_per_px"])
    labels, starts = stored["labels"], stored["starts"].tolist()
    regions = [Region(*map(int, row)) for row in stored["kept"]]
    linear = "lattices" in stored
    lattices = [Size(*map(int, row)) for row in stored["lattices"]] if linear else [None] * len(regions)
    scores = stored["probabilities"] if linear else None
    areas = stored["sides"].astype(np.float32) ** 2 if "sides" in stored else None
    size, limit = Size(*map(int, stored["size"])), None
    if "limit" in stored:
        limit = TissueLimit(cells=stored["limit"], size=size, background=int(stored["background"]))
    fields = tuple(
        FieldSamples(
            kept=kept,
            points_px=points_px[start:stop],
            labels=labels[start:stop],
            probabilities=None if scores is None else scores[start:stop],
            lattice=lattice,
            areas_px=None if areas is None else areas[start:stop],
        )
        for kept, lattice, start, stop in zip(regions, lattices, starts[:-1], starts[1:], strict=True)
    )
    return SlideSamples(
        size=size,
        fields=fields,
        outside_label=int(stored["outside_label"]),
        interpolation="linear" if linear else "nearest",
        limit=limit,
    )


def _arrays_of(path: Path | str, *, wanted: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz``, or those that are wanted."""
    try:
        with Path(path).open("rb") as file:
            held = np.load(file, allow_pickle=False)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise _unreadable(path, "one array, no archive")
            with held:
                # What does not start as an array does comes back as bytes.
                return {
                    name: np.asarray(held[name]) for name in held.files if wanted is None or name in wanted
                }
    except _READ_ERRORS as error:
        pass_on_own_fault(error, "numpy", "zipfile")
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def _misfit(stored: dict[str, NDArray[Any]]) -> str | None:
    """What is wrong with the arrays of a samples file, or None."""
    linear = "lattices" in stored or "probabilities" in stored
    optional = (_LINEAR_ARRAYS if linear else {}) | (_LIMIT_ARRAYS if "limit" in stored else {})
    optional |= _SIDE_ARRAYS if "sides" in stored else {}
    for name, (kinds, shape) in (_ARRAYS | optional).items():
        if name not in stored:
            return f"no {name}"
        array = stored[name]
        fits = array.ndim == len(shape) and all(
            b in (None, a) for a, b in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            return f"{name} of shape {array.shape}, {array.dtype}"
    if stored["units_per_px"] < 1:
        return f"units_per_px {stored['units_per_px']}"
    starts, count, fields = stored["starts"], len(stored["points"]), len(stored["kept"])
    counts = {len(stored[name]) for name in ("labels", "probabilities", "sides") if name in stored}
    ordered = (
        len(starts) == fields + 1 and starts[0] == 0 and starts[-1] == count and (np.diff(starts) >= 0).all()
    )
    if counts != {count} or not ordered or (linear and len(stored["lattices"]) != fields):
        return "its arrays are of different lengths"
    return None


def _unreadable(path: Path | str, found: str) -> MaskError:
    return MaskError(
        f"samples {path}: cannot be read ({found}). Needed the .npz that "
        "`wsi-deform segment` wrote beside the mask. Segment the slide again with --overwrite."
    )
