"""TIAToolbox among the rivals of ``whole_slide``: its cases, the windows that it is given, what its labels are worth.

``tiatoolbox_rival`` runs it, in another Python; here is what needs this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipelines.benchmarks.drawn_slides import CLASSES, DrawnFile
from pipelines.benchmarks.measure import Case, Facts, Row
from pipelines.benchmarks.parts import accuracy
from pipelines.benchmarks.tables import TIATOOLBOX
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.geometry import Region, Size

FACTORY = "tiatoolbox_rival:work"
WINDOWS = "windows.npy"
# Of the network alone: the engine does all of its work in every run.
PART, LARGE_PART = 1 / 20, 1 / 200


def tiatoolbox_cases(
    given: Facts, model: str, python: Path | None, *, window_px: int, large: bool, quick: bool
) -> tuple[list[Case], list[Case]]:
    """The case with the network, and those with a network that costs nothing; none without a Python that has it.

    Args:
        given: ``side``, ``slide``, ``folder`` (which holds ``WINDOWS``) and ``threads``.
        model: Patches of ours, whose network it gets.
        python: That of its environment.
        window_px: Side of a window.
        large: Whether the network sees a smaller part.
        quick: Whether it sees all of a small slide.
    """
    if python is None:
        return [], []

    def case(part: float, *, zero: bool, scores: bool = False) -> Case:
        params = {
            **{name: given[name] for name in ("side", "slide", "folder", "threads")},
            "mask": str(Path(given["folder"]) / WINDOWS),
            "model": model,
            "window_px": window_px,
            "part": part,
            "zero": zero,
            "scores": scores,
        }
        name = f"{TIATOOLBOX}, level 0" + (", zero" if zero else "") + (", scores" if scores else "")
        return Case(name=name, factory=FACTORY, params=params, python=str(python))

    part = 1.0 if quick else LARGE_PART if large else PART
    engine = [case(1.0, zero=True)]
    if not large:  # of 61,440 px they take 28 GiB
        engine.append(case(1.0, zero=True, scores=True))
    return [case(part, zero=False)], engine


def write_windows(wanted: NDArray[np.bool_], folder: Path) -> None:
    """Say which windows hold tissue, (rows, columns): its tissue mask, a cell a window."""
    np.save(folder / WINDOWS, wanted)


def what_it_found(row: Row, file: DrawnFile, flops: int) -> Facts:
    """TFLOP of all windows, and mIoU where the network saw them all.

    Args:
        row: As measured; ``predictions`` is where the labels lie.
        file: The slide and its truth.
        flops: Of a window.
    """
    found: Facts = {"tflop": flops * row["windows"] / 1e12}
    if row["part"] == 1:
        labels: Any = zarr.open_group(row["predictions"], mode="r")["predictions"]
        height, width = labels.shape

        def read(region: Region) -> NDArray[np.uint8]:
            rows, columns = (
                slice(region.y, region.y + region.height),
                slice(region.x, region.x + region.width),
            )
            return np.asarray(labels[rows, columns], np.uint8)

        found |= accuracy(confusion_of(file.truth(), read, size=Size(width, height), classes=CLASSES.count))
    return found
