"""What a public data set has to say about itself: one protocol, whatever its folder looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsi_deform.manifest.rows import ManifestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a downloaded folder holds.

    Attributes:
        rows: One per slide. A slide without labels has neither mask nor annotation, and no split.
        classes: The class table, in any form that ``class_table_from_data`` reads.
        remarks: What a user has to know of this folder: whole sentences.
    """

    rows: tuple[ManifestRow, ...]
    classes: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


class FindRows(Protocol):
    """Lists a downloaded folder, and converts the labels that the program cannot read as they are."""

    def __call__(self, downloaded: Path, out: Path, seed: int) -> Found:
        """Find the slides of a data set.

        Args:
            downloaded: The folder as it was downloaded and unpacked; never written to.
            out: Where converted labels go, ``out/labels``.
            seed: Decides splits where the set has none of its own.

        Raises:
            WsiDeformError: The folder is not this set's, or something in it cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """A data set that ``python -m pipelines.prepare`` knows.

    Attributes:
        name: What the command calls it.
        title: What people call it.
        licence: Under which terms the data may be used; goes into column ``data_licence``.
        patients: How far it is known whose slides these are.
        find: Lists its folder.
    """

    name: str
    title: str
    licence: str
    patients: str
    find: FindRows
