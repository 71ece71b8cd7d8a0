"""Tables of a report, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

DIGITS = 3
NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        header: One per column.
        rows: Cells as text, one tuple per row, as long as the header.
        best: (row, column) of the cells that stand out.
        is_text: Whether cells are words rather than numbers: they are set flush left and wrap.
        shade: (row, column) -> how dark a cell is, 0 to 1.

    Convention:
        What follows a line end in a cell, such as an interval, is set small below the rest.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    is_text: bool = False
    shade: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table as Markdown, with a final newline; a ``|`` in a cell stays inside it."""
        rule = [":--", *("--:" for _ in self.header[1:])]
        lines = [
            _line([_inside(name) for name in self.header]),
            _line(":--" if self.is_text else r for r in rule),
        ]
        for number, row in enumerate(self.rows):
            cells = [_inside(cell) for cell in row]
            lines.append(
                _line(
                    f"**{cell}**" if (number, place) in self.best else cell
                    for place, cell in enumerate(cells)
                )
            )
        return "\n".join(lines) + "\n"


def comparison_table(
    measured: Mapping[str, Mapping[str, float]],
    *,
    of: str = "method",
    largest_is_best: Iterable[str] | None = None,
) -> Table:
    """A table of methods and measures.

    Args:
        measured: Method -> measure -> value; NaN, or a missing measure, is shown as a dash.
        of: What the rows are.
        largest_is_best: Measures whose largest value stands out if there are two rows; None takes all.

    Returns:
        One row per method, in order; columns in the order in which measures first occur. Values are compared
        as shown: equal to three digits is equally good.
    """
    columns = list(dict.fromkeys(name for values in measured.values() for name in values))
    marked = set(columns if largest_is_best is None else largest_is_best)
    rows = [
        (method, *(number(values.get(column, math.nan)) for column in columns))
        for method, values in measured.items()
    ]
    best = set()
    for place, column in enumerate(columns, start=1):
        shown = [row[place] for row in rows if row[place] != NOTHING]
        if column in marked and len(rows) > 1 and shown:
            most = max(shown, key=float)
            best |= {(index, place) for index, row in enumerate(rows) if row[place] == most}
    return Table(header=(of, *columns), rows=tuple(rows), best=frozenset(best))


def number(value: float, digits: int = DIGITS) -> str:
    """A value with so many digits after the point; NaN is a dash."""
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"


def mean_and_spread(values: Sequence[float], digits: int = DIGITS) -> str:
    """Mean and half the range over seeds, e.g. ``0.512 ± 0.009 (3)``; one value stands alone."""
    if not values:
        return NOTHING
    mean = sum(values) / len(values)
    if len(values) == 1:
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number((max(values) - min(values)) / 2, digits)} ({len(values)})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _inside(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
