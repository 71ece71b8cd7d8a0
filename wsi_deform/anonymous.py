"""Ids in place of the names of slides and patients, for reports that leave the house.

An id is a keyed hash (HMAC-SHA-256) of the name. The key is random and stays in the folder that is reported on, in the
hidden file ``.anonymous``: with it the ids are the same in every report of this folder, and without it nobody finds a
name by hashing all that it may be, as accession numbers and names of people can be.
"""

from __future__ import annotations

import csv
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.cells import plain_text, safe_row
from wsi_deform.errors import MaskError
from wsi_deform.files import write_aside, write_text

SECRET = ".anonymous"
COLUMNS = ("id", "name")
LEFT_OUT = "left out of an anonymous report: it names files"
_DIGITS = 10
_ID = re.compile(rf"(slide|patient)-[0-9a-f]{{{_DIGITS}}}")


class Names:
    """Names as they are; ``AnonymousNames`` gives ids in their place.

    Attributes:
        are_shown: Whether names, and the files that they are names of, may be shown.
    """

    are_shown = True

    def slide(self, name: str) -> str:
        """What a slide is called."""
        return name

    def patient(self, name: str) -> str:
        """What a patient is called."""
        return name


AS_THEY_ARE = Names()


class AnonymousNames(Names):
    """An id for each name that is asked for, the same whenever and wherever it is asked for.

    Convention:
        What has the form of an id stays: an evaluation that is anonymous already has the ids of the report.
    """

    are_shown = False

    def __init__(self, folder: Path, *, key_file: Path | None = None) -> None:
        """Take the folder's secret, or make it.

        Args:
            folder: The folder that is reported on: masks, or a run.
            key_file: A CSV of ids and names; ids in it are kept, so that folders may share them.

        Raises:
            MaskError: The secret cannot be read or written, or the key file is something else.
        """
        self._secret = _secret_of(folder)
        self._ids: dict[tuple[str, str], str] = {} if key_file is None else _read_key(key_file)

    def slide(self, name: str) -> str:
        """The id of a slide, ``slide-`` and ten hexadecimal digits."""
        return self._of("slide", name)

    def patient(self, name: str) -> str:
        """The id of a patient, ``patient-`` and ten hexadecimal digits."""
        return self._of("patient", name)

    def write_key(self, path: Path) -> None:
        """Write which id stands for which name, of all that were asked for and all that were read.

        Raises:
            MaskError: It cannot be written.
        """
        try:
            with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                for (_, name), found in sorted(self._ids.items()):
                    writer.writerow(safe_row([found, name]))
        except OSError as error:
            raise MaskError(f"key file {path}: cannot be written ({error}). Choose another --key.") from error

    def _of(self, kind: str, name: str) -> str:
        if _ID.fullmatch(name):
            return name
        key = kind, name
        if key not in self._ids:
            digest = hmac.new(self._secret, f"{kind}\0{name}".encode(errors="surrogateescape"), "sha256")
            self._ids[key] = f"{kind}-{digest.hexdigest()[:_DIGITS]}"
        return self._ids[key]


def without_files(made: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of how something was made, less what names files: the command, and where the model lies."""
    return {name: value for name, value in made.items() if name not in ("command", "model", "run")}


def _secret_of(folder: Path) -> bytes:
    """The secret of a folder; made where it has none."""
    path = folder / SECRET
    try:
        if not path.is_file():
            write_text(path, secrets.token_hex(32) + "\n")
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise MaskError(
            f"{path}: cannot be read or written ({error}). Needed the secret that ids are made with. Check the rights "
            "of the folder; a damaged file may be deleted, and then all ids are new."
        ) from error


def _read_key(path: Path) -> dict[tuple[str, str], str]:
    """The ids of a key file; none where it is yet to be written."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MaskError(f"key file {path}: cannot be read ({error}). Choose another --key.") from error
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        match = _ID.fullmatch(row[0]) if len(row) == 2 else None
        if match is not None:
            found[match[1], plain_text(row[1])] = row[0]
    if tuple(header) != COLUMNS or len(found) != len(rows):
        raise MaskError(
            f"key file {path}: not a key file. Needed the columns {' and '.join(COLUMNS)}, as --key writes them. It "
            "stays as it is; choose another --key."
        )
    return found
