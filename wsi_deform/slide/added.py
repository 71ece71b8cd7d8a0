"""Readers that others add: for files that no reader here knows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_deform.errors import NotThisReaderError, PluginError, SlideError, WsiDeformError
from wsi_deform.plugins import add_named, load_plugins

if TYPE_CHECKING:
    from wsi_deform.slide.reader import Reader

HEAD_BYTES = 132
_log = logging.getLogger(__name__)

Recognises = Callable[[Path, bytes], bool]
"""A file and its first 132 bytes, or all of a shorter one -> whether it is the reader's."""
OpenOne = Callable[[Path, str], "Reader"]
"""A file, and the name of the image in it that is asked for (``FILE::NAME``), "" for the slide -> the open reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedReader:
    """A reader of ``add_reader``.

    Attributes:
        recognises: Whether a file is its own.
        open_one: What opens it.
        suffixes: Of files that are taken for slides in folders, in lower case.
    """

    recognises: Recognises
    open_one: OpenOne
    suffixes: frozenset[str]


_READERS: dict[str, AddedReader] = {}


def add_reader(
    name: str, recognises: Recognises, open_one: OpenOne, *, suffixes: tuple[str, ...] = ()
) -> None:
    """Read slides of another format.

    Args:
        name: Of the format, for messages.
        recognises: Whether a file is in it, by its path and its first 132 bytes.
        open_one: Opens such a file: a class as in ``slide/reader.py``, made from the path and the name of the image
            that is asked for. It raises ``NotThisReaderError`` where another reader may know the file, and another
            ``SlideError`` for what is final.
        suffixes: Of files that are looked at in folders of slides, such as ".npy". Others are read where somebody names
            them. Ids of slides keep these suffixes.

    Raises:
        PluginError: Another reader has the name, or a suffix begins without a dot.

    Convention:
        Files on disk that a reader of this program knows are never offered to it, nor are folders and URLs.
    """
    if wrong := [each for each in suffixes if not each.startswith(".") or each in (".", each.upper())]:
        raise PluginError(
            f"reader {name!r}: suffix {wrong[0]!r}. Needed lower case with a dot before, as '.npy'."
        )
    if not callable(recognises) or not callable(open_one):
        raise PluginError(f"reader {name!r}: needed two functions, what recognises a file and what opens it.")
    added = AddedReader(recognises=recognises, open_one=open_one, suffixes=frozenset(suffixes))
    add_named(_READERS, name, added, kind="reader")


def added_suffixes() -> frozenset[str]:
    """Suffixes of files that added readers want to see in folders."""
    load_plugins()
    return frozenset().union(*(each.suffixes for each in list(_READERS.values())))


def is_added(path: Path, head: bytes | None = None) -> bool:
    """Whether a file of a folder, which no reader here knows, is one of an added reader's.

    Args:
        path: The file.
        head: Its first bytes; None reads them where its suffix is one of theirs.
    """
    suffix = path.suffix.lower()
    if suffix not in added_suffixes():
        return False
    if head is None:
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            # Taken for a slide, so that it is said where it is opened.
            return True
    of_suffix = {name: each for name, each in _READERS.items() if suffix in each.suffixes}
    return any(_recognises(name, each, path, head)[0] for name, each in of_suffix.items())


def open_added(path: Path, asked: str, head: bytes) -> tuple[Reader | None, list[str]]:
    """Open a file that no reader here knows.

    Args:
        path: The file.
        asked: Name of the image in it that is asked for; "" for the slide.
        head: Its first bytes.

    Returns:
        The open reader, None where no added one knows the file either; and what those said that gave it up.

    Raises:
        SlideError: A reader refuses it, or fails.
    """
    load_plugins()
    said = []
    for name, each in list(_READERS.items()):
        is_own, problem = _recognises(name, each, path, head)
        if problem:
            said.append(problem)
        if not is_own:
            continue
        try:
            return each.open_one(path, asked), said
        except NotThisReaderError as error:
            said.append(f"{name}: {str(error).removeprefix(f'{path}: ')}")
        except WsiDeformError:
            raise
        except Exception as error:
            raise SlideError(
                f"{path}: the reader {name}, which was added to wsi-deform, fails: {type(error).__name__}: {error}. "
                "Check the file, and report it to those who wrote the reader."
            ) from error
    return None, said


def _recognises(name: str, added: AddedReader, path: Path, head: bytes) -> tuple[bool, str]:
    """Whether a file is an added reader's, and what went wrong as it was asked."""
    try:
        return bool(added.recognises(path, head)), ""
    # Code of others, which is shown files that it has nothing to do with.
    except Exception as error:  # noqa: BLE001
        problem = f"{name}: cannot say whether it knows the file ({type(error).__name__}: {error})"
        _log.warning("%s: %s", path, problem)
        return False, problem
