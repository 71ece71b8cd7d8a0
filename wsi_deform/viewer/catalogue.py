"""What there is to show: the slides of a results folder, with how far each is, or slides alone."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import Row, read_measurements
from wsi_deform.errors import AnnotationError, MaskError, SlideError
from wsi_deform.geometry import Mpp, Point, Size
from wsi_deform.mask.folder import MaskFolder, OutputKind
from wsi_deform.paths import id_key, path_problem, printable, trouble_at
from wsi_deform.slide.find import slide_id_of
from wsi_deform.slide.path import SlidePath, SlideUrl, slide_path
from wsi_deform.slide.search import find_slides

Shown = Literal["slide", "done", "running", "stopped", "failed", "not started"]
KINDS: tuple[OutputKind, ...] = ("samples", "probabilities", "footprint", "geojson", "overlay", "mask")
MASK_SUFFIX = ".ome.tif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A slide as the page lists it.

    Attributes:
        slide_id: The slide.
        status: "slide" where there is no results folder; "stopped" is an attempt whose process is gone.
        reason: Why it failed, in words for people; else empty.
        remark: What people should know before they trust the mask; else empty.
        slide: Where the slide lies; None where nobody knows.
        mpp: The scale that it was segmented at, or None for the file's own.
        state: The finished result; None where there is none.
        files: Kind of file -> where it lies, of those that are there.
        version: Changes when something of it changes.
    """

    slide_id: str
    status: Shown
    reason: str = ""
    remark: str = ""
    slide: SlidePath | None = None
    mpp: Mpp | None = None
    state: State | None = None
    files: Mapping[OutputKind, Path]
    version: str = ""

    @property
    def mask_size(self) -> Size | None:
        """Level-0 size of the slide, as the result says; None where it does not."""
        state = self.state
        return (
            None
            if state is None or not state.width_px * state.height_px
            else Size(state.width_px, state.height_px)
        )


class Catalogue(Protocol):
    """Where entries come from."""

    @property
    def title(self) -> str:
        """What the page is called."""
        ...

    @property
    def classes(self) -> ClassTable | None:
        """The class table of the masks, or None."""
        ...

    def entries(self) -> tuple[Entry, ...]:
        """All slides as they are now, by slide id."""
        ...

    def entry(self, slide_id: str) -> Entry | None:
        """One slide as it is now; None where it is not among them."""
        ...

    def rows(self, slide_id: str) -> list[Row]:
        """Its rows of ``measurements.csv``."""
        ...


def catalogue_of(path: Path | str) -> Catalogue:
    """What a path shows.

    Args:
        path: A folder that ``wsi-deform segment`` filled or fills, a slide or its URL, or a folder of slides.

    Raises:
        SlideError: It is neither.
    """
    place = slide_path(path if isinstance(path, str) else str(path))
    if isinstance(place, SlideUrl):
        return Slides((place,))
    if is_results(place):
        return Results(place)
    if "::" not in str(place) and (trouble := trouble_at(place)):
        raise SlideError(
            f"{printable(place)}: {trouble}. Needed a folder of masks, or a slide. Check the path."
        )
    if not place.is_dir():
        return Slides((place,))
    found = find_slides(place)
    if not found:
        raise SlideError(
            f"{printable(place)}: neither slides in it nor masks. Needed the --out of `wsi-deform segment`, a slide or "
            "a folder of slides."
        )
    return Slides(tuple(found))


def is_results(folder: Path) -> bool:
    """Whether a folder is one that `segment` filled or begins to fill."""
    out = MaskFolder(folder)
    return out.identity.is_file() or out.states.is_dir() or (out.path / "masks").is_dir()


class Slides:
    """Slides without masks."""

    classes = None

    def __init__(self, slides: tuple[SlidePath, ...]) -> None:
        """List them; a number tells those of one name apart."""
        self._entries: dict[str, Entry] = {}
        taken: set[str] = set()
        for slide in slides:
            name = slide_id = slide_id_of(slide)
            number = 1
            while id_key(slide_id) in taken:
                number += 1
                slide_id = f"{name} ({number})"
            taken.add(id_key(slide_id))
            self._entries[slide_id] = Entry(slide_id=slide_id, status="slide", slide=slide, files={})

    @property
    def title(self) -> str:
        """The slide's name, or how many there are."""
        return next(iter(self._entries)) if len(self._entries) == 1 else f"{len(self._entries)} slides"

    def entries(self) -> tuple[Entry, ...]:
        """All slides."""
        return tuple(self._entries.values())

    def entry(self, slide_id: str) -> Entry | None:
        """One slide."""
        return self._entries.get(slide_id)

    def rows(self, slide_id: str) -> list[Row]:
        """None: nothing was measured."""
        return []


class Results:
    """The slides of a results folder, read anew when their files change; of any version of wsi-deform."""

    def __init__(self, out: Path) -> None:
        """Name the folder; nothing is read yet."""
        self.folder = MaskFolder(out)
        self._ledger = Ledger(self.folder)
        # Slide id -> stamp of its state file, and the state.
        self._states: dict[str, tuple[str, State]] = {}
        self._known: frozenset[str] = frozenset()
        self._classes: tuple[str, ClassTable | None] = ("", None)

    @property
    def title(self) -> str:
        """The folder's name."""
        return printable(self.folder.path.resolve().name)

    @property
    def classes(self) -> ClassTable | None:
        """The class table of the folder; None where it cannot be read."""
        stamp = _stamp(self.folder.classes)
        if stamp != self._classes[0]:
            table = None
            with suppress(AnnotationError):
                table = read_class_table(self.folder.classes)
            self._classes = stamp, table
        return self._classes[1]

    def entries(self) -> tuple[Entry, ...]:
        """All slides that have a state or a mask."""
        states = {name.removesuffix(".json") for name in _listed(self.folder.states, ".json")}
        masks = {name.removesuffix(MASK_SUFFIX) for name in _listed(self.folder.path / "masks", MASK_SUFFIX)}
        self._known = frozenset(states | masks)
        # A folder is listed once: thousands of slides on a slow disk would be asked for one by one.
        folders = {path.parent for path in self.folder.outputs("x").values()}
        there = {folder / name for folder in folders for name in _listed(folder, "")}
        return tuple(self._entry(slide_id, there.__contains__) for slide_id in sorted(self._known))

    def entry(self, slide_id: str) -> Entry | None:
        """One slide; None where the folder has neither a state nor a mask of that name.

        Convention:
            Ids are looked up among the names that the folder has: no path is ever made from what somebody asks for.
        """
        if slide_id not in self._known:
            self.entries()
        return self._entry(slide_id, Path.is_file) if slide_id in self._known else None

    def rows(self, slide_id: str) -> list[Row]:
        """Its rows of ``measurements.csv``; none where the table cannot be read."""
        with suppress(MaskError):
            return [row for row in read_measurements(self.folder.measurements) if row["slide"] == slide_id]
        return []

    def _entry(self, slide_id: str, is_there: Callable[[Path], bool]) -> Entry:
        stamp = _stamp(self.folder.state(slide_id))
        known = self._states.get(slide_id)
        if known is None or known[0] != stamp:
            known = self._states[slide_id] = stamp, self._ledger.read(slide_id)
        newest = known[1]
        files = {kind: path for kind, path in self.folder.outputs(slide_id).items() if is_there(path)}
        state = newest.result
        said = state or newest
        status = self._status(newest, has_mask="mask" in files)
        stamps = [stamp, status, _stamp(self.folder.mask(slide_id)), *files]
        return Entry(
            slide_id=slide_id,
            status=status,
            reason=" ".join(newest.error.split()) if newest.status == "failed" else "",
            remark=said.remark,
            slide=slide_path(said.slide) if said.slide and not path_problem(said.slide) else None,
            mpp=Point(*state.mpp_xy) if state and state.mpp_xy and len(state.mpp_xy) == 2 else said.mpp,
            state=state,
            files=files,
            version=hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12],
        )

    def _status(self, state: State, *, has_mask: bool) -> Shown:
        """How far it is; a mask of a version without states is done."""
        if state.status == "not_started":
            return "done" if has_mask else "not started"
        if state.status != "running":
            return state.status
        # The lease is not tried: whoever holds it for a moment makes a worker pass the slide by.
        here = state.host == socket.gethostname() and state.pid > 0
        is_gone = not self.folder.lease(state.slide_id).exists() or (
            here and not psutil.pid_exists(state.pid)
        )
        return "stopped" if is_gone else "running"


def _listed(folder: Path, suffix: str) -> list[str]:
    """Names in a folder with a suffix; none where it cannot be listed."""
    try:
        with os.scandir(folder) as listed:
            names = [each.name for each in listed]
    except OSError:
        return []
    return [name for name in names if name.endswith(suffix) and not name.startswith(".") and name != suffix]


def _stamp(path: Path) -> str:
    """Tells one version of a file from another; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
