"""What a reader of an annotation format has found so far: areas, and what it left out."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsi_deform.annotation.outlines.outline import Colour, Ring
from wsi_deform.annotation.outlines.stored import AnnotationFile
from wsi_deform.geometry import Point
from wsi_deform.limits import LONGEST_SIDE_PX

FARTHEST_PX = 4.0 * LONGEST_SIDE_PX
"""No slide is a quarter as large: coordinates beyond this are a mistake."""

SHOWN_CHARACTERS = 60
NOT_IN_NAMES = ("Cc", "Zl", "Zp")
"""Categories of Unicode: controls, and separators of lines and paragraphs."""


@dataclass(slots=True, kw_only=True)
class Area:
    """An annotated area as its file gives it, not yet checked.

    Attributes:
        parts: Polygons, each a shell and its holes, that together are the area: where parts overlap they are one.
        source_class: As in ``Outline``, like the rest.
        colour: See there.
        number: See there.
        erases: See there.
        is_even_odd: The rings of all parts are one path instead, filled by the even-odd rule.
        is_sound: Its rings are known not to cross, and are taken as they are, by the even-odd rule.
    """

    parts: Sequence[Sequence[Ring]]
    source_class: str | None
    colour: Colour | None
    number: int
    erases: bool = False
    is_even_odd: bool = False
    is_sound: bool = False


class Found:
    """Collects what is in a file.

    Attributes:
        file: The file.
        areas: What was found, in the order it was drawn.
        sizes: Sizes that the file says its image has, (width, height) in px; empty where it says none.
        corner: Where the file says itself from which corner of the slide it counts, level-0 px; None where not.
    """

    def __init__(self, file: AnnotationFile) -> None:
        self.file = file
        self.corner: Point | None = None
        self.sizes: list[tuple[float, float]] = []
        self.areas: list[Area] = []
        self._left_out: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()

    def add(
        self,
        parts: Sequence[Sequence[Ring]],
        *,
        source_class: str | None,
        number: int,
        colour: Colour | None = None,
        erases: bool = False,
        is_even_odd: bool = False,
        is_sound: bool = False,
    ) -> None:
        """Add an area; see ``Area``."""
        if source_class is not None:
            # Half of a surrogate pair, which JSON can name, is no character that can be printed.
            source_class = source_class.encode("utf-8", "replace").decode("utf-8")
            if not source_class.isprintable():  # line breaks would tear tables and legends apart
                source_class = "".join(
                    " " if unicodedata.category(each) in NOT_IN_NAMES else each for each in source_class
                )
            source_class = source_class.strip() or None
        self.areas.append(
            Area(
                parts=parts,
                source_class=source_class,
                colour=colour,
                number=number,
                erases=erases,
                is_even_odd=is_even_odd,
                is_sound=is_sound,
            )
        )

    def says_size(self, width: Any, height: Any) -> None:
        """Note the size that the file says its image has; what is no size says nothing."""
        sides = [each for each in (width, height) if isinstance(each, int | float) and 0 < each < math.inf]
        if len(sides) == 2 and (sides[0], sides[1]) not in self.sizes:
            self.sizes.append((sides[0], sides[1]))

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count something that is no area: "points", "lines"."""
        self._left_out[what] += count

    def remark(self, text: str, count: int = 1) -> None:
        """Say something of so many things of the file; the same said again is one remark with the sum."""
        self._remarks[text] += count

    def remarks(self) -> tuple[str, ...]:
        """All that is to be said, counted."""
        said = [f"{text}: {count:,}" for text, count in self._remarks.items()]
        if self._left_out:
            said += [
                f"{what[0].upper()}{what[1:]}, no areas and left out: {count:,}"
                for what, count in self._left_out.items()
            ]
        return tuple(said)

    def ring(self, points: Any, number: int) -> Ring:
        """The vertices of a ring.

        Args:
            points: A sequence of (x, y), or of (x, y, z).
            number: Of the feature.

        Returns:
            (N, 2) float64; N may be anything, and a vertex may be NaN.

        Raises:
            AnnotationError: They are something else.
        """
        try:
            found = np.array(points, np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.file.error(
                f"vertices are {shown(points)}, needed pairs of numbers ({error})", number
            ) from error
        if found.size == 0:
            return np.empty((0, 2))
        # More numbers than x, y and z are something else: "10,5,20,5" are two with decimal commas.
        if found.ndim != 2 or found.shape[1] not in (2, 3):
            raise self.file.error(f"vertices are {shown(points)}, needed pairs of numbers", number)
        return found[:, :2]

    def numbers(self, values: Any, number: int, what: str) -> list[float]:
        """Finite numbers within what a slide can have.

        Args:
            values: A sequence of numbers, or of their texts.
            number: Of the feature.
            what: Their name, for messages.

        Raises:
            AnnotationError: One of them is something else.
        """
        try:
            found = [float(each) for each in values]
        except (ValueError, TypeError, OverflowError) as error:
            raise self.file.error(f"{what} is {shown(values)}, needed numbers", number) from error
        for each in found:
            if not math.isfinite(each) or abs(each) > FARTHEST_PX:
                raise self.file.error(
                    f"{what} is {each:g}, needed px of the slide's finest level, {FARTHEST_PX:,.0f} at most",
                    number,
                )
        return found


def shown(value: Any) -> str:
    """The beginning of a value, for messages."""
    # The text of a list may be as long as the file, and as deep.
    try:
        text = repr(value) if not isinstance(value, list | dict | tuple) else _shown_items(value)
    except RecursionError:
        text = "something nested deeply"
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _shown_items(value: Any) -> str:
    few = dict(list(value.items())[:2]) if isinstance(value, dict) else list(value[:3])
    text = repr(few)
    return text if len(few) == len(value) else f"{text[:-1]}, ...{text[-1]}"
