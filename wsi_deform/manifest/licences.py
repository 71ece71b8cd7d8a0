"""Under which licences the slides of a manifest come, as its column ``data_licence`` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wsi_deform.manifest.rows import ManifestRow

NOT_STATED = "not stated"


def licences_of(rows: Iterable[ManifestRow]) -> dict[str, int]:
    """Count slides by licence.

    Args:
        rows: Any rows.

    Returns:
        Licence -> slides, by name; slides of rows that say none are under "not stated", which comes last.
    """
    counts: dict[str, int] = {}
    for row in rows:
        said = row.data_licence or NOT_STATED
        counts[said] = counts.get(said, 0) + 1
    return dict(sorted(counts.items(), key=lambda each: (each[0] == NOT_STATED, each[0])))


def licences_text(licences: Mapping[str, int]) -> str:
    """Licences in words: "CC BY 4.0 (12 slides), not stated (1 slide)"."""
    return ", ".join(f"{name} ({count} slide{'s' if count != 1 else ''})" for name, count in licences.items())
