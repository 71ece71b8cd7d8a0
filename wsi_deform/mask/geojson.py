"""The outlines of a mask as GeoJSON, as QuPath and others read it.

QuPath (0.4 and newer) reads ``.geojson.gz``, takes level-0 pixels of the image *as it shows it*, wants a colour with
each class name, and rejects polygons that are not valid. It decodes text with the encoding of the machine, so that
the file is plain ASCII.
"""

from __future__ import annotations

import gzip
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.files import write_aside
from wsi_deform.geometry import Mpp, Point, Region, both_axes
from wsi_deform.kernels.compiled import Longs, compiled
from wsi_deform.mask.bands import mask_bands, open_mask
from wsi_deform.mask.polygons import PINNED_UNLABELLED, Polygon, polygons
from wsi_deform.mask.simplify import PARTS_OF_PX, Simplifier
from wsi_deform.slide.tiff.tiles import TiffTiles

FORMAT = 1
"""Version of the member "wsi_deform" of the file."""

MAX_FEATURES = 10_000
"""With more components than this, each class is one feature: a list of more annotations is of no use to people, and
QuPath is slow with it."""

MASK_SUFFIX = ".ome.tif"
COMPRESSION = 6

Rings = tuple[NDArray[Any], ...]
"""(N, 2) int32 each, or float64 if simpler: the outer ring, then the holes."""

_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "wsi-deform")
_BYTES_PER_VERTEX = 30  # [2147483647.12,2147483647.12],
_ZERO, _COMMA, _OPEN, _CLOSE, _POINT = 48, 44, 91, 93, 46


@dataclass(frozen=True, slots=True, kw_only=True)
class GeojsonSummary:
    """What was written.

    Attributes:
        downsample: Level-0 px per pixel of the level that was outlined.
        features: Number of features.
        polygons: Number of polygons in them.
        vertices: Number of their vertices.
    """

    downsample: int
    features: int
    polygons: int
    vertices: int


def write_geojson(
    path: Path,
    mask: Path,
    *,
    classes: ClassTable,
    downsample: int = 1,
    shown: Region | None = None,
    max_features: int = MAX_FEATURES,
    mpp: Mpp | None = None,
    tolerance_um: float = 0.0,
    min_area_um2: float = 0.0,
    meanings: Mapping[int, int] | None = None,
) -> GeojsonSummary:
    """Write the outlines of a mask: the exact edges of the pixels of one of its levels, or simpler ones.

    Args:
        path: The file, by custom ``<slide_id>.geojson.gz``. Replaced if it exists; whole or absent.
        mask: The mask file that ``write_mask`` wrote.
        classes: Names and colours. The background class gets no outline, nor does 255, unlabelled.
        downsample: Most level-0 px per pixel of the level that is outlined: the coarsest such level is taken. 1 gives
            the edges of the mask itself, ``coarse.map_downsample`` what the samples can tell.
        shown: What viewers show of the slide, level-0 px (``Slide.bounds``); default all of it. Outlines are cut off
            at its edges, and counted from its corner.
        max_features: With more components than this each class is one feature.
        mpp: Level-0 um per pixel, needed for the next two.
        tolerance_um: How far a vertex that is left out may lie from the outline; 0 leaves none out.
        min_area_um2: Components that are smaller get no outline, and smaller holes are filled.
        meanings: Pixel value -> class index, or 255 for unlabelled; default: a value is its index.

    Returns:
        What was written.

    Raises:
        MaskError: The mask cannot be read or has a label without a class, or the file cannot be written; nothing is
            left behind, and an older file of this name stays as it was.
        ShapeError: The downsample is below 1, or nothing of the slide is shown; um are given without mpp or are no
            number of 0 or more; the table has too many classes for simpler outlines.

    Convention:
        A feature is an annotation with class name and colour: one component of pixels of a class that share edges, a
        Polygon with holes, or, where there are too many, a class as one MultiPolygon. Coordinates are whole level-0
        px from the corner of what is shown; of simpler outlines hundredths. Those are valid too, and two components
        with a border in common go on sharing it: no gaps, no overlaps (``simplify``). Same mask, same bytes; a
        component has the same id in every run. The member "wsi_deform", on the first line, says what the outlines
        were made from; each feature has a line.
    """
    if downsample < 1:
        raise ShapeError(f"geojson {path}: downsample {downsample}. Needed 1 or more level-0 px per pixel.")
    for name, given in (("tolerance", tolerance_um), ("min area", min_area_um2)):
        if not (math.isfinite(given) and given >= 0) or (given and mpp is None):
            raise ShapeError(
                f"geojson {path}: {name} {given}{'' if mpp else ' um without mpp'}. Needed 0 or more, and um per pixel."
            )
    tiles = open_mask(mask)
    try:
        unit = Point(1.0, 1.0) if mpp is None else both_axes(mpp)
        outlined = _Outlined(
            mask, tiles, classes, downsample, shown, unit, tolerance_um, min_area_um2, meanings
        )
        with write_aside(path) as aside:
            try:
                return _write(aside, outlined, _features(outlined, max_features))
            except _TooManyError:
                return _write(aside, outlined, _class_features(outlined))
    except OSError as error:
        raise MaskError(
            f"geojson {path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
    finally:
        tiles.close()


class _TooManyError(Exception):
    """There are more components than features are wanted."""


class _Outlined:
    """A level of a mask, and how its outlines become features."""

    def __init__(
        self,
        mask: Path,
        tiles: TiffTiles,
        classes: ClassTable,
        downsample: int,
        shown: Region | None,
        mpp: Point,
        tolerance_um: float,
        min_area_um2: float,
        meanings: Mapping[int, int] | None,
    ) -> None:
        self.mask = mask
        self.meanings = meanings
        self.slide_id = mask.name.removesuffix(MASK_SUFFIX)
        self.tiles = tiles
        self.classes = classes
        self.shown = (
            Region.whole(tiles.size) if shown is None else shown.intersection(Region.whole(tiles.size))
        )
        if self.shown.is_empty:
            raise ShapeError(
                f"mask {mask}: shown {shown} holds nothing of its {tiles.size} px. Needed a part of it."
            )
        self.level = min(downsample.bit_length(), len(tiles.levels)) - 1
        self.step = 1 << self.level
        self.tolerance_um, self.min_area_um2 = tolerance_um, min_area_um2
        self._min_area_px = min_area_um2 / (mpp.x * mpp.y)
        self._simplifier: Simplifier | None = None
        if tolerance_um:
            self._simplifier = Simplifier(tolerance_um, (mpp.x, mpp.y))
            self._settle()

    def _settle(self) -> None:
        """Look at all polygons until they are valid in as few vertices as the tolerance lets them have."""
        simplifier = cast(Simplifier, self._simplifier)
        if self.classes.count > PINNED_UNLABELLED:
            raise ShapeError(
                f"mask {self.mask}: {self.classes.count} classes. Needed at most {PINNED_UNLABELLED} for "
                "simpler outlines. Leave the tolerance out."
            )
        while simplifier.settle(polygon for _, polygon in self._traced(set(), pinned=True)):
            pass

    def polygons(self, labels: Iterable[int] | None = None) -> Iterator[tuple[str, int, Rings]]:
        """Polygons of some labels (default: of all that get outlines), level-0 px from the corner of what is shown.

        Yields:
            The level-0 px of a polygon's first vertex, by which it is known in every run; its label; its rings.
        """
        if labels is None:
            background = self.classes.background
            void = {UNLABELLED} if background is None else {UNLABELLED, background}
        else:
            void = set(range(256)).difference(labels)
        if self._simplifier is None:
            found = self._traced(void)
        else:
            # All are followed, as they were looked at: what meets where must be the same.
            void.add(PINNED_UNLABELLED)
            traced = self._traced(set(), pinned=True)
            found = ((where, each) for where, each in traced if each.label not in void)
        for where, polygon in found:
            if polygon.label >= self.classes.count:
                raise MaskError(
                    f"mask {self.mask}: label {polygon.label}, but the class table has {self.classes.count} classes. "
                    "Needed the table of this mask. Take the classes.json beside it."
                )
            rings: Rings = polygon.rings if self._simplifier is None else self._simplifier.rings(polygon)
            if self._min_area_px:
                sizes = [_area_px(ring) for ring in polygon.rings]
                if sizes[0] - sum(sizes[1:]) < self._min_area_px:
                    continue
                rings = (
                    rings[0],
                    *(r for r, size in zip(rings[1:], sizes[1:], strict=True) if size >= self._min_area_px),
                )
            yield where, polygon.label, rings

    def _traced(self, void: set[int], *, pinned: bool = False) -> Iterator[tuple[str, Polygon]]:
        """The exact outlines, as ``polygons`` yields them."""
        left, top = self.shown.x >> self.level, self.shown.y >> self.level
        right, bottom = -(-self.shown.right >> self.level), -(-self.shown.bottom >> self.level)
        part = Region(left, top, right - left, bottom - top)
        bands = mask_bands(self.tiles, self.level, part, meanings=self.meanings)
        corner = np.array([self.shown.x, self.shown.y])
        most = np.array([self.shown.width, self.shown.height])
        for polygon in polygons(bands, (left, right), top=top, void=void, pinned=pinned):
            x, y = polygon.rings[0][0].tolist()
            rings = (np.clip(ring.astype(np.int64) * self.step - corner, 0, most) for ring in polygon.rings)
            placed = tuple(ring.astype(np.int32) for ring in rings)
            yield (
                f"{x * self.step},{y * self.step}",
                Polygon(label=polygon.label, rings=placed, pins=polygon.pins),
            )

    def head(self) -> str:
        """The member that says what the outlines were made from."""
        about: dict[str, Any] = {
            "format": FORMAT,
            "slide": self.slide_id,
            "width_px": self.shown.width,
            "height_px": self.shown.height,
            "offset_px": [self.shown.x, self.shown.y],
            "downsample": self.step,
        }
        if self.tolerance_um:
            about["tolerance_um"] = self.tolerance_um
        if self.min_area_um2:
            about["min_area_um2"] = self.min_area_um2
        return json.dumps(about, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Bytes of the list of features, and what they hold."""

    data: bytes
    features: int = 0
    vertices: int = 0
    polygons: int = 0


def _write(path: Path, outlined: _Outlined, pieces: Iterable[_Piece]) -> GeojsonSummary:
    """Write a file of features."""
    features = vertices = count = 0
    with path.open("wb") as file:
        # Neither the name, which is not the final one, nor the time gets into the file.
        zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=file, mtime=0)
        with cast(BinaryIO, zipped) as out:
            out.write(f'{{"type":"FeatureCollection","wsi_deform":{outlined.head()},"features":['.encode())
            for piece in pieces:
                if piece.features:
                    out.write(b",\n" if features else b"\n")
                out.write(piece.data)
                features += piece.features
                vertices += piece.vertices
                count += piece.polygons
            out.write(b"\n]}\n")
    return GeojsonSummary(downsample=outlined.step, features=features, polygons=count, vertices=vertices)


def _features(outlined: _Outlined, most: int) -> Iterator[_Piece]:
    """One feature per component.

    Raises:
        _TooManyError: There are more than ``most``.
    """
    number = 0
    for number, (where, label, rings) in enumerate(outlined.polygons(), start=1):
        if number > most:
            continue  # to the end: a label without a class is told in any case
        begin, end = _around(outlined, label, where, "Polygon")
        yield _Piece(
            data=begin + _rings_text(rings) + end,
            features=1,
            polygons=1,
            vertices=sum(map(len, rings)),
        )
    if number > most:
        raise _TooManyError


def _class_features(outlined: _Outlined) -> Iterator[_Piece]:
    """One feature per class, each from a pass of its own over the mask: none is held in memory."""
    for label in range(outlined.classes.count):
        if label == outlined.classes.background:
            continue
        begin, end = _around(outlined, label, "all", "MultiPolygon")
        found = False
        for _, _, rings in outlined.polygons([label]):
            yield _Piece(
                data=(b"," if found else begin + b"[") + _rings_text(rings),
                features=0 if found else 1,
                polygons=1,
                vertices=sum(map(len, rings)),
            )
            found = True
        if found:
            yield _Piece(data=b"]" + end)


def _around(outlined: _Outlined, label: int, where: str, kind: str) -> tuple[bytes, bytes]:
    """What stands before and behind the coordinates of a feature."""
    name = outlined.classes.names[label]
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "classification": {"name": name, "color": list(outlined.classes.colours[label])},
    }
    feature = uuid.uuid5(_IDS, json.dumps([outlined.slide_id, name, where]))
    begin = f'{{"type":"Feature","id":"{feature}","geometry":{{"type":"{kind}","coordinates":'
    return begin.encode(), f'}},"properties":{json.dumps(properties, separators=(",", ":"))}}}'.encode()


def _area_px(ring: NDArray[np.int32]) -> float:
    """What a ring encloses."""
    x, y = ring.T.astype(np.float64)
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _rings_text(rings: Rings) -> bytes:
    """The coordinates of a polygon as JSON."""
    return b"[" + b",".join(map(_ring_text, rings)) + b"]"


def _ring_text(ring: NDArray[Any]) -> bytes:
    """A ring as JSON, closed by its first vertex; of whole px, or of hundredths where it is simpler."""
    text = np.empty((len(ring) + 1) * _BYTES_PER_VERTEX + 2, np.uint8)
    if ring.dtype == np.int32:
        return text[: _put_ring(ring.astype(np.int64), 0, text)].tobytes()
    return text[: _put_ring(np.rint(ring * PARTS_OF_PX).astype(np.int64), 2, text)].tobytes()


@compiled
def _put_ring(ring: Longs, decimals: int, text: NDArray[np.uint8]) -> int:
    """Write the vertices of a ring, none below 0, and the first once more; returns the number of bytes.

    Args:
        ring: (N, 2) whole numbers.
        decimals: How many of their last digits stand behind the point; there zeros at the end are left out.
        text: Where to.
    """
    count = len(ring)
    text[0], at = _OPEN, 1
    for i in range(count + 1):
        for axis in range(2):
            value = ring[i % count, axis]
            behind = decimals
            while behind > 0 and value % 10 == 0:
                behind, value = behind - 1, value // 10
            digits, rest = 1, value // 10
            while rest > 0 or digits <= behind:
                digits, rest = digits + 1, rest // 10
            text[at] = _COMMA if axis else _OPEN
            at += 1 + digits + (1 if behind > 0 else 0)
            for back in range(1, digits + 1):
                text[at - back - (1 if 0 < behind < back else 0)] = _ZERO + value % 10
                value //= 10
            if behind > 0:
                text[at - behind - 1] = _POINT
        text[at], text[at + 1] = _CLOSE, _COMMA
        at += 2
    text[at - 1] = _CLOSE
    return at
