"""How many samples each field of a slide gets, by the slide-level deformation map."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsi_deform.errors import ShapeError

STEPS_PER_OCTAVE = 4


def allocate_samples(masses: ArrayLike, equal: ArrayLike, *, max_ratio: float) -> NDArray[np.float64]:
    """Share the samples of a slide out among its fields, by density, with the same total.

    Args:
        masses: (F,) non-negative: how much of the slide-level deformation map lies in each field's kept region.
        equal: (F,) positive: samples of each field if all were treated alike.
        max_ratio: No field gets more than this many times its equal share, nor less than one part in it; 1 or more.

    Returns:
        (F,) samples, in steps of a fourth of an octave above and below the equal share (the least share too, where it
        is no such step), so that few sizes of sampled images occur. The total never exceeds that of ``equal``.

    Raises:
        ShapeError: Lengths differ, a number is negative or not finite, or the ratio is below 1.
    """
    mass, even = np.asarray(masses, dtype=float), np.asarray(equal, dtype=float)
    if mass.ndim != 1 or mass.shape != even.shape:
        raise ShapeError(f"masses {mass.shape} and equal {even.shape}: needed two arrays (F,).")
    if not (np.isfinite(mass).all() and (mass >= 0).all() and (even > 0).all() and max_ratio >= 1):
        raise ShapeError(
            f"masses, equal or max_ratio {max_ratio}: needed finite, non-negative, and at least 1."
        )
    if len(mass) < 2 or mass.sum() == 0:
        return even.copy()
    wanted = mass / mass.sum() * even.sum()
    # Water filling: what clipping leaves over, or takes, is shared by scaling those that are not clipped.
    low, high = np.log(1e-9), np.log(1e9)
    for _ in range(80):
        middle = (low + high) / 2
        given = np.clip(wanted * np.exp(middle), even / max_ratio, even * max_ratio)
        low, high = (middle, high) if given.sum() <= even.sum() else (low, middle)
    given = np.clip(wanted * np.exp(low), even / max_ratio, even * max_ratio)
    steps = np.floor(STEPS_PER_OCTAVE * np.log2(given / even) + 1e-9)
    # Where the ratio is no whole number of steps, the step below it would break it.
    rounded = np.maximum(even * 2 ** (steps / STEPS_PER_OCTAVE), even / max_ratio)
    # Rounding down leaves samples over: the fields that lost most step up again while the total allows.
    room = even.sum() - rounded.sum()
    for field in np.argsort(rounded / given, kind="stable"):
        up = min(rounded[field] * 2 ** (1 / STEPS_PER_OCTAVE), even[field] * max_ratio)
        if up - rounded[field] <= room:
            room -= up - rounded[field]
            rounded[field] = up
    result: NDArray[np.float64] = rounded
    return result
