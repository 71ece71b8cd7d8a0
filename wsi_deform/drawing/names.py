"""Names that other people gave, as figures and pictures can show them."""

from __future__ import annotations

LONGEST, LAST = 60, 15
"""Characters of a name that are shown, and the last ones of them: a longer one leaves a figure no room."""


def one_line(name: str) -> str:
    """A name in one line, shorter in its middle where it is long.

    Pillow refuses to measure text with line breaks of any kind.
    """
    shown = " ".join(name.split())
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - LAST - 3]}...{shown[-LAST:]}"


def plain(name: str) -> str:
    """A name in one line as matplotlib shows it letter by letter.

    Convention:
        Text between two dollars would be a formula, and often a wrong one; a legend leaves out what begins with an
        underscore, as the groups of CAMELYON do.
    """
    shown = one_line(name).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
