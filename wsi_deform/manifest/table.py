"""A CSV as people write it: header, lines, and the names of its columns."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from wsi_deform.cells import plain_text
from wsi_deform.errors import ManifestError
from wsi_deform.texts import read_text

ALIASES = {
    "wsi": "slide",
    "image": "slide",
    "path": "slide",
    "patient_id": "patient",
    "case_id": "patient",
    "data_license": "data_licence",
}


def read_cells(path: Path, what: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV (commas, semicolons or tabs; UTF-8 with or without a byte-order mark) that has a header line.

    Args:
        path: The file.
        what: What errors call it.

    Returns:
        Header cells, and (line number, cells) of every line that is not blank; at least one. Cells are without spaces
        around them and without the apostrophes of ``cells.safe_row``.

    Raises:
        ManifestError: It cannot be read, is no CSV, or has no line below the header.
    """
    try:
        text = read_text(path, "utf-8-sig")
    except OSError as error:
        raise ManifestError(
            f"{what} {path}: cannot be read ({error.strerror or error}). Needed a CSV file. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{what} {path}: not UTF-8 text (byte {error.object[error.start]:#04x} at position "
            f"{error.start}). "
            'Needed a CSV in UTF-8. Save it again as "CSV UTF-8" (a spreadsheet file must be exported first).'
        ) from error
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((reader.line_num, [plain_text(cell.strip()) for cell in cells]))
    except csv.Error as error:
        raise ManifestError(
            f"{what} {path}: line {reader.line_num} is not CSV ({error}). Needed quotes that close. Mend "
            "that line."
        ) from error
    if len(lines) < 2:
        found = "a header and no rows" if lines else "nothing"
        raise ManifestError(
            f"{what} {path}: holds {found}. Needed a header line and one line per slide. Add the slides."
        )
    return lines[0][1], lines[1:]


def canonical(name: str) -> str:
    """A column's name as this program calls it: small letters, "_" between words, synonyms brought together."""
    key = re.sub(r"[\s-]+", "_", name.lower())
    return ALIASES.get(key, key)
