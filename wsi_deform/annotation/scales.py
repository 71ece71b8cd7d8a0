"""The um per pixel of all slides of a manifest together: all or none have one, and nobody mistook a unit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from wsi_deform.slide.mpp.claims import mistaken_unit

# Slides of one scanner and power differ by some percent.
UNIT_TOLERANCE = 0.05
NAMED = 3


def unit_remarks(scales: Sequence[tuple[str, float]]) -> list[str]:
    """What is said of slides whose um per pixel is that of the others in another unit.

    Args:
        scales: Name and um per pixel of each slide that has one.

    Returns:
        A sentence for each factor by which some are off the median, with up to three examples.

    Convention:
        Factors are 10, 25.4, 100, 254 and 1000, to 5 %. 2.54 is not one of them here: 10x and 20x beside 40x are 4 and
        2 times as coarse, and scanners of several powers are usual.
    """
    if len(scales) < 2:
        return []
    median = statistics.median_low([mpp for _, mpp in scales])
    found: dict[float, list[str]] = {}
    for name, mpp in scales:
        unit = mistaken_unit(mpp / median, tolerance=UNIT_TOLERANCE)
        if unit is not None and unit >= 10:
            found.setdefault(unit, []).append(f"{name} {mpp:g}")
    return [
        f"{len(each)} of {len(scales)} slides are {unit:g} times off the others' {median:g} um per pixel, as if a unit "
        f"was mistaken ({', '.join(each[:NAMED])}{', ...' if len(each) > NAMED else ''}): look at column mpp and at "
        "what inspect says of these files"
        for unit, each in sorted(found.items())
    ]
