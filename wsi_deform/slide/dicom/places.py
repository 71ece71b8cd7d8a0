"""Where the frames of a sparse DICOM image lie, by what each frame says of itself."""

from __future__ import annotations

import re
import struct
from typing import Any

from wsi_deform.slide.dicom.instance import FramePlace, Instance
from wsi_deform.slide.dicom.values import items, number, spacing_um, whole

GROUPS = 0x52009230
# Elements as explicit little endian stores them: tag, type, and a length of two bytes.
COLUMN = re.compile(rb"\x48\x00\x1e\x02SL\x04\x00(.{4})", re.DOTALL)
ROW = re.compile(rb"\x48\x00\x1f\x02SL\x04\x00(.{4})", re.DOTALL)
DEPTH = re.compile(rb"\x40\x00\x4a\x07DS(.)\x00", re.DOTALL)
PATH = re.compile(rb"\x48\x00\x06\x01SH(.)\x00", re.DOTALL)
SPACING = re.compile(rb"\x28\x00\x30\x00DS(.)\x00", re.DOTALL)


def frame_places(dataset: Any, instance: Instance) -> tuple[FramePlace, ...]:
    """Where each frame lies.

    Args:
        dataset: With the per-frame functional groups.
        instance: The header of the file.

    Returns:
        A place for each frame that has groups, in order.

    Raises:
        ValueError: A group holds something else than numbers.
    """
    raw = dataset.get_item(GROUPS) if GROUPS in dataset else None
    stored = getattr(raw, "value", None)
    # To parse 10,000 frames takes pydicom 4 s; they say the same few things, each once.
    if isinstance(stored, bytes) and (found := _scanned(stored, instance)):
        return found
    return _parsed(dataset, instance)


def frame_spacings(dataset: Any) -> tuple[tuple[float, float], ...]:
    """Um per pixel along x and y that the frames say, each once, in order.

    Args:
        dataset: With the per-frame functional groups, or without.
    """
    raw = dataset.get_item(GROUPS) if GROUPS in dataset else None
    stored = getattr(raw, "value", None)
    found: list[tuple[float, float] | None] = []
    if isinstance(stored, bytes):
        # As with places: 10,000 frames say the same few things.
        found = [spacing_um(text.split("\\")) for text in dict.fromkeys(_texts(SPACING, stored))]
    if not any(found):
        found = [
            spacing_um(measures.get("PixelSpacing"))
            for group in items(dataset, "PerFrameFunctionalGroupsSequence")
            for measures in items(group, "PixelMeasuresSequence")
        ]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _scanned(stored: bytes, instance: Instance) -> tuple[FramePlace, ...]:
    """By the bytes of all groups; nothing where they do not say each thing once per frame, or never."""
    columns, rows = COLUMN.findall(stored), ROW.findall(stored)
    depths, paths = _texts(DEPTH, stored), _texts(PATH, stored)
    count = instance.frames
    if len(columns) != count or len(rows) != count or not {len(depths), len(paths)} <= {0, count}:
        return ()
    depths = depths or [str(instance.depth)] * count
    paths = paths or [""] * count
    return tuple(
        FramePlace(struct.unpack("<i", x)[0] - 1, struct.unpack("<i", y)[0] - 1, float(depth), path)
        for x, y, depth, path in zip(columns, rows, depths, paths, strict=True)
    )


def _texts(pattern: re.Pattern[bytes], stored: bytes) -> list[str]:
    """The values of all elements that a pattern finds."""
    found = ((one.end(), one[1][0]) for one in pattern.finditer(stored))
    return [stored[start : start + length].strip(b"\0 ").decode("latin-1") for start, length in found]


def _parsed(dataset: Any, instance: Instance) -> tuple[FramePlace, ...]:
    """By the functional groups of each frame."""
    found = []
    for group in items(dataset, "PerFrameFunctionalGroupsSequence"):
        (place,) = items(group, "PlanePositionSlideSequence") or (group,)
        depth = number(place, "ZOffsetInSlideCoordinateSystem")
        paths = [
            str(one.get("OpticalPathIdentifier") or "")
            for one in items(group, "OpticalPathIdentificationSequence")
        ]
        x, y = (whole(place, f"{axis}PositionInTotalImagePixelMatrix", 0) - 1 for axis in ("Column", "Row"))
        found.append(FramePlace(x, y, instance.depth if depth is None else depth, (paths or [""])[0]))
    return tuple(found)
