"""Text in CSV files that a spreadsheet does not run.

A spreadsheet takes a cell that starts with ``=``, ``+``, ``-`` or ``@`` for a formula, and a slide, a patient or a
class may be called so. Such a text is written with an apostrophe before it, as spreadsheets themselves mark text,
and read without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RUN = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_MARKED = re.compile("'+[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def safe_row(cells: Iterable[object]) -> list[object]:
    """A row of a CSV, ready for ``csv.writer``.

    Args:
        cells: Text and numbers.

    Returns:
        The same cells; before a text that a spreadsheet would run stands an apostrophe. Numbers, also those that are
        written as text, stay: ``-1.5`` is no formula.

    Convention:
        ``plain_text`` gives every text back: one that starts with an apostrophe before such a sign gets another.
    """
    return [
        f"'{cell}" if isinstance(cell, str) and _RUN.match(cell) and not _NUMBER.fullmatch(cell) else cell
        for cell in cells
    ]


def plain_text(cell: str) -> str:
    """The text of a cell that ``safe_row``, or a spreadsheet's user, marked with an apostrophe."""
    return cell[1:] if _MARKED.match(cell) else cell
