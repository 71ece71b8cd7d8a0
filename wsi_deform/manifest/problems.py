"""Problems of a manifest and of what it points to: each as one line, many of a kind as one line too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

EXAMPLES = 3

# What differs between problems of a kind: quoted text, paths and names of files, colours, numbers.
_VARYING = re.compile(
    r"""(?<!\w)"[^"]*"(?!\w)|(?<!\w)'[^']*'(?!\w)|\S*[/\\]\S*|\S+\.[A-Za-z]\w*|\#[0-9a-f]{6}|\d[\d,.]*"""
)
_HINT = re.compile(r"; did you mean [^;]*\?")
_OF_SLIDE = re.compile(r"slide .+ \(line \d+\)|slide \S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a manifest or with what it points to.

    Attributes:
        where: File, with line and column or with the slide's id.
        found: What is there.
        needed: What should be there.
        remedy: What to do about it.
        paste: Lines of a file that mend it, shown below as they are, or nothing.
        kind: What is found, without the names of this row's files; "" where ``found`` tells it.
    """

    where: str
    found: str
    needed: str
    remedy: str
    paste: str = ""
    kind: str = ""

    def __str__(self) -> str:
        """The problem as one line, and below it what to paste."""
        return _sentence(f"{self.where}: {self.found}", self)


def problem_text(subject: str, problems: Sequence[Problem]) -> str:
    """Say how many problems a file has, and all of them, one line per kind."""
    return "\n".join([f"{subject}: {counted(problems)}.", *(f"  {line}" for line in lines_by_kind(problems))])


def counted(problems: Sequence[Problem]) -> str:
    """How many problems there are, in words."""
    return f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"


def lines_by_kind(problems: Sequence[Problem]) -> list[str]:
    """Say every kind of problem once.

    Args:
        problems: In any order.

    Returns:
        A line per kind, in the order in which kinds first occur: a problem alone as it is; of several how many there
        are, three examples, and needs and remedy of the first. Below a line stands what is to be pasted.

    Convention:
        Problems are of one kind where they differ in names, numbers, colours and quoted text alone.
    """
    return [str(group[0]) if len(group) == 1 else _of_several(group) for group in _by_kind(problems)]


def _by_kind(problems: Sequence[Problem]) -> list[list[Problem]]:
    groups: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        said = (problem.where, problem.kind or problem.found, problem.needed, problem.remedy)
        groups.setdefault((*map(_without_names, said), problem.paste), []).append(problem)
    return list(groups.values())


def _without_names(text: str) -> str:
    """A text without what differs between problems of a kind."""
    if _OF_SLIDE.fullmatch(text):
        return "slide"
    text = _VARYING.sub("0", _HINT.sub("", text))
    return re.sub(r"\b(line|value)s?\b", r"\1", re.sub(r"0(,? (and )?0)+", "0", text))


def _of_several(group: Sequence[Problem]) -> str:
    first = group[0]
    are_rows = all(re.search(r"\bline \d", problem.where) for problem in group)
    many = f"{len(group)} {'rows' if are_rows else 'times'}"
    if len(group) > EXAMPLES:
        many += ", such as"
    else:
        many += ","
    shown = group[:EXAMPLES]
    if all(problem.found == first.found for problem in group):
        said = f"{many} {', '.join(problem.where for problem in shown)}: {first.found}"
    else:
        said = f"{many} {'; '.join(f'{problem.where}: {problem.found}' for problem in shown)}"
    return _sentence(said, first)


def _sentence(said: str, problem: Problem) -> str:
    said = f"{said}. Needed {problem.needed}. {problem.remedy}"
    return f"{said}:\n{problem.paste}" if problem.paste else f"{said}."
