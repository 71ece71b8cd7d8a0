"""What is asked of tifffile's pages: public attributes that all its versions have, checked before use."""

from __future__ import annotations

from numbers import Integral
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.slide.path import SlidePath

# PhotometricInterpretation.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6

# Codes of tags: tifffile finds a name only by looking at those of all tags of a page.
ORIENTATION, MAX_SAMPLE_VALUE, X_RESOLUTION, Y_RESOLUTION, PAGE_NAME = 274, 281, 282, 283, 285
RESOLUTION_UNIT, SOFTWARE = 296, 305

# Each holds one whole number in a sound file. A damaged one may hold several, or text.
WHOLE_NUMBERS = (
    "imagewidth", "imagelength", "imagedepth", "tilewidth", "tilelength", "rowsperstrip", "samplesperpixel",
    "planarconfig", "compression", "photometric", "predictor", "fillorder", "subfiletype",
)  # fmt: skip
_whole_numbers_of = attrgetter(*WHOLE_NUMBERS)


def checked_page(page: Any, path: SlidePath) -> Any:
    """A page of tifffile whose tags can be trusted to be whole numbers.

    Args:
        page: tifffile's page or frame.
        path: The file, for messages.

    Returns:
        The page that holds the tags (a frame's key frame).

    Raises:
        SlideError: A tag holds something else; the message names it.
    """
    key = page.keyframe
    for name, value in zip(WHOLE_NUMBERS, _whole_numbers_of(key), strict=True):
        if not isinstance(value, int) and not isinstance(value, Integral):
            raise damaged_tag(path, name, value, "one whole number")
    extra = key.extrasamples
    if not isinstance(extra, tuple) or not all(isinstance(one, (int, Integral)) for one in extra):
        raise damaged_tag(path, "extrasamples", extra, "whole numbers")
    return key


def page_size(page: Any) -> Size:
    """Width and height of a checked page, px."""
    return Size(int(page.imagewidth), int(page.imagelength))


def colour_kind(page: Any) -> tuple[object, ...]:
    """What the pixels of a checked page are once they are decoded; equal for all levels of an image."""
    photometric = int(page.photometric)
    return page.dtype, int(page.samplesperpixel), RGB if photometric == YCBCR else photometric


def segments(page: Any, path: SlidePath) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the tiles or strips of a page lie.

    Returns:
        (segments,) file positions and (segments,) stored bytes.

    Raises:
        SlideError: They are no lists of whole numbers.
    """
    lists = []
    for name in ("dataoffsets", "databytecounts"):
        stored = getattr(page, name)
        if not isinstance(stored, tuple | list):
            raise damaged_tag(path, name, stored, "a list of whole numbers")
        lists.append(np.asarray(stored, np.int64))
    return lists[0], lists[1]


def damaged_tag(path: SlidePath, name: str, found: object, needed: str) -> SlideError:
    """The error for a tag that holds something else than its kind."""
    return SlideError(
        f"{path}: the TIFF tag {name} holds {str(found)[:60]}, needed {needed}. The file is damaged: copy or "
        "download it again."
    )


def fraction_of(found: object) -> float | None:
    """A number as tifffile gives it: a fraction (top, bottom), as TIFF 6.0 wants it, or a number of another type.

    Returns:
        The number, 0 where it is divided by 0; None where it is none.
    """
    numbers = found if isinstance(found, tuple) else (found,)
    if not 1 <= len(numbers) <= 2 or not all(isinstance(one, int | float) for one in numbers):
        return None
    top, bottom = (*map(float, numbers), 1.0)[:2]
    return top / bottom if bottom else 0.0
