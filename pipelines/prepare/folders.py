"""Downloaded folders: where a set begins, which files it has, and its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import MAX_MPP, MIN_MPP
from wsi_deform.manifest.table import read_cells

DEPTH = 2  # archives unpack into a folder of their own, and people unpack into a folder of theirs


def root_with(downloaded: Path, *needed: str, what: str) -> Path:
    """The folder in which a set begins.

    Args:
        downloaded: What the user named: that folder, or one or two folders above it.
        needed: Files or folders that it holds, by name.
        what: The set and its layout, for the error.

    Raises:
        ManifestError: There is no such folder, or there are several.
    """
    if not downloaded.is_dir():
        raise ManifestError(f"{downloaded}: no such folder. Needed {what}. Check the path.")
    level = [downloaded]
    for _ in range(DEPTH + 1):
        having = [folder for folder in level if all((folder / name).exists() for name in needed)]
        if len(having) == 1:
            return having[0]
        if having:
            named = ", ".join(str(folder) for folder in having[:3])
            raise ManifestError(f"{downloaded}: holds {named}. Needed one of them. Name that folder.")
        level = [inner for folder in level for inner in sorted(folder.iterdir()) if inner.is_dir()][:1000]
    missing = [name for name in needed if not (downloaded / name).exists()]
    raise ManifestError(
        f"{downloaded}: has no {', no '.join(missing)}, nor has a folder in it. Needed {what}. Check the path, "
        "or unpack the archives."
    )


def files_by_stem(folder: Path, suffixes: Iterable[str], *, ending: str = "") -> dict[str, Path]:
    """The files of a folder and of the folders in it.

    Args:
        folder: Searched whole; one that does not exist has none.
        suffixes: Of the files that count, in small letters; earlier ones win where two files have one stem.
        ending: What stems have to end with; taken off.

    Returns:
        Stem without ``ending`` -> file, in the order of stems.
    """
    order = {suffix: place for place, suffix in enumerate(suffixes)}
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        suffix, stem = path.suffix.lower(), path.stem
        if (
            suffix not in order
            or path.name.startswith(".")
            or not stem.endswith(ending)
            or not path.is_file()
        ):
            continue
        stem = stem.removesuffix(ending)
        if stem not in found or order[suffix] < order[found[stem].suffix.lower()]:
            found[stem] = path
    return dict(sorted(found.items()))


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns.

    Args:
        path: CSV or TSV, or an Excel workbook (``.xlsx``), of which the first sheet counts.
        needed: Columns that it must have. Names are compared in small letters and without spaces around them.

    Returns:
        A mapping per line from column, as in ``needed`` or as the file writes it, to its cell; absent cells are "".

    Raises:
        ManifestError: It cannot be read, or a column is missing.
    """
    if path.suffix.lower() == ".xlsx":
        from pipelines.prepare.workbook import read_workbook

        names, lines = read_workbook(path)
    else:
        names, numbered = read_cells(path, "table")
        lines = [cells for _, cells in numbered]
    asked = {name.lower(): name for name in needed}
    columns = [asked.get(name.strip().lower(), name.strip()) for name in names]
    if missing := [name for name in needed if name not in columns]:
        raise ManifestError(
            f"table {path}: no column {', '.join(missing)}; found {', '.join(columns)}. "
            f"Needed {', '.join(needed)}. Download it again."
        )
    return [
        dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=False)) for cells in lines
    ]


def either_table(folder: Path, stem: str) -> Path:
    """A table that comes as ``.xlsx`` and that people save as ``.csv``; the CSV where there are both.

    Raises:
        ManifestError: There is neither.
    """
    for suffix in (".csv", ".xlsx"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise ManifestError(
        f"{folder}: no {stem}.xlsx and no {stem}.csv. Needed one of them. Download the set again, whole."
    )


def believable_mpp(text: str, where: str) -> float:
    """Um per pixel as a text says it.

    Raises:
        ManifestError: It is no number that slides have; the message names ``where``.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not MIN_MPP <= found <= MAX_MPP:
        raise ManifestError(
            f"{where} has mpp {text!r}. Needed {MIN_MPP} to {MAX_MPP:g} um per pixel, such as 0.5. Mend it."
        )
    return found


def named_few(names: Iterable[str], most: int = 10) -> str:
    """Names in a row, the first ones where there are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def unmatched(labels: Mapping[str, Path], slides: Mapping[str, object]) -> tuple[str, ...]:
    """A remark on labels whose slide is not there; nothing where all are."""
    orphans = [path.name for stem, path in labels.items() if stem not in slides]
    if not orphans:
        return ()
    return (f"{len(orphans)} label files have no slide here and are left out: {named_few(orphans)}.",)
