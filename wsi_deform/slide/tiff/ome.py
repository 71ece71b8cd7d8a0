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
class OmeImage:
    """One ``Image`` of OME-XML.

    Attributes:
        name: Its name, else its ID.
        size: SizeX and SizeY, px.
        channels: One per ``Channel``.
        significant_bits: How many bits of a sample are used, or None where it does not say.
    """

    name: str
    size: Size
    channels: tuple[Channel, ...]
    significant_bits: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeXml:
    """An OME-XML text.

    Attributes:
        images: Those with pixels, in its order.
        metadata_file: The file that holds the metadata of this one (``BinaryOnly``), or "".
    """

    images: tuple[OmeImage, ...] = ()
    metadata_file: str = ""


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
            )
            images.append(image)
    only = next(iter(_children(root, "BinaryOnly")), None)
    return OmeXml(images=tuple(images), metadata_file="" if only is None else only.get("MetadataFile") or "?")


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
