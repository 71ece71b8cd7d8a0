"""Helpful refusals: unknown names and options are answered with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from wsi_deform.errors import ModelError


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
