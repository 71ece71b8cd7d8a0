"""The first sheet of an Excel workbook as text, through openpyxl."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

from wsi_deform.errors import ManifestError
from wsi_deform.limits import TEXT


def read_workbook(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read the first sheet.

    Args:
        path: An ``.xlsx`` file.

    Returns:
        Header cells, and the cells of every line that is not blank. Whole numbers are without a decimal point.

    Raises:
        ManifestError: openpyxl is not installed, the file is no workbook, or it is larger than text may be.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ManifestError(
            f'workbook {path}: openpyxl is not installed. Needed it to read Excel files. Run pip install ".[sets]", '
            f"or save the sheet as {path.with_suffix('.csv').name} beside it."
        ) from error
    try:
        with zipfile.ZipFile(path) as archive:
            # A few bytes of an archive can stand for gigabytes of XML.
            unpacked = sum(each.file_size for each in archive.infolist())
        if unpacked > TEXT.value:
            raise ManifestError(f"workbook {path}: {unpacked:,} bytes unpacked. {TEXT.needed(unpacked)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and the like, which do not matter here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                rows = [
                    [_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)
                ]
            finally:
                book.close()
    except ManifestError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, SyntaxError, zipfile.BadZipFile) as error:
        raise ManifestError(
            f"workbook {path}: cannot be read ({' '.join(str(error).split()) or type(error).__name__}). Needed an "
            ".xlsx file. Download it again, or save it as CSV beside it."
        ) from error
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise ManifestError(f"workbook {path}: no lines below a header. Needed some. Download it again.")
    return rows[0], rows[1:]


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
