"""From a downloaded folder to a manifest and a class table that ``wsi-deform`` reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.prepare.deal import has_labels
from pipelines.prepare.folders import named_few
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.annotation.classes import (
    ClassTable,
    class_table_from_data,
    read_class_table,
    write_class_table,
)
from wsi_deform.errors import AnnotationError, ManifestError
from wsi_deform.manifest.rows import SPLITS, Manifest, ManifestRow, write_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was written.

    Attributes:
        manifest: With paths as they were found.
        path: The manifest's file.
        classes: The class table beside it.
        lines: What to tell the user.
    """

    manifest: Manifest
    path: Path
    classes: ClassTable
    lines: tuple[str, ...]


def prepare(public_set: PublicSet, downloaded: Path, out: Path, *, seed: int = 0) -> Prepared:
    """Write ``manifest.csv`` and ``classes.yaml`` of a downloaded data set.

    Args:
        public_set: Which one.
        downloaded: Its folder; slides and masks stay where they are, and nothing is written there.
        out: Gets the two files, and ``labels/`` where labels had to be converted; made if missing.
        seed: Decides splits where the set has none of its own.

    Returns:
        What was written. Called again with the same folder and seed it writes the same, and converts nothing twice.

    Raises:
        WsiDeformError: The folder is not this set's, or something in it cannot be read. Labels that were converted
            by then stay, and the next call goes on from there.

    Convention:
        A ``classes.yaml`` that is there and says something else is a user's and stays.
    """
    found = public_set.find(downloaded.absolute(), out.absolute(), seed)
    rows = _checked(found.rows, public_set, downloaded)
    manifest = Manifest(
        rows=tuple(row.model_copy(update={"data_licence": public_set.licence}) for row in rows),
        folder=out,
        extra_columns=tuple(dict.fromkeys(name for row in rows for name in row.extra)),
    )
    out.mkdir(parents=True, exist_ok=True)
    classes, kept = _write_classes(found, out / "classes.yaml")
    write_manifest(manifest, out / "manifest.csv")
    lines = (*_told(public_set, manifest, classes, found), *kept)
    return Prepared(manifest=manifest, path=out / "manifest.csv", classes=classes, lines=lines)


def _checked(rows: Sequence[ManifestRow], public_set: PublicSet, downloaded: Path) -> tuple[ManifestRow, ...]:
    """The rows, where some have labels, all are listed once, and no patient is in two splits."""
    if not any(map(has_labels, rows)):
        what = f"{len(rows)} slides, none with labels" if rows else "no slide"
        raise ManifestError(
            f"{downloaded}: {what}. Needed {public_set.title}, slides and labels. Check the path and that all "
            "archives are unpacked."
        )
    if twice := [slide_id for slide_id, count in Counter(row.slide_id for row in rows).items() if count > 1]:
        raise ManifestError(
            f"{downloaded}: {len(twice)} slides are listed more than once: {named_few(twice)}. Needed each once. "
            "Download the tables again."
        )
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.patient and row.split:
            splits[row.patient].add(row.split)
    if both := [f"{patient} ({', '.join(sorted(own))})" for patient, own in splits.items() if len(own) > 1]:
        raise ManifestError(
            f"{downloaded}: {len(both)} patients are in two splits: {named_few(both)}. Needed every patient in one. "
            "Download the lists of splits again."
        )
    return tuple(rows)


def _write_classes(found: Found, path: Path) -> tuple[ClassTable, tuple[str, ...]]:
    table = class_table_from_data(dict(found.classes), f"class table {path}")
    if path.exists():
        try:
            there = read_class_table(path)
        except AnnotationError as error:
            raise AnnotationError(f"{error} Mend it, or remove it and run this again.") from error
        if there != table:
            return there, (f"{path} was there and says something else: kept. Remove it for that of the set.",)
    write_class_table(table, path)
    return table, ()


def _told(public_set: PublicSet, manifest: Manifest, classes: ClassTable, found: Found) -> list[str]:
    rows = manifest.rows
    without = [row.slide_id for row in rows if not has_labels(row)]
    patients = {row.patient for row in rows if row.patient}
    lines = [f"{public_set.title}: {len(rows)} slides, {len(rows) - len(without)} with labels"]
    if without:
        lines.append(f"without labels, so in no split: {len(without)}: {named_few(without)}")
    lines.append(f"patients: {len(patients) or 'unknown'}. {public_set.patients}")
    for split in SPLITS:
        own = manifest.of_split(split)
        of = len({row.patient for row in own if row.patient})
        lines.append(f"{split}: {len(own)} slides" + (f" of {of} patients" if of else ""))
    lines.append(f"classes: {', '.join(classes.names)}")
    lines.append(f"licence: {public_set.licence}")
    return [*lines, *(f"note: {remark}" for remark in found.remarks)]
