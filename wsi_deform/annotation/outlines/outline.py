"""What every annotation format becomes: outlines in level-0 pixels of the slide, in the order they were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """One annotated area.

    Attributes:
        rings: Shells and holes, each (N, 2) float64 (x, y) with N >= 3, level-0 px, edge frame: pixel (i, j) is the
            square from (i, j) to (i + 1, j + 1). The last point is not the first again; the ring closes by itself.
        source_class: The class that the file names for it, as written there; None where it names none.
        colour: RGB, 0 to 255, that the file draws it with; None where it says none.
        number: Which feature of the file it is, from 1, for messages.
        erases: Whether it takes away what the outlines before it drew (exclusion groups, negative areas), instead of
            giving pixels a class.

    Convention:
        A point is inside when a ray from it crosses the rings an odd number of times (even-odd), so holes need no
        direction.
    """

    rings: tuple[Ring, ...]
    source_class: str | None
    colour: Colour | None = None
    number: int = 0
    erases: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineSet:
    """All outlines of one file.

    Attributes:
        path: The file.
        format: Name of its format, for people: "QuPath GeoJSON", "ASAP XML", ...
        outlines: In the order they were drawn: later ones lie over earlier ones.
        remarks: What was left out, repaired or taken for something else, with numbers; whole sentences without a stop.
    """

    path: Path
    format: str
    outlines: tuple[Outline, ...]
    remarks: tuple[str, ...] = ()
