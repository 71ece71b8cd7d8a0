"""What a command says of itself: its options in groups, examples and exit codes; for the terminal and for the docs.

Texts are plain. Nothing in them is markup, so that ``[onnx]`` and ``a[1].svs`` stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ARGUMENTS, OPTIONS, MESSAGES = "Arguments", "Options", "Messages"
ABOUT = "wsi_deform_about"
USUAL_EXITS = {
    0: "all is done",
    2: "the command line, or what it names, cannot be used",
}
KINDS = {"path": "PATH", "int": "N", "float": "NUMBER"}
INTERRUPTED = {130: "interrupted by Ctrl-C (143: SIGTERM, 129: SIGHUP)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a command says of itself besides its options.

    Attributes:
        examples: Command lines.
        exits: Exit code -> when.
    """

    examples: tuple[str, ...] = ()
    exits: Mapping[int, str] = field(default_factory=lambda: dict(USUAL_EXITS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of help about an option or argument.

    Attributes:
        names: As they are typed, and what follows them: ``--out FOLDER``.
        text: What it does, its default, and whether it is needed.
    """

    names: str
    text: str


def about_of(command: Any) -> About:
    """What was said of a command where it was registered."""
    found = getattr(command.callback, ABOUT, None)
    return found if isinstance(found, About) else About()


def with_about(function: Callable[..., Any], about: About) -> Callable[..., Any]:
    """The function, which remembers what is said of it."""
    setattr(function, ABOUT, about)
    return function


def groups_of(parameters: Sequence[Any]) -> dict[str, list[Entry]]:
    """Title of a group -> what is said of its options, in the order in which they were written.

    Args:
        parameters: Of a command, as typer has them; hidden ones are left out.

    Convention:
        Arguments come first and ``-h`` and its like last.
    """
    groups: dict[str, list[Entry]] = {}
    for parameter in parameters:
        if getattr(parameter, "hidden", False):
            continue
        usual = ARGUMENTS if parameter.param_type_name == "argument" else OPTIONS
        title = MESSAGES if parameter.name == "help" else getattr(parameter, "rich_help_panel", None) or usual
        groups.setdefault(title, []).append(entry_of(parameter))
    middle = [title for title in groups if title not in (ARGUMENTS, MESSAGES)]
    return {title: groups[title] for title in (ARGUMENTS, *middle, MESSAGES) if title in groups}


def entry_of(parameter: Any) -> Entry:
    """What is said of an option or argument."""
    notes = ["required"] if parameter.required else []
    if (default := _default_of(parameter)) is not None:
        notes.append(f"default: {default}")
    text = " ".join([*filter(None, [parameter.help]), *([f"[{'; '.join(notes)}]"] if notes else [])])
    return Entry(names=_names_of(parameter), text=text)


def _names_of(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(sorted(parameter.opts, key=len))
    if not _is_flag(parameter):
        return f"{names} {parameter.metavar or _metavar_of(parameter)}"
    # What is off anyway needs no option that turns it off, though there is one.
    return " / ".join([names, *(parameter.secondary_opts if parameter.default is not False else ())])


def _metavar_of(parameter: Any) -> str:
    """What follows an option whose value has no name of its own, by its kind."""
    # typer keeps the kind itself since it is independent of click, else click does.
    described = getattr(parameter, "type_descriptor", None)
    if choices := getattr(parameter.type if described is None else described, "choices", None):
        return "|".join(str(getattr(each, "value", each)) for each in choices)
    kind = parameter.type.name if described is None else str(described.annotation).lower()
    return next((shown for part, shown in KINDS.items() if part in kind), "TEXT")


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))


def _default_of(parameter: Any) -> str | None:
    """The default of an option that takes a value, if it is said; what a help text says itself is None or a list."""
    value = parameter.default
    if parameter.required or value is None or callable(value) or isinstance(value, list | tuple):
        return None
    if _is_flag(parameter):
        return parameter.opts[0].removeprefix("--") if value and parameter.secondary_opts else None
    return str(value.value if isinstance(value, Enum) else value)
