"""Where commands find the class table of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.errors import AnnotationError
from wsi_deform.manifest.rows import Manifest

NAMES = ("classes.yaml", "classes.yml", "classes.json")


@overload
def find_class_table(
    manifest: Manifest, given: Path | None, *, required: Literal[True] = True
) -> ClassTable: ...


@overload
def find_class_table(manifest: Manifest, given: Path | None, *, required: bool) -> ClassTable | None: ...


def find_class_table(manifest: Manifest, given: Path | None, *, required: bool = True) -> ClassTable | None:
    """The class table that was named, or the one beside the manifest.

    Args:
        manifest: A manifest that was read.
        given: A path from the command line, or None.
        required: Whether it is an error to find none.

    Returns:
        The table, or None when there is none and none is required.

    Raises:
        AnnotationError: There is none, or it cannot be read.
    """
    found = class_table_in(manifest.folder, given)
    if found is None and required:
        raise AnnotationError(
            f"no class table: none of {', '.join(NAMES)} in {manifest.folder}. "
            "Needed the names of the classes and their mask values. Write one, or pass --classes FILE."
        )
    return found


def class_table_in(folder: Path, given: Path | None = None) -> ClassTable | None:
    """The class table that was named, else the one in a folder, else None.

    Raises:
        AnnotationError: It cannot be read.
    """
    if given is not None:
        return read_class_table(given)
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    return None if path is None else read_class_table(path)
