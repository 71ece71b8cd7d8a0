"""The addresses of the page, and what each answers; knows nothing of sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import ShapeError, WsiDeformError
from wsi_deform.geometry import Region
from wsi_deform.look.lowres import thumbnail
from wsi_deform.mask.overlay_file import picture_in_overlay
from wsi_deform.slide.cache import TileCache
from wsi_deform.slide.picture import opened_picture
from wsi_deform.viewer import answers
from wsi_deform.viewer.catalogue import Catalogue, Entry
from wsi_deform.viewer.opened import Opened, OpenEntry
from wsi_deform.viewer.overlays import LabelPyramid, class_png, footprint_png, probability_png
from wsi_deform.viewer.slide_tiles import jpeg_of, slide_tile, white_tile

THUMBNAIL_PX = 240
# Encoded tiles that are kept; tiles of slides are kept decoded by ``slide.cache`` too.
ENCODED_BYTES = 32 << 20
# Tiles that are made at once, and of one slide: one whose coarse levels are being built does not hold up the others.
RENDERING_THREADS, THREADS_OF_A_SLIDE, THUMBNAIL_THREADS = 6, 2, 2
CLASSES_SHOWN_AT_MOST = 1 << 255

PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("main", "asked", "view", "legend", "list", "drawn", "keys")
    },
    "openseadragon.min.js": ("openseadragon/openseadragon.min.js", "text/javascript; charset=utf-8"),
}
JSON, JPEG, PNG = "application/json", "image/jpeg", "image/png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back.

    Attributes:
        status: Of HTTP.
        kind: Media type.
        body: Bytes, or the file that holds them.
        name: Of a download; else empty.
        place: Where the browser shall go; else empty.
    """

    status: int = 200
    kind: str
    body: bytes | Path
    name: str = ""
    place: str = ""


class NotFoundError(WsiDeformError):
    """Nothing has this address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request about one slide."""

    entry: Entry
    parts: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)


class Site:
    """All answers about a catalogue; safe in threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Open nothing yet."""
        self.catalogue = catalogue
        self.opened = Opened()
        self._encoded = TileCache(ENCODED_BYTES)
        self._rendering = threading.BoundedSemaphore(RENDERING_THREADS)
        self._rendering_of: dict[str, threading.BoundedSemaphore] = {}
        self._thumbnails = threading.BoundedSemaphore(THUMBNAIL_THREADS)
        self._routes: dict[str, Callable[[_Asked], Answer]] = {
            "info.json": self._info,
            "thumbnail.jpg": self._thumbnail,
            "pixels": self._pixels,
            "mask": self._mask,
            "probabilities": self._probabilities,
            "footprint": self._footprint,
            "samples.json": self._samples,
            "measurements.csv": self._measurements,
            "outlines.geojson.gz": self._outlines,
        }

    def answer(self, target: str) -> Answer:
        """Answer a request.

        Args:
            target: Path and query, without the token and its slash.

        Returns:
            The answer; 404 where nothing has this address, 422 where a file cannot be read or shown, with
            ``{"error": text}``.
        """
        try:
            return self._answer(target)
        except NotFoundError as error:
            return _json({"error": str(error)}, status=404)
        except WsiDeformError as error:
            return _json({"error": " ".join(str(error).split())}, status=422)

    def _answer(self, target: str) -> Answer:
        split = urlsplit(f"/{target}")
        path = split.path.removeprefix("/")
        if path in PAGE:
            name, kind = PAGE[path]
            return Answer(kind=kind, body=(files("wsi_deform.viewer") / "page" / name).read_bytes())
        if path == "slides.json":
            return _json(answers.listed(self.catalogue))
        what, *parts = (unquote(part) for part in path.split("/"))
        if what != "slide" or len(parts) < 2 or parts[1] not in self._routes:
            raise NotFoundError("nothing has this address")
        entry = self.catalogue.entry(parts[0])
        if entry is None:
            raise NotFoundError(f"slide {parts[0]!r}: not among those that are shown. Load the page again.")
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        return self._routes[parts[1]](_Asked(entry=entry, parts=tuple(parts[2:]), query=query))

    def _info(self, asked: _Asked) -> Answer:
        opened, rows = self._open(asked), self.catalogue.rows(asked.entry.slide_id)
        return _json(answers.described(opened, self.catalogue.classes, rows))

    def _thumbnail(self, asked: _Asked) -> Answer:
        """The overlay where there is one, which needs no slide; nothing where there is no picture."""
        overlay = asked.entry.files.get("overlay")
        with self._thumbnails:
            try:
                picture = _small(overlay) if overlay else self._of_slide(asked)
            except WsiDeformError:
                picture = b""  # why, is said where the slide is looked at
        return Answer(status=200 if picture else 204, kind=JPEG, body=picture)

    def _of_slide(self, asked: _Asked) -> bytes:
        slide = self._open(asked).slide
        return b"" if slide is None else jpeg_of(thumbnail(slide, THUMBNAIL_PX))

    def _pixels(self, asked: _Asked) -> Answer:
        def made(opened: OpenEntry, step: int, column: int, row: int) -> bytes:
            if opened.slide is None:
                return jpeg_of(white_tile(opened.frame, step, column, row))
            return jpeg_of(slide_tile(opened.slide, opened.frame, step, column, row))

        return self._tile(asked, "jpg", made)

    def _mask(self, asked: _Asked) -> Answer:
        shown = _hex(asked.query.get("show", ""))
        classes = self._classes()

        def made(opened: OpenEntry, step: int, column: int, row: int) -> bytes:
            labels = _layer(opened, "mask").tile(opened.frame, step, column, row)[..., 0]
            return class_png(labels, classes.colours, shown)

        return self._tile(asked, "png", made)

    def _probabilities(self, asked: _Asked) -> Answer:
        classes = self._classes()
        number = _whole(asked.query.get("class", ""))

        def made(opened: OpenEntry, step: int, column: int, row: int) -> bytes:
            layer = _layer(opened, "probabilities")
            if not 0 <= number < min(layer.channels, classes.count):
                raise ShapeError(f"class {number}: needed 0 to {min(layer.channels, classes.count) - 1}.")
            found = layer.tile(opened.frame, step, column, row)[..., number]
            return probability_png(found, classes.colours[number])

        return self._tile(asked, "png", made)

    def _footprint(self, asked: _Asked) -> Answer:
        def made(opened: OpenEntry, step: int, column: int, row: int) -> bytes:
            return footprint_png(_layer(opened, "footprint").tile(opened.frame, step, column, row)[..., 0])

        return self._tile(asked, "png", made)

    def _samples(self, asked: _Asked) -> Answer:
        if "samples" not in asked.entry.files:
            raise NotFoundError(f"slide {asked.entry.slide_id}: has no samples")
        region = Region(*(_whole(asked.query.get(name, "")) for name in ("x", "y", "width", "height")))
        if region.is_empty:
            raise ShapeError(f"{region}: needed at least 1 x 1 px.")
        return _json(answers.sample_points(self._open(asked), region))

    def _measurements(self, asked: _Asked) -> Answer:
        rows = self.catalogue.rows(asked.entry.slide_id)
        if not rows:
            raise NotFoundError(f"slide {asked.entry.slide_id}: has no rows in measurements.csv")
        name = f"{asked.entry.slide_id}.csv"
        return Answer(kind="text/csv; charset=utf-8", body=answers.measurements_csv(rows), name=name)

    def _outlines(self, asked: _Asked) -> Answer:
        if "geojson" not in asked.entry.files:
            raise NotFoundError(f"slide {asked.entry.slide_id}: has no outlines")
        path = asked.entry.files["geojson"]
        return Answer(kind="application/gzip", body=path, name=path.name)

    def _open(self, asked: _Asked) -> OpenEntry:
        return self.opened.get(asked.entry)

    def _classes(self) -> ClassTable:
        return self.catalogue.classes or ClassTable.from_names([f"class {number}" for number in range(8)])

    def _tile(self, asked: _Asked, suffix: str, made: Callable[[OpenEntry, int, int, int], bytes]) -> Answer:
        """A tile by its address ``.../STEP/COLUMN_ROW.SUFFIX``, made unless it is kept."""
        place = asked.parts[-1].removesuffix(f".{suffix}").split("_") if len(asked.parts) == 2 else []
        if len(place) != 2 or not asked.parts[-1].endswith(f".{suffix}"):
            raise NotFoundError("nothing has this address")
        step, column, row = (_whole(each) for each in (asked.parts[0], *place))
        key = (
            asked.entry.slide_id,
            asked.entry.version,
            made.__qualname__,
            step,
            column,
            row,
            *asked.query.items(),
        )
        own = self._rendering_of.setdefault(
            asked.entry.slide_id, threading.BoundedSemaphore(THREADS_OF_A_SLIDE)
        )
        with own, self._rendering:
            found = self._encoded.get(
                key, lambda: np.frombuffer(made(self._open(asked), step, column, row), np.uint8)
            )
        return Answer(kind=JPEG if suffix == "jpg" else PNG, body=found.tobytes())


def _layer(opened: OpenEntry, kind: str) -> LabelPyramid:
    if kind not in opened.layers:
        raise NotFoundError(f"slide {opened.entry.slide_id}: has no {kind} that can be shown")
    return opened.layers[kind]


def _small(path: Path) -> bytes:
    """A picture, smaller; of an overlay the slide alone."""
    with opened_picture(path) as picture:
        place = picture_in_overlay(picture)
        if place is None:
            picture.draft("RGB", (THUMBNAIL_PX, THUMBNAIL_PX))
        else:  # words are too small to read here
            picture = picture.crop(place)
        picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        file = BytesIO()
        picture.convert("RGB").save(file, format="JPEG", quality=80)
    return file.getvalue()


def _whole(text: str) -> int:
    """A whole number that an address has."""
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 12):
        raise ShapeError(f"{text[:40]!r}: needed a whole number.")
    return int(text)


def _hex(text: str) -> int:
    """Which classes are shown, a bit each; all where nobody says."""
    if not text:
        return CLASSES_SHOWN_AT_MOST - 1
    try:
        return int(text[:64], 16)
    except ValueError as error:
        raise ShapeError(f"show {text[:40]!r}: needed hexadecimal digits.") from error


def _json(data: object, *, status: int = 200) -> Answer:
    return Answer(status=status, kind=JSON, body=json.dumps(data, ensure_ascii=False).encode())
