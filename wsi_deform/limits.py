"""How much a file may ask for: every limit, its default, and the environment variable that changes it.

A few bytes can declare terabytes. What a file declares is held against these numbers, and against what its own bytes
can hold, before anything is allocated or decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from wsi_deform.errors import ConfigError

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit and where it is set.

    Attributes:
        variable: The environment variable.
        default: Its value where the variable is not set, in ``unit``.
        unit: Of both.
        scale: What one of the unit is, bytes or pixels.
        of: What is limited, as messages say it.
    """

    variable: str
    default: float
    unit: str
    scale: int
    of: str

    @property
    def value(self) -> int:
        """The limit now, bytes or pixels.

        Raises:
            ConfigError: The variable holds no positive number.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return int(self.default * self.scale)
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        # Also false for NaN; infinity is no number of bytes.
        if not 0 < found * self.scale < float("inf"):
            raise ConfigError(
                f"{self.variable}={text!r} in the environment: needed a positive number of {self.unit}."
            )
        return int(found * self.scale)

    def needed(self, amount: int) -> str:
        """What was needed and what to do about too large an amount, two sentences for the end of a message."""
        return (
            f"Needed at most {in_unit(self.value, self)} for {self.of}. If the file is right, set {self.variable} to "
            f"{-(-amount // self.scale)} or more; else copy or export it again."
        )


TILE = Limit(
    variable="WSI_DEFORM_MAX_TILE_MIB",
    default=256,
    unit="MiB",
    scale=MIB,
    of="a tile, chunk or compressed block",
)
STRIP = Limit(
    variable="WSI_DEFORM_MAX_STRIP_MIB",
    default=1024,
    unit="MiB",
    scale=MIB,
    of="a compressed TIFF strip, which is decoded as a whole",
)
PICTURE = Limit(
    variable="WSI_DEFORM_MAX_PICTURE_MIB",
    default=512,
    unit="MiB",
    scale=MIB,
    of="a picture that is decoded as a whole",
)
SLIDE = Limit(
    variable="WSI_DEFORM_MAX_SLIDE_GPX",
    default=250,
    unit="gigapixels",
    scale=10**9,
    of="the finest level of a slide",
)
TILE_ROW = Limit(
    variable="WSI_DEFORM_MAX_TILE_ROW_MIB",
    default=2048,
    unit="MiB",
    scale=MIB,
    of="the row of tiles that is held while missing coarse levels are built",
)
TEXT = Limit(
    variable="WSI_DEFORM_MAX_TEXT_MIB",
    default=32,
    unit="MiB",
    scale=MIB,
    of="a text file (CSV, JSON, YAML), which is read as a whole",
)
ANNOTATION = Limit(
    variable="WSI_DEFORM_MAX_ANNOTATION_MIB",
    default=1024,
    unit="MiB",
    scale=MIB,
    of="a file of annotations, unpacked, which is read as a whole",
)
MODEL = Limit(
    variable="WSI_DEFORM_MAX_MODEL_MIB",
    default=4096,
    unit="MiB",
    scale=MIB,
    of="the file of a shared model",
)
ALL = (TILE, STRIP, PICTURE, SLIDE, TILE_ROW, TEXT, ANNOTATION, MODEL)

LONGEST_SIDE_PX = 1 << 20
"""The longest side of a slide, px, such that 64-bit integers hold every squared distance; no variable changes it."""

MAX_PLANES = 1 << 14
"""Most pages, or planes (channels, focal planes and time points together), that a file may hold or describe."""

MAX_IMAGES = 1000
"""Most images that are no levels of others in one file or folder."""

MAX_LEVELS = 64
"""Most levels of one image."""


def in_unit(amount: int, limit: Limit) -> str:
    """An amount in a limit's unit, for people: "2,574.9 MiB"."""
    found = amount / limit.scale
    return f"{f'{found:,.1f}'.removesuffix('.0') if found >= 10 else f'{found:.3g}'} {limit.unit}"
