"""XML of strangers as a stream of starts and ends: no entities, nothing from outside, no tree in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from wsi_deform.texts import MAX_DEPTH

Event = tuple[str, "dict[str, str] | str"]
"""The name of an element with its attributes where it starts, or with its text where it ends."""

CHUNK_BYTES = 1 << 18


def xml_events(data: bytes) -> Iterator[Event]:
    """Walk through XML.

    Args:
        data: The bytes of a file, in an encoding that it declares or that is UTF-8 or UTF-16.

    Yields:
        (name, attributes) where an element starts, (name, text) where it ends; the text is what stands directly before
        its end, after its last child.

    Raises:
        ValueError: It is no sound XML, is nested too deeply, or declares entities or external parts.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.expatreader import create_parser

    collected = _Collected()
    try:
        parser = create_parser()
        parser.setContentHandler(collected)
        for start in range(0, len(data), CHUNK_BYTES):
            parser.feed(data[start : start + CHUNK_BYTES])
            yield from collected.taken()
        parser.close()
        yield from collected.taken()
    except DefusedXmlException as error:
        raise ValueError(f"it declares entities or parts outside of it: {error}") from error
    # An unknown encoding is a LookupError.
    except (SAXException, LookupError) as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Collected(ContentHandler):
    """Events that were met since they were last taken."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[Event] = []
        self._text: list[str] = []
        self._depth = 0

    def taken(self) -> list[Event]:
        found, self._events = self._events, []
        return found

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802, D102  the name is SAX's
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        self._text.clear()
        self._events.append((name, dict(attrs.items())))

    def endElement(self, name: str) -> None:  # noqa: N802, D102
        self._depth -= 1
        self._events.append((name, "".join(self._text)))
        self._text.clear()

    def characters(self, content: str) -> None:  # noqa: D102
        self._text.append(content)
