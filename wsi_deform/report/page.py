"""One self-contained HTML page: text, tables and figures; no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from wsi_deform.files import write_text
from wsi_deform.report.tables import Table

TEMPLATES = Path(__file__).parent / "templates"
LARGE_PNG_BYTES = 200_000
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number that stands out at the top of a page.

    Attributes:
        value: The number, as people read it.
        what: What it counts.
    """

    value: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure of a page.

    Attributes:
        image: PNG or JPEG bytes.
        caption: What it shows; also read to those who cannot see it.
    """

    image: bytes
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page, in this order: heading, text, table, pictures.

    Attributes:
        title: The heading.
        text: Paragraphs.
        table: A table, or None.
        pictures: Figures, one below the other.
        quote: Text whose line ends matter, e.g. a traceback or YAML; hidden until asked for.
    """

    title: str
    text: Sequence[str] = ()
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    quote: Mapping[str, str] = field(default_factory=dict)


def write_report(
    path: Path | str,
    *,
    title: str,
    lead: Sequence[str] = (),
    facts: Sequence[Fact] = (),
    sections: Sequence[Section] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report.

    Args:
        path: The ``.html``; whole or absent.
        title: Of the page.
        lead: Paragraphs that say what was done.
        facts: Numbers to see first.
        sections: The body.
        provenance: What ``provenance.provenance`` gave, and anything else that says how the page was made.

    Returns:
        The path.

    Convention:
        All text is plain text; ``<`` and ``&`` show as themselves.
    """
    page = _template().render(
        title=title,
        lead=lead,
        facts=facts,
        sections=sections,
        made=None if provenance is None else _flat(provenance),
    )
    write_text(path, page)
    return Path(path)


@cache
def _template() -> Template:
    """The page; text is escaped, and a name that it does not get is an error."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["inlined"] = _inlined
    return pages.get_template("page.html")


def _inlined(image: bytes) -> str:
    """A data URI; a large PNG of tissue becomes a JPEG a tenth of its size, one of plain areas stays as it is."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    if kind == "png" and len(image) > LARGE_PNG_BYTES:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(image)) as opened:
            opened.convert("RGB").save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        if buffer.tell() < len(image):
            kind, image = "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested data as (name, value) in its order; what is None is left out."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        label = prefix + ("wsi-deform" if name == "wsi_deform" else str(name).replace("_", " "))
        if isinstance(value, Mapping):
            rows += _flat(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            rows.append((label, " ".join(str(part) for part in value)))
        elif value is not None:
            rows.append((label, str(value)))
    return rows
