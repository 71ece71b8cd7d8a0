"""Text, JSON and YAML that others wrote, read within limits: of bytes, of depth, and of what aliases make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from wsi_deform.limits import TEXT, in_unit

MAX_DEPTH = 64
MAX_NODES = 100_000


def read_bytes(path: Path) -> bytes:
    """The bytes of a text file, at most so many as ``limits.TEXT`` allows.

    Raises:
        OSError: It cannot be read, or is larger.
    """
    with path.open("rb") as file:
        found = file.read(TEXT.value + 1)
    if len(found) > TEXT.value:
        size = path.stat().st_size
        raise OSError(f"{in_unit(size, TEXT)}. {TEXT.needed(size)}")
    return found


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, at most so many bytes as ``limits.TEXT`` allows.

    Raises:
        OSError: It cannot be read, or is larger.
        UnicodeDecodeError: It is in another encoding.
    """
    return read_bytes(path).decode(encoding)


def read_json(path: Path, encoding: str = "utf-8") -> Any:
    """What a JSON file says; see ``parse_json``.

    Raises:
        OSError: It cannot be read, or is too large.
        ValueError: It is no JSON.
    """
    return parse_json(read_text(path, encoding))


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(found):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return found


def parse_yaml(text: str) -> Any:
    """What a YAML text says, with safe tags only.

    Raises:
        ValueError: It is no YAML, nested too deeply, or holds too much with all that its aliases stand for.
    """
    # The one in C is ten times as fast, and comes with nearly every installation.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506  a safe loader
    # Constructors of numbers, dates and keys raise what the text makes them raise.
    except (yaml.YAMLError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # PyYAML 6.0.4 has a limit of its own, which it reaches before its first event.
        if "maximum nesting depth" in str(error):
            raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
        raise ValueError(" ".join(str(error).split())) from error


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Count what a text holds before it is composed: a few aliases of aliases stand for more than any memory holds.

    Raises:
        ValueError: See ``parse_yaml``.
    """
    # Anchor -> values in what it names; of lists and mappings that have not ended: their anchor and values before them.
    inside: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = []
    count = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in inside:
                raise ValueError(f"alias {event.anchor!r} of what it lies in, or of nothing")
            count += inside[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor is not None:
                inside[anchor] = count - before
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((event.anchor, count - 1))
                inside.pop(event.anchor or "", None)  # a ring, until it ends
            elif event.anchor is not None:
                inside[event.anchor] = 1
        if len(open_ones) > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if count > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} values with all that its aliases stand for")


def _is_deep(data: Any) -> bool:
    """Whether lists and objects lie in each other more than MAX_DEPTH deep."""
    layer = [data]
    for _ in range(MAX_DEPTH):
        layer = [
            each
            for held in layer
            for each in (held.values() if isinstance(held, dict) else held)
            if isinstance(each, dict | list)
        ]
    return bool(layer)
