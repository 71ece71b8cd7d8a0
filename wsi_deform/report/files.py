"""Files that a report is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsi_deform import texts
from wsi_deform.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that this program wrote.

    Raises:
        ModelError: It is missing, or not a JSON object.
    """
    try:
        data = texts.read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}). Needed JSON that wsi-deform wrote.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: found {type(data).__name__}. Needed a JSON object of wsi-deform.")
    return data


def duration(seconds: float) -> str:
    """A time as people say it: ``4.2 s``, ``48 s``, ``3 min 20 s``, ``5 h 12 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
