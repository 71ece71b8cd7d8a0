"""What OME-XML says of the images of a file: names, sizes, channels, bits."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass

from wsi_deform.geometry import Size
from wsi_deform.slide.channels import Channel
from wsi_deform.slide.resolution import xml_root

_Element = ElementTree.Element


@dataclass(frozen=True, slots=True, kw_only=True)
class OmePlane:
    """Where the only plane of an image lies.

    Attributes:
        page: Its number among the pages of its file.
        samples: Channels in it.
        uuid: Of the file, or "" where it is the one with the text.
    """

    page: int
    samples: int
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeImage:
    """One ``Image`` of OME-XML.

    Attributes:
        name: Its name, else its ID.
        size: SizeX and SizeY, px.
        channels: One per ``Channel``.
        significant_bits: How many bits of a sample are used, or None where it does not say.
        plane: Its only plane; None where it has several, or nothing plain is said of where it lies.
    """

    name: str
    size: Size
    channels: tuple[Channel, ...]
    significant_bits: int | None
    plane: OmePlane | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeXml:
    """An OME-XML text.

    Attributes:
        images: Those with pixels, in its order.
        metadata_file: The file that holds the metadata of this one (``BinaryOnly``), or "".
        uuid: Of the file, or "".
    """

    images: tuple[OmeImage, ...] = ()
    metadata_file: str = ""
    uuid: str = ""


def ome_xml(text: str) -> OmeXml:
    """Read an OME-XML text.

    Args:
        text: The text; may be broken.

    Returns:
        What it says; nothing where it is no XML.
    """
    root = xml_root(text)
    if root is None:
        return OmeXml()
    images = []
    for element in _children(root, "Image"):
        for pixels in _children(element, "Pixels"):
            size = (_whole(pixels.get(f"Size{axis}")) for axis in "XY")
            width, height = (side or 1 for side in size)
            image = OmeImage(
                name=element.get("Name") or element.get("ID") or "",
                size=Size(width, height),
                channels=tuple(map(_channel, _children(pixels, "Channel"))),
                significant_bits=_whole(pixels.get("SignificantBits")),
                plane=_only_plane(pixels),
            )
            images.append(image)
    only = next(iter(_children(root, "BinaryOnly")), None)
    return OmeXml(
        images=tuple(images),
        metadata_file="" if only is None else only.get("MetadataFile") or "?",
        uuid=root.get("UUID") or "",
    )


def _only_plane(pixels: _Element) -> OmePlane | None:
    """Where the pixels lie, if they are one plane that is said to lie in one place."""
    places = list(_children(pixels, "TiffData"))
    samples = {channel.get("SamplesPerPixel", "1") for channel in _children(pixels, "Channel")} or {"1"}
    sizes = [pixels.get(f"Size{axis}") for axis in "ZTC"]
    if len(places) != 1 or len(samples) != 1 or sizes != ["1", "1", *samples]:
        return None
    (place,) = places
    firsts = {place.get(f"First{axis}", "0") for axis in "ZTC"}
    counts = {place.get("NumPlanes", "1"), place.get("PlaneCount", "1")}
    page, count = place.get("IFD", "0"), _whole(samples.pop())
    if firsts != {"0"} or counts != {"1"} or count is None or (page != "0" and _whole(page) is None):
        return None
    uuid = next((one.text for one in _children(place, "UUID")), "")
    return None if uuid is None else OmePlane(page=int(page), samples=count, uuid=uuid)


def _channel(element: _Element) -> Channel:
    said = {name: element.get(name) for name in ("Fluor", "EmissionWavelength", "ContrastMethod")}
    return Channel(
        name=element.get("Name") or "",
        colour=_colour(element.get("Color")),
        is_fluorescence=bool(
            said["Fluor"] or said["EmissionWavelength"] or said["ContrastMethod"] == "Fluorescence"
        ),
    )


def _colour(text: str | None) -> tuple[int, int, int] | None:
    """The RGB of a signed 32-bit RGBA number."""
    try:
        rgba = int(text or "") & 0xFFFFFFFF
    except ValueError:
        return None
    return rgba >> 24, rgba >> 16 & 255, rgba >> 8 & 255


def _whole(text: str | None) -> int | None:
    """A positive whole number, else None."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 12 and int(text) > 0 else None


def _children(element: _Element, name: str) -> Iterable[_Element]:
    """The children of one name, of whatever version of the schema."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)
