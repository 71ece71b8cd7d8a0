"""How far each slide is: one JSON per slide, whole or absent, that survives crashes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from wsi_deform.errors import MaskError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.provenance import write_json

Status = Literal["not_started", "running", "done", "failed"]
# Start times of one process, told twice, agree to about a clock tick.
SAME_START_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a slide.

    Attributes:
        slide_id: The slide.
        status: How far it is. A "running" whose process is gone was cut off.
        slide: Path of the slide.
        fingerprint: What the mask depends on, as a hash: model, slide file, mpp override.
        model: SHA-256 of the model alone.
        error: Why it failed, in words for people; else empty.
        traceback: Where it failed, if the error was not foreseen; else empty.
        started_utc: When the work began.
        seconds: How long it took.
        width_px: Level-0 width of the slide.
        height_px: Level-0 height of the slide.
        mpp: Level-0 um per pixel, or None where nobody said.
        remark: What people should know before they trust the mask; else empty.
        fields: Number of fields.
        samples: Number of samples.
        tiles: Number of tiles read.
        class_pixels: Level-0 pixels of each class of the mask.
        class_pixels_in_tissue: Of these those that are tissue; empty in states of older versions.
        removed_pixels: Level-0 pixels of each class that lay outside the tissue and became background.
        tissue_pixels: Level-0 pixels that are tissue; None in states of older versions.
        host: The machine that worked on it.
        pid: Its process there.
        process_started: When that process started, seconds since 1970; tells it from a later one of the same
            number.
        versions: Package -> version.
    """

    slide_id: str
    status: Status = "not_started"
    slide: str = ""
    fingerprint: str = ""
    model: str = ""
    error: str = ""
    traceback: str = ""
    started_utc: str = ""
    seconds: float = 0.0
    width_px: int = 0
    height_px: int = 0
    mpp: float | None = None
    remark: str = ""
    fields: int = 0
    samples: int = 0
    tiles: int = 0
    class_pixels: tuple[int, ...] = ()
    class_pixels_in_tissue: tuple[int, ...] = ()
    removed_pixels: tuple[int, ...] = ()
    tissue_pixels: int | None = None
    host: str = ""
    pid: int = 0
    process_started: float = 0.0
    versions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The states in a mask folder."""

    folder: MaskFolder

    def read(self, slide_id: str) -> State:
        """The state of a slide; "not_started" where there is none, or none that can be read."""
        try:
            data = json.loads(self.folder.state(slide_id).read_text(encoding="utf-8"))
            known = {each.name for each in dataclasses.fields(State)}
            state = State(**{name: value for name, value in data.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return State(slide_id=slide_id)
        if state.status not in get_args(Status) or state.slide_id != slide_id:
            return State(slide_id=slide_id)
        return dataclasses.replace(
            state,
            class_pixels=tuple(state.class_pixels),
            class_pixels_in_tissue=tuple(state.class_pixels_in_tissue),
            removed_pixels=tuple(state.removed_pixels),
        )

    def write(self, state: State) -> None:
        """Store a state.

        Raises:
            MaskError: The folder cannot be written.
        """
        path = self.folder.state(state.slide_id)
        try:
            write_json(path, dataclasses.asdict(state))
        except OSError as error:
            raise MaskError(
                f"state {path}: cannot be written ({error}). Check folder, rights and free space."
            ) from error

    def all(self) -> list[State]:
        """All states of the folder, by slide id."""
        return [self.read(path.stem) for path in sorted(self.folder.states.glob("[!.]*.json"))]

    def is_done(self, state: State, fingerprint: str) -> bool:
        """Whether a slide needs no work: done, by the same model, and its mask is still there."""
        mask: Path = self.folder.mask(state.slide_id)
        return state.status == "done" and state.fingerprint == fingerprint and mask.is_file()


def this_process() -> dict[str, Any]:
    """Host, number and start time of this process, as a state holds them."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
    }


def is_being_done(state: State) -> bool:
    """Whether another living process of this machine works on the slide.

    A state of another machine counts as cut off: nobody here can tell, and as outputs are moved into place
    whole, doing a slide twice does no harm.
    """
    if state.status != "running" or state.host != socket.gethostname() or state.pid == os.getpid():
        return False
    try:
        process = psutil.Process(state.pid)
        same = abs(process.create_time() - state.process_started) < SAME_START_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
