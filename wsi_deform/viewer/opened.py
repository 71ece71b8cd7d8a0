"""Slides, masks and samples that are open: a few at a time, opened when they are looked at."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from wsi_deform.errors import WsiDeformError
from wsi_deform.geometry import Point, Size, both_axes, mean_mpp, squared
from wsi_deform.mask.sample_points import SamplePoints, read_sample_points
from wsi_deform.slide.identity import slide_identity
from wsi_deform.slide.mpp.claims import pixel_shape
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.viewer.catalogue import Entry
from wsi_deform.viewer.frame import Frame
from wsi_deform.viewer.overlays import LabelPyramid

MAX_OPEN = 4
DTYPES = {"mask": "uint8", "probabilities": "uint8", "footprint": "uint16"}
BLANK = Size(1024, 768)


@dataclass(frozen=True, eq=False)
class OpenEntry:
    """What is open of a slide; what cannot be opened is remarked upon, and the rest is shown.

    Attributes:
        entry: The slide.
        slide: The open slide, or None.
        layers: Mask and maps that could be opened.
        remarks: What could not, and why, for people.
        frame: The frame of everything.
    """

    entry: Entry
    slide: Slide | None
    layers: dict[str, LabelPyramid]
    remarks: tuple[str, ...]
    frame: Frame
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def um_per_px(self) -> float | None:
        """Side of a pixel of the frame, um, or None where nobody said."""
        mpp = _scale_of(self.entry, self.slide)
        return None if mpp is None else mean_mpp(mpp)

    @cached_property
    def _samples(self) -> SamplePoints:
        return read_sample_points(self.entry.files["samples"])

    def samples(self) -> SamplePoints:
        """Where the slide was sampled; read once.

        Raises:
            MaskError: The file cannot be read.
        """
        with self._lock:
            return self._samples


class Opened:
    """The newest few of what was looked at; safe in threads."""

    def __init__(self, most: int = MAX_OPEN) -> None:
        """Keep so many slides open."""
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], OpenEntry] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}

    @property
    def count(self) -> int:
        """Slides that are held open."""
        return len(self._held)

    def get(self, entry: Entry) -> OpenEntry:
        """A slide as it is now, opened when it is not open; two threads open it once."""
        key = (entry.slide_id, entry.version)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            lock = self._opening.setdefault(entry.slide_id, threading.Lock())
        with lock:
            with self._lock:
                if key in self._held:
                    return self._held[key]
            found = open_entry(entry)
            with self._lock:
                # An earlier version of the same slide goes first.
                for old in [each for each in self._held if each[0] == entry.slide_id]:
                    del self._held[old]
                self._held[key] = found
                while len(self._held) > self._most:
                    self._held.popitem(last=False)
        return found


def open_entry(entry: Entry) -> OpenEntry:
    """Open all that can be opened of a slide; never raises for a file that cannot."""
    remarks: list[str] = []
    slide = _slide_of(entry, remarks)
    mask = _layer("mask", entry, None, remarks)
    size = (
        mask.slide_size if mask is not None else slide.size if slide is not None else entry.mask_size or BLANK
    )
    if slide is not None and slide.size != size:
        remarks.append(
            f"the slide file has {slide.size} px and the mask {size} px: it is not the one that was segmented, and its "
            "mask is not shown"
        )
        mask, size = None, slide.size
        layers = {}
    else:
        named = {"mask": mask}
        named |= {
            kind: _layer(kind, entry, size, remarks)
            for kind in ("probabilities", "footprint")
            if kind in entry.files
        }
        layers = {kind: layer for kind, layer in named.items() if layer is not None}
    square = squared(size, pixel_shape(_scale_of(entry, slide)))
    return OpenEntry(
        entry=entry,
        slide=slide,
        layers=layers,
        remarks=tuple(remarks),
        frame=Frame(slide_size=size, size=square),
    )


def _scale_of(entry: Entry, slide: Slide | None) -> Point | None:
    """Level-0 um per px along x and y: that of the result, else that of the slide."""
    if entry.mpp is not None:
        return both_axes(entry.mpp)
    return None if slide is None else slide.mpp_xy


def _slide_of(entry: Entry, remarks: list[str]) -> Slide | None:
    if entry.slide is None:
        remarks.append("where the slide lies is not known: it is not shown")
        return None
    try:
        slide = open_slide(entry.slide, slide_id=entry.slide_id, mpp=entry.mpp)
        known = dict(entry.state.identity) if entry.state is not None else {}
        if isinstance(entry.slide, Path) and known.get("content"):
            found = slide_identity(entry.slide)
            if found.get("content") != known["content"]:
                remarks.append("the slide file has changed since it was segmented")
    except WsiDeformError as error:
        remarks.append(f"the slide is not shown: {' '.join(str(error).split())}")
        return None
    return slide


def _layer(kind: str, entry: Entry, size: Size | None, remarks: list[str]) -> LabelPyramid | None:
    path = {str(name): path for name, path in entry.files.items()}.get(kind)
    if path is None:
        return None
    try:
        return LabelPyramid(path, slide_size=size, dtype=DTYPES[kind])
    except WsiDeformError as error:
        remarks.append(f"its {kind} cannot be shown: {' '.join(str(error).split())}")
        return None
