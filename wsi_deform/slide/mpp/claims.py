"""What the parts of a file say of its scale, which of them is believed, and what is said of the others.

The table of sources, ``Source``, is in order of trust; docs/scale.md says it in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from wsi_deform.geometry import SQUARE_RATIO, Point, mean_mpp, steps_of
from wsi_deform.slide.resolution import MAX_MPP, MIN_MPP, plausible_mpp

# Within these, um per pixel, a source that states its unit may be believed: electron microscopes, scanned sheets.
LEAST_MPP, MOST_MPP = 1e-4, 1e5
# Sources that differ by less than this agree: rounding, a calibration done twice.
AGREED_RATIO = 1.1
# An objective's power tells the mpp up to the camera: 20x is 0.24 to 0.55 um per pixel in slides of today.
AGREED_RATIO_OF_POWER = 2.5
# What confused units make of a number: mm and cm, inch and cm or mm, um and nm or mm.
UNIT_RATIOS = (2.54, 10.0, 25.4, 100.0, 254.0, 1000.0)
UNIT_TOLERANCE = 0.005
UM_AT_POWER_1 = 10.0


class Source(Enum):
    """Where the scale of a slide comes from, most trusted first."""

    GIVEN = "the mpp that was given"
    DICOM = "PixelSpacing of the DICOM series"
    DICOM_VOLUME = "ImagedVolumeWidth and ImagedVolumeHeight of the DICOM series"
    OME = "PhysicalSizeX and PhysicalSizeY of the OME-XML"
    NGFF = "coordinateTransformations of the OME-Zarr"
    CZI = "the Scaling section of the CZI"
    OPENSLIDE = "the scanner's metadata, by OpenSlide"
    TEXT = "the ImageDescription"
    IMAGEJ = "ImageJ's unit and the resolution tags"
    TAGS = "the TIFF resolution tags"
    POWER = "the objective power"

    @property
    def rank(self) -> int:
        """0 for the most trusted."""
        return _RANKS[self]

    @property
    def says(self) -> str:
        """The verb behind it, for people."""
        return (
            "say"
            if self in (Source.DICOM_VOLUME, Source.OME, Source.NGFF, Source.IMAGEJ, Source.TAGS)
            else "says"
        )


_RANKS = {source: rank for rank, source in enumerate(Source)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one source says.

    Attributes:
        source: Which one.
        mpp: um per level-0 pixel along x and y.
        detail: Where in the source, for people, or empty: "MPP", "20x".
        has_unit: Whether it states its unit, so that no convention had to be assumed.
    """

    source: Source
    mpp: Point
    detail: str = ""
    has_unit: bool = False

    @property
    def text(self) -> str:
        """The source and where in it."""
        if self.source is Source.POWER:
            return f"{self.source.value} ({self.detail})"
        return f"{self.detail} in {self.source.value}" if self.detail else self.source.value

    @property
    def is_plausible(self) -> bool:
        """Whether a light microscope can have it."""
        return all(plausible_mpp(one) is not None for one in (self.mpp.x, self.mpp.y))

    @property
    def is_possible(self) -> bool:
        """Whether it may be believed where nothing better is known."""
        return self.has_unit and all(LEAST_MPP <= one <= MOST_MPP for one in (self.mpp.x, self.mpp.y))


def claim_of(
    source: Source, x: float | None, y: float | None, *, detail: str = "", has_unit: bool = False
) -> Iterator[Claim]:
    """What a source says, if anything: one axis counts for both where the other is not said."""
    known = [value for value in (x, y) if value is not None]
    if known:
        mpp = Point(known[0] if x is None else x, known[-1] if y is None else y)
        yield Claim(source=source, mpp=mpp, detail=detail, has_unit=has_unit)


def claim_of_power(power: float | None) -> Iterator[Claim]:
    """What an objective's power (20 for 20x) lets one guess: 40x is 0.25 um per pixel, 20x 0.5, 10x 1.0."""
    if power is not None and 2 <= power <= 100:
        mpp = UM_AT_POWER_1 / power
        yield Claim(source=Source.POWER, mpp=Point(mpp, mpp), detail=f"{power:g}x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale of a slide.

    Attributes:
        mpp_xy: um per level-0 pixel along x and y, or None where nothing believable is said.
        source: Where it comes from, for people; empty without.
        remarks: What people should know of it, a sentence each.
    """

    mpp_xy: Point | None
    source: str
    remarks: tuple[str, ...]

    @property
    def mpp(self) -> float | None:
        """Side of the square with the area of a pixel, um."""
        return None if self.mpp_xy is None else mean_mpp(self.mpp_xy)


def scale_from_claims(claims: Sequence[Claim]) -> Scale:
    """Choose what is believed.

    Args:
        claims: What the parts of a file say, in any order.

    Returns:
        The most trusted one that a light microscope can have; else the most trusted that states its unit; else what the
        objective's power lets one guess. Remarks name what was guessed, not believed, or contradicts what was taken.
    """
    ordered = sorted(claims, key=lambda claim: claim.source.rank)
    said = [claim for claim in ordered if claim.source is not Source.POWER]
    guesses = [claim for claim in ordered if claim.source is Source.POWER]
    # Several powers are several guesses: none is taken.
    guess = guesses[:1] if len({claim.mpp for claim in guesses}) == 1 else []
    fit = [claim for claim in said if claim.is_plausible] or [claim for claim in said if claim.is_possible]
    taken = next(iter(fit or guess), None)
    remarks = []
    if taken is not None and taken.source is Source.POWER:
        remarks.append(
            f"{_shown(taken.mpp)} um per pixel is a guess from {taken.text}, as nothing else in the file says it "
            "believably: areas and lengths follow from it; set the mpp column, or --mpp"
        )
    for claim in said:
        remarks += [] if claim is taken else _remark(claim, taken)
    if taken is not None and taken.source is not Source.POWER:
        remarks += _unlikely(taken)
        for claim in guess:
            remarks += _remark(claim, taken)
    if taken is None:
        return Scale(mpp_xy=None, source="", remarks=tuple(remarks))
    return Scale(mpp_xy=taken.mpp, source=taken.text, remarks=(*remarks, *not_square_remark(taken.mpp)))


def not_square_remark(mpp: Point) -> tuple[str, ...]:
    """What is said of pixels that are not square; nothing within 1 %."""
    if _ratio(mpp, Point(mpp.y, mpp.x)) <= SQUARE_RATIO:
        return ()
    return (
        f"pixels are not square: {mpp.x:.4g} x {mpp.y:.4g} um; areas and views are right, see docs/scale.md",
    )


def given_remarks(mpp: Point, of_file: Point | None) -> tuple[str, ...]:
    """What is said of an mpp that somebody gave.

    Args:
        mpp: It, um per level-0 pixel along x and y.
        of_file: What the file says, or None.
    """
    how = None if of_file is None else disagreement(mpp, of_file, ratio=AGREED_RATIO_OF_POWER)
    if of_file is None or how is None:
        return not_square_remark(mpp)
    return (
        f"{Source.GIVEN.value} is {_shown(mpp)} um per pixel and was taken; the file says {_shown(of_file)} ({how})",
        *not_square_remark(mpp),
    )


def pixel_shape(mpp_xy: Point | None) -> Point:
    """Sides of a pixel in sides of the square of its area: their product is 1.

    Convention:
        (1, 1) where nobody knows, and where they differ by 1 % or less, which scanners' calibration does.
    """
    if mpp_xy is None:
        return Point(1.0, 1.0)
    steps = steps_of(mpp_xy)
    ratio = math.sqrt(steps.x / steps.y)
    return Point(ratio, 1 / ratio)


def disagreement(mpp: Point, other: Point, *, ratio: float = AGREED_RATIO) -> str | None:
    """How two scales disagree, in words, or None where they agree to a ratio."""
    found = _ratio(mpp, other)
    if found <= ratio:
        return None
    unit = _unit_ratio(mpp, other)
    return f"{found:.4g} times" + (
        "" if unit is None else f", as if a unit was mistaken (a factor of {unit:g})"
    )


def mistaken_unit(*ratios: float, tolerance: float = UNIT_TOLERANCE) -> float | None:
    """The confusion of units that explains all of some ratios of lengths.

    Args:
        ratios: One length by another that should be alike, either way around.
        tolerance: By which share a ratio may miss it.

    Returns:
        2.54 (inch and cm), 10 (cm and mm), 25.4 (inch and mm), 100, 254 or 1000 (mm and um); None where none fits.
    """
    for unit in UNIT_RATIOS:
        if all(abs(max(ratio, 1 / ratio) / unit - 1) <= tolerance for ratio in ratios):
            return unit
    return None


def _remark(claim: Claim, taken: Claim | None) -> list[str]:
    """What is said of a source that was not taken."""
    found = f"{claim.text} {claim.source.says} {_shown(claim.mpp)} um per pixel"
    if not claim.is_plausible and claim.source is not Source.POWER:
        # A printer's dpi in the tags is no news, unless it is the slide's scale in another unit.
        if claim.source is Source.TAGS and (taken is None or _unit_ratio(claim.mpp, taken.mpp) is None):
            return []
        found += f", which no light microscope has ({MIN_MPP:g} to {MAX_MPP:g})"
        if taken is None:
            return [f"{found}: it is not believed; set the mpp column, or --mpp"]
    if taken is None:
        return []
    ratio = AGREED_RATIO_OF_POWER if claim.source is Source.POWER else AGREED_RATIO
    how = disagreement(claim.mpp, taken.mpp, ratio=ratio)
    if how is None:
        return []
    about = " about" if claim.source is Source.POWER else ""
    found = found.replace(f" {claim.source.says} ", f" {claim.source.says}{about} ", 1)
    return [
        f"{found}, but {taken.text} {taken.source.says} {_shown(taken.mpp)}, which was taken ({how}); if that is "
        "wrong, set the mpp column"
    ]


def _unlikely(taken: Claim) -> list[str]:
    """What is said of a scale that no light microscope has."""
    if taken.is_plausible:
        return []
    return [
        f"{_shown(taken.mpp)} um per pixel, from {taken.text}, is outside what light microscopes have ({MIN_MPP:g} to "
        f"{MAX_MPP:g}); set the mpp column if it is wrong"
    ]


def _ratio(mpp: Point, other: Point) -> float:
    """By how much two scales differ at most, 1 or more."""
    return max(mpp.x / other.x, other.x / mpp.x, mpp.y / other.y, other.y / mpp.y)


def _unit_ratio(mpp: Point, other: Point) -> float | None:
    """The confusion of units that explains the difference of two scales in both axes, or None."""
    return mistaken_unit(mpp.x / other.x, mpp.y / other.y)


def _shown(mpp: Point) -> str:
    """A scale for people: one number where both axes show the same."""
    x, y = f"{mpp.x:.4g}", f"{mpp.y:.4g}"
    return x if x == y else f"{x} x {y}"
