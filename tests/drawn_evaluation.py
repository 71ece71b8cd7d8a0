"""An evaluation whose every measure differs from all others, of slides that nobody drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.boundary import BorderPair, BoundaryDistances, Distances
from wsi_deform.evaluate.calibration import Calibration
from wsi_deform.evaluate.cost import SlideCost
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.objects import SIZES, Missed, ObjectCounts
from wsi_deform.evaluate.slide_measures import Measured
from wsi_deform.evaluate.trimap import TrimapCounts
from wsi_deform.geometry import Region, Size

CLASSES = ClassTable.from_names(["background", "gland", "nerve"])


def slide_of(number: int, random: np.random.Generator) -> SlideEvaluation:
    """A slide whose every measure differs from those of others; all classes are in it."""

    def counts() -> Confusion:
        return Confusion(random.integers(1, 900, (3, 3)))

    def distances() -> Distances:
        return Distances.of(random.gamma(2.0, 3.0, 300), capped=int(random.integers(0, 9)))

    pairs = tuple(BorderPair(to_true=distances(), to_predicted=distances()) for _ in CLASSES.names)
    objects = np.sort(random.integers(1, 40, (2, 3, len(SIZES["um"]), 5)), axis=-1)[..., ::-1].copy()
    objects[..., 3:] *= 100
    points = random.integers(1, 50, (4, 15)).astype(float)
    binned = np.stack([points, points * (np.arange(15) + 0.5) / 15, points * random.random((4, 15))], axis=-1)
    missed = Missed(
        class_index=1,
        box=Region(*random.integers(1, 10_000, 4).tolist()),
        pixels=int(random.integers(1000, 90_000)),
        covered=float(random.random() / 2),
        area_um2=float(random.integers(1000, 90_000)),
    )
    cost = SlideCost(
        samples=int(random.integers(1000, 9000)),
        read_pixels=int(random.integers(10**5, 10**7)),
        decoded_pixels=int(random.integers(10**6, 10**8)),
        decoded_bytes=int(random.integers(10**6, 10**9)),
        flops=int(random.integers(10**9, 10**11)),
        seconds=float(random.random() * 60),
        peak_memory_bytes=int(random.integers(10**8, 10**10)),
    )
    return SlideEvaluation(
        slide_id=f"s{number}",
        size=Size(100, 80),
        predicted=counts(),
        sampled=counts() if number else None,
        mpp=0.5,
        cost=cost,
        measured=Measured(
            trimap=TrimapCounts({("um", 2.0): counts(), ("px", 4.0): counts()}),
            boundary=BoundaryDistances({"px": pairs, "um": pairs[::-1]}) if number != 1 else None,
            objects=ObjectCounts(true={"um": objects[0]}, predicted={"um": objects[1]}, missed=(missed,)),
            calibration=Calibration(top=binned[0], classes=binned[1:]),
            frequency=ClassFrequency(samples=random.integers(1, 99, 3), pixels=random.integers(100, 9999, 3)),
            probabilities_of=frozenset(["samples"]),
        ),
    )


def evaluation_of(slides: list[SlideEvaluation]) -> Evaluation:
    return Evaluation(masks=Path("m"), split="test", classes=CLASSES, slides=tuple(slides), unmeasured=())


def drawn_evaluation(slides: int = 7, seed: int = 3) -> Evaluation:
    """Some slides, of a patient each."""
    random = np.random.default_rng(seed)
    return evaluation_of([slide_of(number, random) for number in range(slides)])
