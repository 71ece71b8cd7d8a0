"""What a slide looks like in a few numbers, and how far that is from the slides that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from wsi_deform.geometry import Size
from wsi_deform.look.lowres import low_res_view
from wsi_deform.look.tissue import TissueMask
from wsi_deform.slide.slide import Slide

# Its colours are averaged over a view of the slide no longer than this.
VIEW_PX = 256
# Far outside: so many spreads over the training slides from their mean, and at least so many of 255 steps, which
# scanners of one laboratory differ by.
COLOUR_SPREADS, COLOUR_STEPS = 4.0, 40.0
# An objective apart (20x, 40x), and a quarter of the tissue, or of the glass, that any training slide had.
MPP_RATIO, SHARE_RATIO = 1.5, 4.0
# Containers that any program writes; they say nothing of the scanner.
NO_SCANNER = ("generic-tiff", "ome", "ome-zarr", "dicom", "drawn", "unknown", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """A slide in a few numbers.

    Attributes:
        colour: Mean RGB of its tissue, 0 to 255; of the whole image where no tissue is told from glass. None where
            there is no tissue.
        mpp: um per level-0 pixel, or None.
        tissue_share: Share of it that is tissue, 0 to 1; None where no tissue is told from glass.
        vendor: Who wrote the file, see ``SlideInfo``.
    """

    colour: tuple[float, float, float] | None
    mpp: float | None
    tissue_share: float | None
    vendor: str


def appearance_of(slide: Slide, tissue: TissueMask | None) -> Appearance:
    """Look at a slide, or at its region, once more, at a coarse level.

    Args:
        slide: An open slide.
        tissue: Where its tissue is; None where none is told from glass.

    Raises:
        SlideError: A tile cannot be read.
    """
    part = slide.region
    shape = slide.squared(part.size)
    scale = min(1.0, VIEW_PX / shape.long)
    size = Size(max(1, round(shape.width * scale)), max(1, round(shape.height * scale)))
    pixels = low_res_view(slide, part, size)
    share = None
    inside = np.ones(size.shape, np.bool_)
    if tissue is not None:
        fractions = tissue.fractions(part, size)
        inside, share = fractions > 0.5, float(fractions.mean())
    colour = None
    if inside.any():
        red, green, blue = pixels[inside].mean(axis=0, dtype=np.float64).tolist()
        colour = (red, green, blue)
    return Appearance(colour=colour, mpp=slide.mpp_or_none, tissue_share=share, vendor=slide.info.vendor)


class TrainingSlides(BaseModel):
    """What the slides that a model was trained on look like; stored with it.

    Attributes:
        slides: How many there are.
        colour_mean: Mean over them of the mean RGB of their tissue, or None where none has any.
        colour_spread: Standard deviation of the same over the slides.
        mpp: Least and largest um per pixel, or None.
        tissue_share: Least and largest share of tissue, or None.
        vendors: Who wrote the files.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    slides: int = Field(ge=1)
    colour_mean: tuple[float, float, float] | None = None
    colour_spread: tuple[float, float, float] | None = None
    mpp: tuple[float, float] | None = None
    tissue_share: tuple[float, float] | None = None
    vendors: tuple[str, ...] = ()

    @classmethod
    def of(cls, seen: Sequence[Appearance]) -> Self:
        """Sum up slides, one or more."""
        colours = np.array([each.colour for each in seen if each.colour is not None]).reshape(-1, 3)
        mean, spread = (
            (_rounded(colours.mean(axis=0).tolist()), _rounded(colours.std(axis=0).tolist()))
            if len(colours)
            else (None, None)
        )
        return cls(
            slides=len(seen),
            colour_mean=mean,
            colour_spread=spread,
            mpp=_range([each.mpp for each in seen]),
            tissue_share=_range([each.tissue_share for each in seen]),
            vendors=tuple(sorted({each.vendor for each in seen})),
        )

    def remarks(self, slide: Appearance) -> Iterator[str]:
        """What is far outside what these slides look like, with the numbers."""
        yield from self._of_colour(slide)
        if self.mpp is not None and slide.mpp is not None:
            low, high = self.mpp
            if not low / MPP_RATIO <= slide.mpp <= high * MPP_RATIO:
                yield f"{slide.mpp:.3g} um per pixel, {self._training} {_between(low, high, '{:.3g}')}"
        if self.tissue_share is not None and slide.tissue_share is not None:
            low, high = self.tissue_share
            share = slide.tissue_share
            if share < low / SHARE_RATIO or 1 - share < (1 - high) / SHARE_RATIO:
                yield f"{share:.1%} of the slide is tissue, {self._training} {_between(low, high, '{:.1%}')}"
        if self.vendors and is_scanner(slide.vendor) and slide.vendor not in self.vendors:
            yield f"scanner or format {slide.vendor}, {self._training} {', '.join(self.vendors)}"

    def _of_colour(self, slide: Appearance) -> Iterator[str]:
        if slide.colour is None or self.colour_mean is None or self.colour_spread is None:
            return
        for own, mean, spread in zip(slide.colour, self.colour_mean, self.colour_spread, strict=True):
            if abs(own - mean) > max(COLOUR_SPREADS * spread, COLOUR_STEPS):
                spreads = "/".join(f"{each:.0f}" for each in self.colour_spread)
                yield (
                    f"its tissue has the mean colour {_colour(slide.colour)}, {self._training} "
                    f"{_colour(self.colour_mean)} (spread {spreads})"
                )
                return

    @property
    def _training(self) -> str:
        return "the training slide has" if self.slides == 1 else f"the {self.slides} training slides have"


def is_scanner(vendor: str) -> bool:
    """Whether the name of a file's writer tells of a scanner, not of a container."""
    return vendor not in NO_SCANNER and not vendor.endswith("-image")


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _rounded(values: Sequence[float]) -> tuple[float, float, float]:
    """To what the JSON of a model need hold."""
    red, green, blue = (round(value, 3) for value in values)
    return red, green, blue


def _colour(rgb: tuple[float, float, float]) -> str:
    return "/".join(f"{each:.0f}" for each in rgb)


def _between(low: float, high: float, form: str) -> str:
    shown = form.format(low), form.format(high)
    return shown[0] if shown[0] == shown[1] or math.isclose(low, high) else f"{shown[0]} to {shown[1]}"
