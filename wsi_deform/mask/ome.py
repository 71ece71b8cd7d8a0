"""The OME-XML that a mask carries in its first ImageDescription."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from wsi_deform.geometry import Size

SOFTWARE = "wsi-deform"

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_NAMESPACE = "wsi-deform/mask"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def mask_xml(name: str, size: Size, mpp: float | None, annotations: Mapping[str, str]) -> str:
    """Describe a single-channel label image in OME-XML.

    Args:
        name: What viewers call the image.
        size: Size of level 0, px.
        mpp: Level-0 um per pixel; None leaves the physical size out.
        annotations: Names and values, kept as one OME map annotation.

    Returns:
        An OME-XML document, ASCII only. The plane is IFD 0; the other levels are its SubIFDs.

    Source:
        OME data model 2016-06.
    """
    physical = (
        ""
        if mpp is None
        else "".join(
            f' PhysicalSize{axis}="{mpp!r}" PhysicalSize{axis}Unit="\N{MICRO SIGN}m"' for axis in "XY"
        )
    )
    reference = values = ""
    if annotations:
        pairs = "".join(f"<M K={_quoted(key)}>{_text(value)}</M>" for key, value in annotations.items())
        reference = '<AnnotationRef ID="Annotation:0"/>'
        values = (
            f'<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="{_NAMESPACE}">'
            f"<Value>{pairs}</Value></MapAnnotation></StructuredAnnotations>"
        )
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd" Creator="{SOFTWARE}">'
        f'<Image ID="Image:0" Name={_quoted(name)}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{size.width}" '
        f'SizeY="{size.height}" SizeC="1" SizeZ="1" SizeT="1"{physical}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
        f"{reference}</Image>{values}</OME>"
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _text(value: str) -> str:
    """Text as element content; characters that XML cannot hold become U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", value))


def _quoted(value: str) -> str:
    """Text as an attribute, with its quotes."""
    return quoteattr(_NOT_XML.sub("\ufffd", value))
