"""The OME-XML that a mask or map carries in its first ImageDescription."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from wsi_deform.geometry import Mpp, Size, both_axes

SOFTWARE = "wsi-deform"

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_NAMESPACE = "wsi-deform/mask"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel of an image.

    Attributes:
        name: What viewers call it, or None.
        colour: RGB in which viewers show it, 0 to 255, or None.
    """

    name: str | None = None
    colour: tuple[int, int, int] | None = None


def image_xml(
    name: str,
    size: Size,
    mpp: Mpp | None,
    annotations: Mapping[str, str],
    *,
    channels: Sequence[Channel] = (Channel(),),
    pixel_type: str = "uint8",
    rgb: bool = False,
) -> str:
    """Describe a mask or a map in OME-XML.

    Args:
        name: What viewers call the image.
        size: Size of level 0, px.
        mpp: Level-0 um per pixel; None leaves the physical size out.
        annotations: Names and values, kept as one OME map annotation.
        channels: Its channels; the plane of channel c is IFD c.
        pixel_type: "uint8" or "uint16".
        rgb: Whether the one channel is red, green and blue, pixel by pixel.

    Returns:
        An OME-XML document without a numeric character reference: Bio-Formats takes those for damage, and the file
        then for no OME-TIFF. The other levels are SubIFDs of the planes.

    Source:
        OME data model 2016-06.
    """
    physical = ""
    if mpp is not None:
        both = both_axes(mpp)
        physical = "".join(
            f' PhysicalSize{axis}="{um!r}" PhysicalSize{axis}Unit="\N{MICRO SIGN}m"'
            for axis, um in (("X", both.x), ("Y", both.y))
        )
    reference = values = ""
    if annotations:
        pairs = "".join(f"<M K={_quoted(key)}>{_text(value)}</M>" for key, value in annotations.items())
        reference = '<AnnotationRef ID="Annotation:0"/>'
        values = (
            f'<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="{_NAMESPACE}">'
            f"<Value>{pairs}</Value></MapAnnotation></StructuredAnnotations>"
        )
    planes = '<TiffData IFD="0" PlaneCount="1"/>'
    if len(channels) > 1:
        numbers = range(len(channels))
        planes = "".join(f'<TiffData FirstC="{each}" IFD="{each}" PlaneCount="1"/>' for each in numbers)
    samples = 3 if rgb else 1
    listed = "".join(_channel(number, each, samples) for number, each in enumerate(channels))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd" Creator="{SOFTWARE}">'
        f'<Image ID="Image:0" Name={_quoted(name)}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{pixel_type}" SizeX="{size.width}" '
        f'SizeY="{size.height}" SizeC="{samples * len(channels)}" SizeZ="1" SizeT="1"{physical}>'
        f"{listed}{planes}</Pixels>"
        f"{reference}</Image>{values}</OME>"
    )


def _channel(number: int, channel: Channel, samples: int) -> str:
    """The element of one channel."""
    name = "" if channel.name is None else f" Name={_quoted(channel.name)}"
    colour = ""
    if channel.colour is not None:
        red, green, blue = channel.colour
        packed = int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)
        colour = f' Color="{packed}"'
    return f'<Channel ID="Channel:0:{number}"{name} SamplesPerPixel="{samples}"{colour}/>'


def _text(value: str) -> str:
    """Text as element content; characters that XML cannot hold become U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", value))


def _quoted(value: str) -> str:
    """Text as an attribute, with its quotes; a line break, which only a reference could keep, becomes a space."""
    return quoteattr(re.sub(r"[\t\n\r]", " ", _NOT_XML.sub("\ufffd", value)))
