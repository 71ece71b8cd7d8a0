"""Records of calls in ``runs/``: what a call leaves of itself, read as something that may be broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.mask.folder import MaskFolder
from wsi_deform.redact import redacted_data
from wsi_deform.texts import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The record of a call.

    Attributes:
        name: Of its file.
        data: What it says, without the secrets of URLs, which older versions wrote; its provenance is a mapping.
    """

    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRecord:
    """A file that stands where records stand and is none.

    Attributes:
        name: Of the file.
        why: What is wrong with it, in words without its folder.
    """

    name: str
    why: str


def newest_record(folder: MaskFolder) -> tuple[Record | None, tuple[BrokenRecord, ...]]:
    """The newest record of a mask folder that can be read.

    Args:
        folder: The mask folder.

    Returns:
        The record, or None where there is none, and what is newer and broken, newest first. Nothing is set aside: an
        empty record may be that of a call that has just begun.
    """
    broken: list[BrokenRecord] = []
    for path in sorted(folder.run("x").parent.glob("[!.]*.json"), key=_age, reverse=True):
        found = _read(path)
        if isinstance(found, Record):
            return found, tuple(broken)
        broken.append(found)
    return None, tuple(broken)


def _age(path: Path) -> tuple[str, int, str]:
    """When a call began: the second, and of the calls of one second (``-1``, ``-2``, ...) which."""
    stamp, _, number = path.stem.partition("-")
    return stamp, int(number) if number.isdecimal() else 0, path.name


def _read(path: Path) -> Record | BrokenRecord:
    try:
        data = redacted_data(read_json(path))
    except UnicodeDecodeError:
        return BrokenRecord(name=path.name, why="is no text")
    except ValueError as error:
        return BrokenRecord(name=path.name, why=f"is no JSON ({error})")
    except OSError as error:
        return BrokenRecord(name=path.name, why=f"cannot be read ({error.strerror or error})")
    if not isinstance(data, dict):
        return BrokenRecord(name=path.name, why=f"holds a {type(data).__name__}, not an object")
    if not isinstance(data.get("provenance", {}), dict):
        return BrokenRecord(name=path.name, why="holds no provenance of a call")
    return Record(name=path.name, data=data)
