"""How closely each part was read: levels that are an octave apart, and their colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLEAR = (238, 240, 242)
"""Of the coarsest level in legends; in pictures it is left as it is."""
RAMP = ((255, 196, 46), (0, 158, 115), (0, 84, 166))
"""From the second level to the finest; seen on pink, on purple and on glass."""


def level_colours(count: int) -> list[tuple[int, int, int]]:
    """RGB of 0 to 255 of each of ``count`` levels, the coarsest first."""
    places = np.linspace(0, 1, count - 1) if count > 2 else np.ones(count - 1)
    channels = [np.interp(places, (0, 0.5, 1), [each[axis] for each in RAMP]) for axis in range(3)]
    further = np.rint(np.stack(channels, axis=1)).astype(int).tolist()
    return [CLEAR, *((red, green, blue) for red, green, blue in further)]


def levels_of(sides: NDArray[np.floating]) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Levels of pixels that were read.

    Args:
        sides: (...) side of the pixel that was read at each place, above 0, in any unit.

    Returns:
        (...) uint8, 0 for the coarsest and one more for each octave that is finer; and the usual side of each, up to
        the finest. A level that nowhere is the closest one has the side that its neighbours say.

    Convention:
        Sides of one level differ by less than a quarter of an octave: regions at the edge of a slide have pixels
        that are a little wider or higher.
    """
    octaves = np.rint(np.log2(sides.astype(np.float64) / float(sides.min()))).astype(np.int64)
    coarsest = int(octaves.max())
    finest = float(np.median(sides[octaves == 0]))
    usual = tuple(
        float(np.median(sides[octaves == octave])) if (octaves == octave).any() else finest * 2.0**octave
        for octave in range(coarsest, -1, -1)
    )
    return (coarsest - octaves).astype(np.uint8), usual
