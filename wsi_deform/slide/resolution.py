"""Numbers and units of length as files, people and locales write them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from functools import lru_cache

# Lengths in um of the unit symbols of OME-XML; case counts: Mm is no mm.
UM_PER_SYMBOL = {
    "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "\u00b5": 1.0, "\u03bc": 1.0, "nm": 1e-3, "pm": 1e-6,
    "\u00c5": 1e-4, "\u212b": 1e-4, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "km": 1e9, "Mm": 1e12,
    "in": 25400.0, "thou": 25.4, "pt": 25400 / 72,
}  # fmt: skip
# And of the words that NGFF, ImageJ and people use, without a plural s, in small letters.
UM_PER_WORD = {
    "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0, "mikrometer": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "angstrom": 1e-4, "\u00e5ngstr\u00f6m": 1e-4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "meter": 1e6, "metre": 1e6, "in": 25400.0, "inch": 25400.0, "inche": 25400.0,
}  # fmt: skip

# Resolution tags are often a printer's dpi or rubbish: only what a light microscope can have is believed unasked.
MIN_MPP, MAX_MPP = 0.02, 20.0

LONGEST_UNIT = 40
# The tree of a longer XML text is not kept for who asks next.
KEPT_CHARACTERS = 1 << 18
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_PER_PIXEL = re.compile(r"\s*(/|\bper\b|\bpro\b)\s*(px|pix(el)?s?)\s*$", re.IGNORECASE)


def um_per_unit(name: object) -> float | None:
    r"""How many um a unit of length has.

    Args:
        name: As a file has it: "µm", "Microns", ImageJ's escaped "\u00B5m", "um/px", UTF-8 taken for Latin-1; or
            anything else.

    Returns:
        um, or None for what is no known length: "pixel", "reference frame", no text.
    """
    if not isinstance(name, str) or len(name) > LONGEST_UNIT:
        return None
    text = (
        _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
        .replace("\u00c2\u00b5", "\u00b5")
        .replace("\u00ce\u00bc", "\u00b5")
    )
    text = _PER_PIXEL.sub("", text).strip().strip("()[]")
    if text in UM_PER_SYMBOL:
        return UM_PER_SYMBOL[text]
    word = text.lower()
    return UM_PER_WORD.get(word, UM_PER_WORD.get(word.removesuffix("s")))


def plausible_mpp(mpp: float) -> float | None:
    """The value when a light microscope can have it (0.02 to 20 um/px), else None."""
    return mpp if math.isfinite(mpp) and MIN_MPP <= mpp <= MAX_MPP else None


def xml_root(text: str) -> ElementTree.Element | None:
    """The root of an XML text, None where that is broken."""
    return _kept_root(text) if len(text) <= KEPT_CHARACTERS else _root(text)


@lru_cache(maxsize=1)
def _kept_root(text: str) -> ElementTree.Element | None:
    """The root that was asked for last: one reader asks several times for that of the same file."""
    return _root(text)


def _root(text: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def positive_or_none(text: str) -> float | None:
    """A positive finite number from a text, else None.

    Convention:
        Of a point and a comma the later one is the decimal sign ("1.234,5", "1,234.5"); a comma alone is it too
        ("0,2520"), since a locale that writes thousands so never has them in an mpp. Several commas are thousands.
    """
    text = re.sub(r"[\s'\u2019]", "", text).replace("\u066b", ".")  # the Arabic decimal sign
    if text.count(",") == 1 and text.rfind(",") > text.rfind("."):
        text = text.replace(".", "").replace(",", ".")
    text = text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
