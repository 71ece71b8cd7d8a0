"""Micrometres per pixel from what files say about themselves."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

# Lengths in um of the unit names that OME-XML, NGFF and people use.
UM_PER_UNIT = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "Å": 1e-4, "angstrom": 1e-4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6, "in": 25400.0, "inch": 25400.0,
}  # fmt: skip

# Resolution tags are often a printer's dpi or rubbish: only what a microscope can have is believed.
MIN_MPP, MAX_MPP = 0.02, 20.0


def mpp_from_resolution(per_unit_x: float, per_unit_y: float, unit: int) -> float | None:
    """Read TIFF resolution tags.

    Args:
        per_unit_x: Pixels per unit along x.
        per_unit_y: Pixels per unit along y.
        unit: 2 for inches, 3 for centimetres; 1 says nothing.

    Returns:
        um per pixel (mean of both axes), or None for absent, default (72, 96, 300 dpi) and impossible
        values: outside 0.02 to 20 um/px.
    """
    um = {2: 25400.0, 3: 10000.0}.get(unit)
    if um is None or not (per_unit_x > 0 and per_unit_y > 0):
        return None
    return plausible_mpp((um / per_unit_x + um / per_unit_y) / 2)


def plausible_mpp(mpp: float) -> float | None:
    """The value when a microscope can have it (0.02 to 20 um/px), else None."""
    return mpp if math.isfinite(mpp) and MIN_MPP <= mpp <= MAX_MPP else None


def mpp_from_aperio(description: str) -> float | None:
    """The ``MPP`` entry of an Aperio ImageDescription; None where it is not a positive number."""
    value = aperio_entries(description).get("MPP")
    return None if value is None else positive_or_none(value)


def aperio_entries(description: str) -> dict[str, str]:
    """The ``key = value`` entries of an Aperio ImageDescription."""
    entries = {}
    for entry in description.split("|")[1:]:
        key, equals, value = entry.partition("=")
        if equals:
            entries[key.strip()] = value.strip()
    return entries


def mpp_from_ome_xml(text: str) -> float | None:
    """PhysicalSizeX and PhysicalSizeY of the first image of an OME-XML text, in um.

    Args:
        text: The OME-XML of an OME-TIFF.

    Returns:
        um per pixel (mean of the axes given), or None where the file does not say or the XML is broken.

    Convention:
        The unit is um where none is given, as the OME schema says; "pixel" and "reference frame" say nothing.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None
    for element in root.iter():
        if element.tag.rpartition("}")[2] != "Pixels":
            continue
        sizes = []
        for axis in "XY":
            value = positive_or_none(element.get(f"PhysicalSize{axis}", ""))
            um = UM_PER_UNIT.get(element.get(f"PhysicalSize{axis}Unit", "µm"))
            if value is not None and um is not None:
                sizes.append(value * um)
        return sum(sizes) / len(sizes) if sizes else None
    return None


def positive_or_none(text: str) -> float | None:
    """A positive finite number from a text, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
