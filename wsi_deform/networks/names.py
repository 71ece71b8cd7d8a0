"""Helpful refusals: unknown names and options are answered with the nearest known one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsi_deform.errors import ModelError, PluginError

_KINDS: dict[str, type] = {"int": int, "str": str, "bool": bool}
_WORDS = {int: "a whole number", str: "a text", bool: "true or false"}
# No width of a network is beyond: its weights would not fit any memory.
MAX_OPTION = 8192


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A sentence that names the most similar known name, or all of them where none is similar.

    Args:
        name: What was asked for.
        known: What there is.
        prefix: Written before each name.
    """
    by_lower = {each.lower(): each for each in sorted(known)}
    similar = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if similar:
        return f"Did you mean {prefix + by_lower[similar[0]]!r}?"
    return f"Known: {', '.join(prefix + each for each in by_lower.values())}."


def refuse_unknown_options(
    name: str, options: Iterable[str], accepted: Iterable[str], *, kind: str = "network"
) -> None:
    """Refuse the first option that a network does not have.

    Args:
        name: Of the network.
        options: What was asked for.
        accepted: What it has.
        kind: What it is, for the error: a loss has options too.

    Raises:
        ModelError: It names the nearest option.
    """
    accepted = set(accepted)
    for option in options:
        if option not in accepted:
            raise ModelError(f"{kind} {name!r} has no option {option!r}. {nearest(option, accepted)}")


def options_of(build: Callable[..., object], given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """The named arguments of what builds something, which become options of a configuration.

    Args:
        build: A class or function.
        given: Names that are set here, and are no options.
    """
    return {
        key: parameter
        for key, parameter in inspect.signature(build).parameters.items()
        if key not in given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def refuse_misfit_options(
    name: str, options: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter], *, kind: str = "network"
) -> None:
    """Refuse options that are unknown, missing, or of another type than is written beside the argument.

    Args:
        name: Of what is built.
        options: What was asked for.
        accepted: Of ``options_of``.
        kind: What is built, for the error.

    Raises:
        ModelError: It names the option.
    """
    refuse_unknown_options(name, options, accepted, kind=kind)
    for key, parameter in accepted.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ModelError(f"{kind} {name!r} needs the option {key!r}.")
        # Annotations are types, or text where their module postpones them; what has no entry is checked where it is
        # used.
        written = getattr(parameter.annotation, "__name__", parameter.annotation)
        wanted = _KINDS.get(str(written))
        if key in options and wanted is not None and type(options[key]) is not wanted:
            raise ModelError(f"{kind} {name!r}: {key} {str(options[key])[:60]!r}. Needed {_WORDS[wanted]}.")
        if key in options and wanted is int and options[key] > MAX_OPTION:
            raise ModelError(f"{kind} {name!r}: {key} {options[key]}. Needed at most {MAX_OPTION:,}.")


def require_arguments(build: Callable[..., object], needed: Iterable[str], *, what: str) -> None:
    """Refuse what cannot be called as it will be.

    Args:
        build: A class or function that is added.
        needed: Names of arguments that it is given.
        what: What it is, for the error: "network 'plain'".

    Raises:
        PluginError: It is not callable, or lacks one.
    """
    if not callable(build):
        raise PluginError(f"{what}: {build!r} cannot be called. Needed a class or a function that builds it.")
    parameters = inspect.signature(build).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    if lacking := [name for name in needed if name not in parameters]:
        raise PluginError(
            f"{what}: takes {', '.join(parameters) or 'nothing'}. Needed the named argument {lacking[0]}. Add it to "
            "what builds it."
        )
