"""One self-contained HTML page: text, tables and figures; no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image, UnidentifiedImageError

from wsi_deform.files import write_aside, write_text
from wsi_deform.report.tables import Table

TEMPLATES = Path(__file__).parent / "templates"
LARGE_PNG_BYTES = 200_000
JPEG_QUALITY = 88
SLIDE_PX, SLIDE_QUALITY = 1400, 84
"""Longer side of pictures of slides, and their quality."""
SLIDES_BYTES = 3_000_000
"""Of all pictures of slides in a page, before they become text: with the rest it stays below 5 MB."""
BROAD_PX = 1000
"""Figures that are wider have a row of their own."""
MADE = "How it was made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number that stands out at the top of a page.

    Attributes:
        value: The number, as people read it.
        what: What it counts.
        more: What else must be known of it, such as its interval.
    """

    value: str
    what: str
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure of a page.

    Attributes:
        image: PNG or JPEG bytes.
        caption: What it shows; also read to those who cannot see it.
        is_slide: Whether it is of a slide: it is made small enough, and left out of a page that has too many.
        name: Its file's name without suffix, where figures are written as files too.
        draw: Draws it anew as "png" or "svg"; None for what cannot be drawn as lines.
        only_file: Whether it is for the folder of figures alone: the page says the same in a table.
    """

    image: bytes
    caption: str
    is_slide: bool = False
    name: str = ""
    draw: Callable[..., bytes] | None = None
    only_file: bool = False

    @classmethod
    def drawn(
        cls, name: str, caption: str, draw: Callable[..., bytes], *, only_file: bool = False
    ) -> Picture:
        """A figure that can be written as a file.

        Args:
            name: The file's name without suffix.
            caption: What it shows.
            draw: Draws it, given ``form``, "png" or "svg".
            only_file: Whether it is not in the page.
        """
        image = b"" if only_file else draw(form="png")
        return cls(image=image, caption=caption, name=name, draw=draw, only_file=only_file)

    @property
    def is_wide(self) -> bool:
        """Whether it needs a row of its own."""
        try:
            with Image.open(io.BytesIO(self.image)) as opened:
                return opened.width > BROAD_PX or self.is_slide
        except UnidentifiedImageError:
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page, in this order: heading, text, legend, table, notes, pictures, quotes.

    Attributes:
        title: The heading.
        text: Paragraphs.
        table: A table, or None.
        notes: Paragraphs below the table, such as what is left out of it.
        pictures: Figures; small ones side by side.
        quote: Text whose line ends matter, e.g. a traceback or YAML; hidden until asked for.
        legend: Names and colours, RGB of 0 to 255, of classes in the pictures.
        heading: Its level, 2 or 3; those of 2 are in the list of contents.
        folded: Whether only the heading is seen until it is asked for.
        pictures_first: Whether the pictures stand above the table.
    """

    title: str
    text: Sequence[str] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    quote: Mapping[str, str] = field(default_factory=dict)
    legend: Sequence[tuple[str, Sequence[int]]] = ()
    heading: int = 2
    folded: bool = False
    pictures_first: bool = False


def write_report(
    path: Path | str,
    *,
    title: str,
    lead: Sequence[str] = (),
    facts: Sequence[Fact] = (),
    sections: Sequence[Section] = (),
    provenance: Mapping[str, Any] | None = None,
    figures: Path | None = None,
) -> Path:
    """Write a report.

    Args:
        path: The ``.html``; whole or absent.
        title: Of the page.
        lead: Paragraphs that say what was done.
        facts: Numbers to see first.
        sections: The body.
        provenance: What ``provenance.provenance`` gave, and anything else that says how the page was made.
        figures: A folder that gets the figures as PNG and SVG, or None. Files of the same names are replaced.

    Returns:
        The path.

    Convention:
        All text is plain text; ``<`` and ``&`` show as themselves. What follows a line end in a cell is set small.
    """
    shown = _small_enough(sections)
    contents = [(place, each.title) for place, each in enumerate(shown, start=1) if each.heading == 2]
    page = _template().render(
        title=title,
        lead=lead,
        facts=facts,
        sections=shown,
        contents=[*contents, *([("made", MADE)] if provenance is not None else [])],
        made=None if provenance is None else _flat(provenance),
        MADE=MADE,
    )
    write_text(path, page)
    if figures is not None:
        write_figures(sections, figures)
    return Path(path)


def write_figures(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write the figures of a page as PNG and SVG, each file whole or absent.

    Args:
        sections: Of the page.
        folder: Where to; made if missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for picture in (each for section in sections for each in section.pictures):
        if picture.draw is None:
            continue
        for form in ("png", "svg"):
            path = folder / f"{picture.name}.{form}"
            with write_aside(path) as aside:
                aside.write_bytes(picture.draw(form=form))
            written.append(path)
    return written


def _small_enough(sections: Sequence[Section]) -> list[Section]:
    """Pictures of slides as small as a page wants them, and no more of them than it can hold."""
    kept, used, left_out = [], 0, 0
    for section in sections:
        pictures = []
        there = [picture for picture in section.pictures if not picture.only_file]
        for picture in there:
            shown = _reduced(picture) if picture.is_slide else picture
            if picture.is_slide and used + len(shown.image) > SLIDES_BYTES:
                left_out += 1
                continue
            used += len(shown.image) if picture.is_slide else 0
            pictures.append(shown)
        text = list(section.text)
        if fewer := len(there) - len(pictures):
            text.append(f"{fewer} picture{'s' if fewer > 1 else ''} left out: the page would be too large.")
        kept.append(replace(section, pictures=pictures, text=text) if fewer else
                    replace(section, pictures=pictures))  # fmt: skip
    return kept


def _reduced(picture: Picture) -> Picture:
    """A picture of a slide with its longer side as a page shows it, as JPEG where that is smaller."""
    try:
        with Image.open(io.BytesIO(picture.image)) as opened:
            if max(opened.size) <= SLIDE_PX and len(picture.image) <= LARGE_PNG_BYTES:
                return picture
            shown = opened.convert("RGB")
    except UnidentifiedImageError:
        return picture
    shown.thumbnail((SLIDE_PX, SLIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, format="JPEG", quality=SLIDE_QUALITY)
    return picture if buffer.tell() >= len(picture.image) else replace(picture, image=buffer.getvalue())


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


def _inlined(picture: Picture) -> str:
    """A data URI; a large PNG of tissue becomes a JPEG a tenth of its size, one of plain areas stays as it is."""
    image = picture.image
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
