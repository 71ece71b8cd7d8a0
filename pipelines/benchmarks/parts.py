"""What a random part of a slide's windows says about all of them: time and accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.benchmarks.drawn_slides import CLASSES
from pipelines.benchmarks.measure import Facts, Work
from wsi_deform.annotation.raster import LABEL_CACHE, LabelMask
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Region
from wsi_deform.slide.tiff.tiles import TiffTiles


def extrapolated_work(run: Callable[[int], Facts], finish: Callable[[], Facts], part: float) -> Work:
    """Time the run here, where what is to be added to it is known."""

    def timed(number: int) -> Facts:
        start, cpu = time.perf_counter(), time.process_time()
        facts = run(number)
        del facts["cpu_of_rest"]
        seconds = time.perf_counter() - start + facts.pop("more_seconds")
        cpu_seconds = time.process_time() - cpu + facts.pop("more_cpu_seconds")
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, **facts}

    return Work(run=timed, finish=finish, facts={"part": part})


def part_of(regions: Sequence[Region], part: float, number: int) -> tuple[Region, ...]:
    """A random part, in order; parts of different runs do not overlap while there are enough."""
    count = max(1, round(part * len(regions)))
    order = np.random.default_rng(0).permutation(len(regions))
    chosen = sorted(np.take(order, range(number * count, (number + 1) * count), mode="wrap"))
    return tuple(regions[index] for index in chosen)


def accuracy(counts: Confusion) -> Facts:
    """MIoU with and without background."""
    return {"miou": counts.miou(), "miou_without_background": counts.miou(without=0)}


def sampled_confusion(
    truth: LabelMask, masks: Sequence[tuple[Path, tuple[Region, ...]]], everywhere: Sequence[Region]
) -> Confusion:
    """Counts over the whole slide: windows that were looked at stand for all, the rest is background."""
    looked = Confusion.empty(CLASSES.count)
    count = 0
    for path, chosen in masks:
        labels = TiffTiles(path)
        for region in chosen:
            predicted = np.ascontiguousarray(labels.read_region(0, region)[..., 0])
            looked = looked + Confusion.of(truth.read_region(region), predicted, classes=CLASSES.count)
        count += len(chosen)
    inside = np.zeros(256, np.int64)
    for region in everywhere:
        inside += np.bincount(truth.read_region(region).ravel(), minlength=256)
    outside = truth.class_counts()[: CLASSES.count] - inside[: CLASSES.count]
    LABEL_CACHE.forget()
    counts = np.rint(looked.counts * (len(everywhere) / count)).astype(np.int64)
    counts[:, 0] += outside
    return Confusion(counts)
