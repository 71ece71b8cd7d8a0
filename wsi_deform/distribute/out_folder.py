"""The mask folder as one that may vanish: made once, told apart from another one at the same path."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress

from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.distribute.measurements import read_measurements
from wsi_deform.errors import MaskError, ModelError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.texts import read_json

SETTLING_S = 2.0


class OutFolderGoneError(MaskError):
    """The mask folder is no longer there, or another one is in its place; no slide can be done."""


def prepare_folder(folder: MaskFolder, classes: ClassTable) -> str:
    """Make the folder, its class table and its identity.

    Args:
        folder: The mask folder.
        classes: Of the masks that shall lie in it.

    Returns:
        Its identity, for ``check_folder``.

    Raises:
        ModelError: It holds masks of other classes.
        MaskError: It cannot be written, or holds a ``measurements.csv`` that is another table.
    """
    refuse_other_classes(folder, classes)
    read_measurements(folder.measurements)  # refused before the work, not after it
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), folder.identity.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"folder": uuid.uuid4().hex}))
        identity = _identity(folder)
        write_class_table(classes, folder.classes)
    except OSError as error:
        raise MaskError(
            f"output folder {folder.path}: cannot be written ({error}). Choose a folder that can, with --out."
        ) from error
    return identity


def refuse_other_classes(folder: MaskFolder, classes: ClassTable) -> None:
    """Refuse a folder, if it exists, that holds masks of other classes.

    Raises:
        ModelError: It does.
    """
    if not folder.classes.exists():
        return
    held = read_class_table(folder.classes)
    if held.names != classes.names:
        raise ModelError(
            f"{folder.classes}: classes {', '.join(held.names)}; the model has "
            f"{', '.join(classes.names)}. "
            "Needed the same for all masks of a folder. Choose another --out, or delete the folder."
        )


def check_folder(folder: MaskFolder, identity: str) -> None:
    """Refuse to go on in a folder that is not the one in which the work began.

    Args:
        folder: The mask folder.
        identity: What ``prepare_folder`` returned.

    Raises:
        OutFolderGoneError: It was moved, removed or unmounted, or its disk does not answer.
    """
    try:
        found = read_json(folder.identity)["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != identity:
        what = "is another folder now" if found else "is no longer there"
        raise OutFolderGoneError(
            f"output folder {folder.path}: {what} (was it moved, removed or unmounted?). Needed the folder in "
            "which the work began, with its masks. Bring it back and give the same command again; what was done "
            "in it is kept."
        )


def _identity(folder: MaskFolder) -> str:
    """Read it; another process may be about to write it."""
    started = time.monotonic()
    while True:
        with suppress(ValueError, KeyError, TypeError):
            return str(read_json(folder.identity)["folder"])
        if time.monotonic() - started > SETTLING_S:
            # Cut off by a full disk or a kill, long ago.
            folder.identity.write_text(json.dumps({"folder": uuid.uuid4().hex}), encoding="utf-8")
        time.sleep(0.05)
