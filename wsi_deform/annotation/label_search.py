"""Which files of a folder are labels, and of which slide: by usual names, or by a pattern of names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsi_deform.annotation.mask_file import LOSSY_SUFFIXES, OUTLINE_SUFFIXES
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.problems import EXAMPLES
from wsi_deform.manifest.rows import slide_id_from_path
from wsi_deform.paths import clean_id, path_problem, printable

MASK_ENDINGS = ("_mask", "-mask", ".mask", "_labels", "-labels", "_label", "_anno")
MASK_FOLDERS = ("masks", "labels", "annotations")
MASK_SUFFIXES = (".tif", ".tiff", ".btf", ".png")
# Outlines are often deflated, as those that wsi-deform writes.
ENVELOPES = (".gz", ".zip")
PLACE = "{slide_id}"

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class FoundLabels:
    """Files of labels.

    Attributes:
        of_slide: Slide id -> its files of labels, in the order of their paths.
        ids: Ids of slides that their names were compared with.
        remedy: What to do about files of no slide.
    """

    of_slide: dict[str, list[Path]] = field(default_factory=dict)
    ids: Collection[str] = ()
    remedy: str = (
        f"say by --labels-pattern how they are named, e.g. {PLACE}_gt.xml, or by --pairs CSV whose they are"
    )

    def remark(self) -> str | None:
        """What is to be said of files of labels that belong to no slide; None where there are none."""
        without = [
            path for slide_id, paths in self.of_slide.items() if slide_id not in self.ids for path in paths
        ]
        if not without:
            return None
        shown = ", ".join(str(path) for path in without[:EXAMPLES]) + (
            ", ..." if len(without) > EXAMPLES else ""
        )
        are = "1 file of labels is" if len(without) == 1 else f"{len(without)} files of labels are"
        return f"{are} of no slide ({shown}): {self.remedy}"


class LabelPattern:
    """How files of labels are named after their slides, such as ``{slide_id}_gt.xml`` or ``{slide_id}/mask.*``.

    Convention:
        ``*`` stands for any text within a name. As many folders above a file are compared as the pattern has; case
        matters in the id alone.
    """

    def __init__(self, text: str) -> None:
        """Take up a pattern.

        Raises:
            ManifestError: It does not say once where the id stands.
        """
        if text.count(PLACE) != 1:
            raise ManifestError(
                f"labels pattern {text!r}: {PLACE} stands {text.count(PLACE)} times. Needed once, where the names of "
                f"labels have the slide's id, e.g. {PLACE}_gt.xml."
            )
        self.text = text
        self._depth = text.count("/") + 1
        before, _, behind = text.partition(PLACE)
        self._around = [re.escape(part).replace(r"\*", "[^/]*") for part in (before, behind)]

    def id_of(self, path: Path, ids: Collection[str]) -> str | None:
        """The slide of a file; one of the ids where the pattern fits one, the longest of several, else as it stands."""
        name = "/".join(path.parts[-self._depth :])
        found = re.fullmatch(f"(?i:{self._around[0]})([^/]+)(?i:{self._around[1]})", name)
        if found is None:
            return None
        slide_id = clean_id(found.group(1))
        if slide_id in ids or "*" not in self.text:
            return slide_id
        fitting = (
            each
            for each in ids
            if re.fullmatch(f"(?i:{self._around[0]}){re.escape(each)}(?i:{self._around[1]})", name)
        )
        return max(fitting, key=len, default=slide_id)


def mask_folders_of(folder: Path) -> list[Path]:
    """Folders with a usual name inside the folder or beside it."""
    places = [place / name for place in (folder, folder.absolute().parent) for name in MASK_FOLDERS]
    return [place for place in places if place.is_dir() and place.absolute() != folder.absolute()]


def is_label_name(path: Path) -> bool:
    """Whether a file is named as labels usually are."""
    return slide_id_from_path(path).lower().endswith(MASK_ENDINGS)


def is_outline(path: Path) -> bool:
    """Whether a file of labels holds outlines, by its suffix."""
    return _suffix(path).endswith(OUTLINE_SUFFIXES) or _suffix(path).endswith(ENVELOPES)


def labels_by_name(folder: Path, places: Sequence[Path], slides: Collection[Path]) -> FoundLabels:
    """Find labels by usual names: beside the slides by ending, in a folder of labels also by the slide's own name.

    Args:
        folder: Of the slides.
        places: Folders of labels.
        slides: Files that are slides, and no labels.
    """
    beside = [path for path in _files_below(folder, warn=False) if is_label_name(path)]
    inside = [path for place in places for path in _files_below(place, warn=True)]

    def id_of(path: Path) -> str:
        suffix = _suffix(path)
        name = clean_id(path.name[: -len(suffix)]) if is_outline(path) else slide_id_from_path(path)
        ending = next((ending for ending in MASK_ENDINGS if name.lower().endswith(ending)), "")
        return name[: len(name) - len(ending)]

    return _sorted_by_id({*beside, *inside} - set(slides), id_of, slides)


def labels_by_pattern(
    folder: Path, places: Sequence[Path], slides: Collection[Path], pattern: LabelPattern
) -> FoundLabels:
    """Find labels by a pattern of names; files of other names are none.

    Args:
        folder: Of the slides.
        places: Folders of labels; what lies beside the slides is looked at too.
        slides: Files that are slides, and no labels.
        pattern: How labels are named.

    Raises:
        ManifestError: No file is named so.
    """
    ids = {slide_id_from_path(path) for path in slides}
    files = {path for place in (folder, *places) for path in _files_below(place, warn=place != folder)}
    found = _sorted_by_id(files - set(slides), lambda path: pattern.id_of(path, ids), slides)
    if not found.of_slide:
        where = " and ".join(str(place) for place in dict.fromkeys((folder, *places)))
        raise ManifestError(
            f"labels pattern {pattern.text!r}: fits no TIFF, PNG or file of outlines in {where}. Needed the names of "
            "the labels. Correct it, or name their folder by --masks."
        )
    return found


def _sorted_by_id(
    files: Iterable[Path], id_of: Callable[[Path], str | None], slides: Collection[Path]
) -> FoundLabels:
    found = FoundLabels(ids={slide_id_from_path(path) for path in slides})
    for path in sorted(files):
        if (
            not os.path.isfile(path)  # noqa: PTH113  Path.is_file raises where a folder may not be entered
            or not _suffix(path)
            or path.name.startswith(".")
            or (slide_id := id_of(path)) is None
        ):
            continue
        if problem := path_problem(path):
            logger.warning("left out: mask %s: %s", printable(path), problem)
            continue
        found.of_slide.setdefault(slide_id, []).append(path)
    return found


def _suffix(path: Path) -> str:
    """Suffix of a file of labels, with its envelope, in small letters; "" where it is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in ENVELOPES and suffixes[-2] in OUTLINE_SUFFIXES:
        return suffixes[-2] + suffixes[-1]
    last = suffixes[-1] if suffixes else ""
    return last if last in (*MASK_SUFFIXES, *OUTLINE_SUFFIXES) and last not in LOSSY_SUFFIXES else ""


def _files_below(folder: Path, *, warn: bool) -> Iterator[Path]:
    """All files of a folder and its subfolders; links to folders are not followed."""

    def unreadable(error: OSError) -> None:
        if warn:
            logger.warning("left out: %s: cannot be listed (%s).", printable(error.filename), error.strerror)

    for place, _, names in os.walk(folder, onerror=unreadable):
        yield from (Path(place, name) for name in names)
