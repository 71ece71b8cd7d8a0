"""Whose fault an exception is: the file's, which a library could not parse, or this program's.

Libraries raise KeyError, TypeError or AttributeError on damaged bytes; so does a mistake of ours, or a newer library
that has lost a name. The type does not tell them apart; the place where it was raised does.
"""

from __future__ import annotations

import importlib.metadata

# What a mistake in code raises. A ValueError may be both and is taken for the file's.
PROGRAMMING_ERRORS = (AttributeError, LookupError, TypeError, NameError, ImportError, AssertionError)
OWN = "wsi_deform"


def is_own_fault(error: BaseException, *parsers: str) -> bool:
    """Whether an exception tells of a mistake in this program rather than of a damaged or foreign file.

    Args:
        error: What was raised.
        parsers: Names of the imported packages that parse the file, such as "tifffile".

    Returns:
        True for a programming error that no parser raised: below the last line of this program that it passed, no
        code of a parser ran. Files of which a parser makes no sense are found out by explicit checks, not by
        letting our own lines fail.

    Convention:
        What the parser calls (NumPy, a codec, Python itself) counts as the parser; what it calls back in this
        program counts as ours.
    """
    if not isinstance(error, PROGRAMMING_ERRORS):
        return False
    for package in reversed(_packages(error)):
        if package in parsers:
            return False
        if package == OWN:
            break
    return True


def pass_on_own_fault(error: Exception, *parsers: str) -> None:
    """Raise an exception again if it is this program's fault, with a note that says so; else do nothing.

    To be called first where exceptions of a library become "the file is damaged": nobody should download a slide
    again for a mistake of ours.

    Args:
        error: What was raised.
        parsers: As ``is_own_fault``; their versions go into the note.
    """
    if not is_own_fault(error, *parsers):
        return
    note = own_fault_note(*parsers)
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    raise error


def own_fault_note(*parsers: str) -> str:
    """What is said of a mistake in this program, with the versions of what it used."""
    used = ", ".join(f"{name} {version_of(name)}" for name in parsers)
    return (
        f"This is a fault of wsi-deform {version_of('wsi-deform')} with {used}, not of the file: please report it "
        "with this traceback."
    )


def not_foreseen(error: Exception, what: object) -> str:
    """An exception that nobody foresaw, as a message of one of many files: the others go on.

    Args:
        error: What was raised.
        what: The file, or whatever people call what was looked at.
    """
    return (
        f"{what}: doubtful: {with_notes(error)}, which was not foreseen. Needed a file that is read without it. Open "
        "it in another program; if that can, please report this."
    )


def version_of(package: str) -> str:
    """The installed version of a package, or "of unknown version"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def with_notes(error: BaseException) -> str:
    """An exception in one line of text: type, message and notes."""
    notes = getattr(error, "__notes__", ())
    return "; ".join([f"{type(error).__name__}: {error}", *notes])


def _packages(error: BaseException) -> list[str]:
    """The package of each line that an exception passed, where it was raised last."""
    packages, trace = [], error.__traceback__
    while trace is not None:
        packages.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    return packages
