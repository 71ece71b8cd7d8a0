"""Random places along a band, none on another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size

GAP_PX = 16


def scattered(sizes: Sequence[Size], canvas: Size, rng: np.random.Generator, name: str = "") -> list[Region]:
    """Find places for rectangles along a wavy band, none on another.

    Args:
        sizes: Of the rectangles, px.
        canvas: Where they go.
        rng: Decides.
        name: Of the slide, for the error.

    Raises:
        ShapeError: No such places were found.
    """
    for _ in range(50):
        phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2.0)
        sway, middle = rng.uniform(0.05, 0.14) * canvas.height, rng.uniform(0.4, 0.6) * canvas.height
        placed: list[Region] = []
        for size in sizes:
            room = canvas.width - size.width - 2 * GAP_PX, canvas.height - size.height - 2 * GAP_PX
            if min(room) < 0:
                raise ShapeError(
                    f"slide {name}: an image of {size} on a canvas of {canvas}. Needed {GAP_PX} px around it."
                )
            for _ in range(300):
                x = GAP_PX + int(rng.integers(room[0] + 1))
                centre = middle + sway * np.sin(phase + 2 * np.pi * waves * x / canvas.width)
                y = round(centre - size.height / 2 + rng.normal(0, 0.1) * canvas.height)
                place = Region(x, int(np.clip(y, GAP_PX, GAP_PX + room[1])), size.width, size.height)
                if all(place.grown(GAP_PX, canvas).intersection(other).is_empty for other in placed):
                    placed.append(place)
                    break
            else:
                break  # no room left: lay all of them anew
        if len(placed) == len(sizes):
            return placed
    raise ShapeError(
        f"slide {name}: no room for {len(sizes)} images on {canvas}. Needed fewer or a larger canvas."
    )
