"""What ImageDescriptions of any vendor, ImageJ and OME-XML say of a slide's scale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

from wsi_deform.geometry import Size
from wsi_deform.slide.choice import is_named_beside
from wsi_deform.slide.mpp.claims import Claim, Source, claim_of, claim_of_power
from wsi_deform.slide.resolution import positive_or_none, um_per_unit, xml_root

# Vendors' texts are short; what is longer is searched so far.
SEARCHED_CHARACTERS = 1 << 16

# Names under which texts of vendors and programs hold the scale, by what a bare number after them means. ``{a}`` is
# where an axis may be named. Aperio, Motic, Grundium, 3DHISTECH, large-image, iScan, Akoya, Micro-Manager, ...
_KEYS: tuple[tuple[str, float | None], ...] = (
    (r"mpp{a}|[xy]_?mpp|{um}[ _]?per[ _]?(?:pixel|px){a}|scanres", 1.0),
    (r"{um}/(?:pixel|px)", 1.0),
    (r"pixel[ _]?size[ _]?(?:in[ _]?)?[(\[]?{um}[)\]]?{a}|pixel[ _]?size{a}[ _]?{um}", 1.0),
    (r"physical[ _]?size{a}", 1.0),
    (r"mm_[xy]|pixel[ _]?size{a}[ _]?mm", 1e3),
    # Without a unit after the number nobody knows.
    (r"pixel[ _]?(?:size|spacing|resolution|width|height){a}|resolution{a}", None),
)
_UM = r"(?:microns?|um|[\u00b5\u03bc]m)"
_AXIS = r"(?:[ _.-]?[xy](?![a-z]))?"
_NUMBER = r"\d[\d.,\u066b]*(?:e[-+]?\d+)?"
_UNIT = r"(?:\\+u00b5m|[a-z\u00b5\u03bc\u00c2\u00ce\u00bc\u00c5]+)(?:\s{0,8}(?:/|per)\s{0,8}(?:pixels?|px))?"
# Few blanks, so that a text of nothing else is not searched for ever.
_SEPARATOR = r"""\s{0,8}["']?\s{0,8}[=:>]\s{0,8}["'(\[]?\s{0,8}"""
_PATTERNS = tuple(
    (
        re.compile(
            rf"(?<![a-z0-9_])(?P<key>{keys.replace('{a}', _AXIS).replace('{um}', _UM)})"
            rf"{_SEPARATOR}(?P<number>{_NUMBER})[ \t]*(?P<unit>{_UNIT})?",
            re.IGNORECASE,
        ),
        um,
    )
    for keys, um in _KEYS
)
# As OME's attributes in the JSON of other programs.
_UNIT_BESIDE = re.compile(rf"physical[ _]?size[ _]?[xy][ _]?unit{_SEPARATOR}(?P<unit>{_UNIT})", re.IGNORECASE)
_LIST = re.compile(
    r"""\s{0,8}["']?\s{0,8}[=:]\s{0,8}[\[(]\s{0,8}(?P<x>\d[\d.]*)\s{0,8}[,;]\s{0,8}(?P<y>\d[\d.]*)\s{0,8}[\])]"""
)
# How far an entry of a text is looked back over, for the name of another picture.
ENTRY_CHARACTERS = 60
_POWER = re.compile(
    r"(?<![a-z0-9_])"
    r"(?:appmag|(?:source|nominal|objective|scan)?[ _]?magnification|(?:objective|scan)[ _]?power|objective)"
    rf"{_SEPARATOR}(?P<number>{_NUMBER})\s*x?(?![a-z0-9])",
    re.IGNORECASE,
)


def claims_of_description(description: str) -> Iterator[Claim]:
    """What a vendor's or a program's text says, but ImageJ's and OME-XML.

    Args:
        description: An ImageDescription: ``key = value`` between bars, semicolons or line breaks, JSON or XML.

    Yields:
        The scale, and a guess from the objective's power, as far as they are there.

    Convention:
        Numbers may have a decimal comma. A unit after a number is honoured; without one "MPP" and its likes are in um,
        and names that do not say it ("Pixel Size", "Resolution") count only with one.
    """
    text = description[:SEARCHED_CHARACTERS]
    unit_beside = _UNIT_BESIDE.search(text) if "unit" in text.lower() else None
    for pattern, um in _PATTERNS:
        found: dict[str, float] = {}
        detail, has_unit = "", False
        for match in pattern.finditer(text):
            if is_named_beside(_entry_before(text, match.start())):
                continue
            axes = _axes(match["key"])
            values = _pair_of_list(text[match.end("key") :]) or [
                positive_or_none(match["number"].rstrip(".,"))
            ]
            beside = unit_beside if match["unit"] is None else None
            stated = um_per_unit(match["unit"] if beside is None else beside["unit"])
            scale = um if stated is None else stated
            if None in values or scale is None:
                continue
            detail = detail or match["key"].strip()
            has_unit = has_unit or stated is not None
            for axis, value in zip(axes, cycle(values)):  # one value counts for both axes
                found.setdefault(axis, (value or 0.0) * scale)
        if found:
            yield from claim_of(Source.TEXT, found.get("x"), found.get("y"), detail=detail, has_unit=has_unit)
            break
    power = _POWER.search(text)
    if power is not None:
        yield from claim_of_power(positive_or_none(power["number"].rstrip(".,")))


def _entry_before(text: str, place: int) -> str:
    """What stands before a place in its entry: "Macro " of "AppMag = 20|Macro MPP = 8"."""
    return re.split(r"[|;,\n{}<>]", text[max(0, place - ENTRY_CHARACTERS) : place])[-1]


def _pair_of_list(text: str) -> list[float | None] | None:
    """The numbers of a list of two, x and y, right behind a key: ``": [0.5, 0.25]``."""
    found = _LIST.match(text)
    return None if found is None else [positive_or_none(found["x"]), positive_or_none(found["y"])]


def _axes(key: str) -> str:
    """The axes that a key is about."""
    name = re.sub(r"(?:/|per[ _]?)(?:pixel|px)", "", key.lower())
    for axis, side in (("x", "width"), ("y", "height")):
        if name.endswith((axis, side)) or name.startswith(axis) or re.search(rf"size[ _.-]?{axis}[ _]", name):
            return axis
    return "xy"


def claims_of_imagej(description: str, per_unit_x: float, per_unit_y: float) -> Iterator[Claim]:
    """What a TIFF of ImageJ or Fiji says: its resolution tags are pixels per ``unit``, whatever their own unit is.

    Args:
        description: The ImageDescription; others than ImageJ's say nothing.
        per_unit_x: Pixels per unit along x.
        per_unit_y: Pixels per unit along y.
    """
    if not description.startswith("ImageJ="):
        return
    lines = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
    x = um_per_unit(lines.get("unit"))
    y = um_per_unit(lines["yunit"]) if "yunit" in lines else x
    yield from claim_of(
        Source.IMAGEJ,
        None if x is None or per_unit_x <= 0 else x / per_unit_x,
        None if y is None or per_unit_y <= 0 else y / per_unit_y,
        detail=f"unit={lines.get('unit', '')}",
        has_unit=True,
    )


def claims_of_ome_xml(text: str, size: Size | None = None, number: int | None = None) -> Iterator[Claim]:
    """What OME-XML says: PhysicalSizeX and PhysicalSizeY, and the objective's power.

    Args:
        text: The OME-XML of an OME-TIFF.
        size: Of level 0 of the image that is read, px: of several images the first of this size counts; None, or
            where none has it, the first.
        number: Of the image that is read, from 0, among those with pixels; wins over the size.

    Convention:
        The unit is um where none is given, as the OME schema says; "pixel" and "reference frame" say nothing.
    """
    root = xml_root(text)
    if root is None:
        return
    # Names end with it, whatever the version of the schema.
    elements = [each for each in root.iter() if each.tag.endswith(("Pixels", "Objective"))]
    images = [element for element in elements if element.tag.rpartition("}")[2] == "Pixels"]
    wanted = None if size is None else (str(size.width), str(size.height))
    if number is None:
        images.sort(key=lambda one: (one.get("SizeX"), one.get("SizeY")) != wanted)
    for pixels in images[number or 0 :][:1]:
        sizes: dict[str, float | None] = {}
        for axis in "XY":
            value = positive_or_none(pixels.get(f"PhysicalSize{axis}", ""))
            um = um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            sizes[axis] = None if value is None or um is None else value * um
        has_unit = "PhysicalSizeXUnit" in pixels.attrib or "PhysicalSizeYUnit" in pixels.attrib
        yield from claim_of(Source.OME, sizes["X"], sizes["Y"], has_unit=has_unit)
    for element in elements:
        if element.tag.rpartition("}")[2] == "Objective":
            power = element.get("NominalMagnification") or element.get("CalibratedMagnification") or ""
            yield from claim_of_power(positive_or_none(power))


def claims_of_tags(per_unit_x: float, per_unit_y: float, unit: int) -> Iterator[Claim]:
    """What TIFF resolution tags say.

    Args:
        per_unit_x: Pixels per unit along x.
        per_unit_y: Pixels per unit along y.
        unit: 2 for inches, which is also meant where the tag is left out, 3 for centimetres; 1 says nothing.
    """
    um = {2: 25400.0, 3: 10000.0}.get(unit)
    if um is not None and per_unit_x > 0 and per_unit_y > 0 and (per_unit_x, unit) not in PRINTERS:
        yield from claim_of(Source.TAGS, um / per_unit_x, um / per_unit_y)


# Pixels per inch that programs write when they know nothing.
PRINTERS = {(float(dpi), 2) for dpi in (1, 72, 75, 90, 96, 100, 120, 150, 200, 300, 400, 600, 1200)}


def aperio_entries(description: str) -> dict[str, str]:
    """The ``key = value`` entries of an Aperio ImageDescription."""
    entries = {}
    for entry in description.split("|")[1:]:
        key, equals, value = entry.partition("=")
        if equals:
            entries[key.strip()] = value.strip()
    return entries
