"""What names in annotation files mean: matched exactly, then without regard to case; all unknown ones in one error."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping

from wsi_deform.errors import AnnotationError

SHOWN_NAMES = 50


def meanings_of_names(names: Iterable[str], known: Mapping[str, int], *, source: str) -> dict[str, int]:
    """Look up what names mean.

    Args:
        names: As an annotation file writes them; where they are counted (name -> outlines), errors say how often.
        known: Name -> what it means.
        source: What errors call the file.

    Returns:
        Each name -> what it means.

    Raises:
        AnnotationError: Some are not known, or are known with several meanings; all of them are listed, each with the
            known name that is nearest.

    Convention:
        A name that is written exactly so comes first. Without it case and spaces do not matter, as long as all names
        that are then the same mean the same.
    """
    loosely: dict[str, list[str]] = {}
    for name in known:
        loosely.setdefault(_loose(name), []).append(name)
    found: dict[str, int] = {}
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        alike = [name] if name in known else loosely.get(_loose(name), [])
        if len({known[each] for each in alike}) == 1:
            found[name] = known[alike[0]]
        elif alike:
            unknown.append(_said(name, names, f"may be {' or '.join(map(repr, alike))}"))
        else:
            unknown.append(_said(name, names, _near(name, loosely)))
    if unknown:
        raise AnnotationError(_refusal(unknown, known, source))
    return found


def _loose(name: str) -> str:
    """A name without regard to case, spaces, and whether an umlaut is one character or two."""
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold())


def _near(name: str, loosely: Mapping[str, list[str]]) -> str:
    near = difflib.get_close_matches(_loose(name), list(loosely), 1)
    return f"nearest {loosely[near[0]][0]!r}" if near else ""


def _said(name: str, names: Iterable[str], hint: str) -> str:
    """An unknown name, with its number of outlines where they were counted, and a hint or nothing."""
    count = names[name] if isinstance(names, Mapping) else 0
    said = [f"{count:,} outline{'s' if count != 1 else ''}"] if count else []
    said += [hint] if hint else []
    return repr(name) + (f" ({', '.join(said)})" if said else "")


def _refusal(unknown: list[str], known: Mapping[str, int], source: str) -> str:
    one = len(unknown) == 1
    more = f" and {len(unknown) - SHOWN_NAMES} more" if len(unknown) > SHOWN_NAMES else ""
    said = f"class name {unknown[0]} is" if one else f"{len(unknown)} class names are"
    listed = "" if one else f": {', '.join(unknown[:SHOWN_NAMES])}{more}"
    return (
        f"{source}: {said} not in the class table{listed}. Needed a meaning for every name; the table knows "
        f"{', '.join(map(repr, known))}. Add {'it' if one else 'each'} to source_names of its class, or to "
        "unlabelled_names, regions or ignored of the class table."
    )
