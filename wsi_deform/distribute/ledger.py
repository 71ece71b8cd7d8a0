"""How far each slide is: one JSON per slide, whole or absent, that survives crashes."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from wsi_deform.distribute.unwritable import unwritable
from wsi_deform.errors import MaskError
from wsi_deform.files import write_json
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.redact import redacted_data
from wsi_deform.texts import read_json

Status = Literal["not_started", "running", "done", "failed"]
BROKEN = "broken state "


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a slide.

    Attributes:
        slide_id: The slide.
        status: How far the newest attempt is. A "running" whose slide nobody claims was cut off.
        slide: Path of the slide.
        attempt: A name of the newest attempt.
        fingerprint: What the mask depends on, as a hash: model, slide file, mpp override, tissue mask, settings;
            of an oracle also its labels.
        identity: What told the slide file from others, see ``slide.identity.slide_identity``.
        model: SHA-256 of the model alone.
        error: Why it failed, in words for people; else empty.
        traceback: Where it failed, if the error was not foreseen; else empty.
        started_utc: When the work began.
        seconds: How long it took.
        width_px: Level-0 width of the slide.
        height_px: Level-0 height of the slide.
        mpp: Level-0 um per pixel, or None where nobody said.
        mpp_xy: The same along x and y; None also of earlier versions.
        remark: What people should know before they trust the mask; else empty.
        method: How it was looked at, see ``SlideFiles``.
        runtime: What computed the networks, and how precisely; in states of older versions that was torch.
        fields: Number of fields, or patches.
        samples: Number of samples, or pixels of all patches.
        tiles: Number of tiles read.
        class_pixels: Level-0 pixels of each class of the mask.
        class_pixels_in_tissue: Of these those that are tissue; empty in states of older versions.
        removed_pixels: Level-0 pixels of each class that lay outside the tissue and became background.
        tissue_pixels: Level-0 pixels that are tissue and have a class; None in states of older versions.
        blank_tiles: Tiles of the slide that could not be decoded and were left out.
        blank_pixels: Level-0 pixels of the mask that are unlabelled for that.
        read_pixels: Pixels that entered a network, see ``SlideFiles``; None, like the next four, in states of older
            versions.
        decoded_pixels: Pixels of tiles that were decoded.
        decoded_bytes: Their bytes.
        flops: Floating-point operations of networks, grids and interpolation, see ``flops.py``.
        peak_memory_bytes: Most memory that the process had held when the slide was done.
        outputs: Kind of file -> its signature, see ``staging.signature``; files of this attempt, and of earlier ones
            that it did not make anew.
        earlier: Kinds among ``outputs`` that an earlier attempt made -> the fingerprint that they were made with.
        deaths: Processes in a row that died while they worked on it.
        host: The machine that worked on it.
        pid: Its process there.
        versions: Package -> version.
        mask_version: ``MASK_VERSION`` of the program that made it.
        kept: The newest finished result before this attempt, whose files still lie there; None when there is none or
            this attempt is "done".
    """

    slide_id: str
    status: Status = "not_started"
    slide: str = ""
    attempt: str = ""
    fingerprint: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    error: str = ""
    traceback: str = ""
    started_utc: str = ""
    seconds: float = 0.0
    width_px: int = 0
    height_px: int = 0
    mpp: float | None = None
    mpp_xy: tuple[float, ...] | None = None
    remark: str = ""
    method: str = "sampled"
    runtime: str = "torch float32"
    fields: int = 0
    samples: int = 0
    tiles: int = 0
    class_pixels: tuple[int, ...] = ()
    class_pixels_in_tissue: tuple[int, ...] = ()
    removed_pixels: tuple[int, ...] = ()
    tissue_pixels: int | None = None
    blank_tiles: int = 0
    blank_pixels: int = 0
    read_pixels: int | None = None
    decoded_pixels: int | None = None
    decoded_bytes: int | None = None
    flops: int | None = None
    peak_memory_bytes: int | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)
    deaths: int = 0
    host: str = ""
    pid: int = 0
    versions: Mapping[str, Any] = field(default_factory=dict)
    mask_version: int = 1
    kept: State | None = None

    @property
    def result(self) -> State | None:
        """The state of the finished result that lies in the folder, of this attempt or an earlier one."""
        return self if self.status == "done" else self.kept

    def __post_init__(self) -> None:
        """Leave the secrets of URLs out of what is stored and shown, whoever's words an error quotes."""
        for name in ("slide", "error", "traceback", "remark"):
            object.__setattr__(self, name, redacted_data(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The states in a mask folder."""

    folder: MaskFolder

    def read(self, slide_id: str) -> State:
        """The state of a slide; "not_started" where there is none, with an error where it is broken.

        Raises:
            MaskError: The folder cannot be read.
        """
        path = self.folder.state(slide_id)
        data, why = None, "it is no state of a slide"
        try:
            data = read_json(path)
        except FileNotFoundError:
            return State(slide_id=slide_id)
        except ValueError as error:
            why = f"it is no JSON: {error}"
        except IsADirectoryError:
            why = "it is a folder"
        except OSError as error:
            # Without a number it is of a limit of this program: no state is that large.
            if error.errno is not None:
                raise MaskError(
                    f"state {path}: cannot be read ({error}). Check the folder and its rights."
                ) from error
            why = str(error)
        state = _state(data)
        if state is not None and state.slide_id == slide_id:
            return state
        if state is not None:
            why = f"it is of the slide {state.slide_id[:100]}"
        return State(slide_id=slide_id, error=f"{BROKEN}{path}: {why}")

    def mend(self, state: State) -> State:
        """Set the file of a state that is broken aside, so that it is neither lost nor in the way.

        Args:
            state: What ``read`` returned; this process holds the lease of its slide.

        Returns:
            The state; of a broken one the error says where its file is now.

        Raises:
            MaskError: The folder cannot be written.
        """
        if not is_broken(state):
            return state
        path = self.folder.state(state.slide_id)
        aside, number = path.with_name(f"{path.name}.broken"), 1
        while aside.exists():
            aside, number = path.with_name(f"{path.name}.broken-{number}"), number + 1
        try:
            path.rename(aside)
        except OSError as error:
            raise unwritable(self.folder, error, f"state {path}") from error
        return dataclasses.replace(state, error=f"{state.error}. It was set aside as {aside.name}")

    def write(self, state: State) -> None:
        """Store a state.

        Raises:
            MaskError: The folder cannot be written.
        """
        path = self.folder.state(state.slide_id)
        try:
            # Without parents: a folder that has vanished is not made anew.
            path.parent.mkdir(exist_ok=True)
            write_json(path, dataclasses.asdict(state))
        except OSError as error:
            raise unwritable(self.folder, error, f"state {path}") from error

    def all(self) -> list[State]:
        """All states of the folder, by slide id."""
        return [self.read(path.stem) for path in sorted(self.folder.states.glob("[!.]*.json"))]

    def results(self, states: Sequence[State] | None = None) -> list[State]:
        """The finished results of the folder whose masks are there, by slide id.

        Args:
            states: What ``all`` returned; None asks again.
        """
        found = [state.result for state in (self.all() if states is None else states)]
        return [each for each in found if each is not None and self.folder.mask(each.slide_id).is_file()]


def is_broken(state: State) -> bool:
    """Whether a state stands for one whose file could not be used."""
    return state.status == "not_started" and state.error.startswith(BROKEN)


def this_process() -> dict[str, Any]:
    """Host and number of this process, as a state holds them."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _state(data: object) -> State | None:
    """A state from its JSON, without keys of other versions; None where it is none."""
    if not isinstance(data, dict) or data.get("status") not in get_args(Status) or "slide_id" not in data:
        return None
    values = {name: value for name, value in data.items() if name in _KINDS}
    if not all(isinstance(value, _KINDS[name]) for name, value in values.items()):
        return None
    if not all(_is_count(each) for value in values.values() for each in _numbers(value)):
        return None
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return State(**values | {"kept": _state(values.get("kept"))})


def _numbers(value: object) -> Sequence[object]:
    """The numbers of a value, or what stands in their place in a list."""
    return value if isinstance(value, list) else [value] if isinstance(value, int | float) else ()


def _is_count(found: object) -> bool:
    """Whether it is a number that a state may hold: none is negative or without end."""
    return isinstance(found, int | float) and 0 <= found < math.inf


# What JSON has for each attribute.
_KINDS: Mapping[str, tuple[type, ...]] = {
    each.name: {
        "str": (str,),
        "Status": (str,),
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "int | None": (int, type(None)),
        "tuple[int, ...]": (list,),
        "tuple[float, ...] | None": (list, type(None)),
        "State | None": (dict, type(None)),
    }.get(str(each.type), (dict,))
    for each in dataclasses.fields(State)
}
