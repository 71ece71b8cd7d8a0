"""Measures of named groups of classes: within a group, one class taken for another is no error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.rows import number

MEASURES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall"}


def group_measures(counts: Confusion, classes: ClassTable) -> dict[str, dict[str, Any]]:
    """Measure every group of a class table as if it were one class.

    Args:
        counts: Pixels by true and predicted class.
        classes: The class table.

    Returns:
        Name of a group -> ``classes`` (their names), ``iou``, ``dice``, ``precision``, ``recall``; in [0, 1], None
        where there was nothing to measure.
    """
    return {
        group: {
            "classes": [classes.names[index] for index in members],
            **{
                key: number(float(getattr(_inside_and_outside(counts, members), key)()[0]))
                for key in MEASURES
            },
        }
        for group, members in classes.groups
    }


def group_notes(data: Mapping[str, Any]) -> list[str]:
    """One sentence per group of classes, of all slides together.

    Args:
        data: What ``evaluation_data`` gave; of an older version, or of a table without groups, nothing is said.
    """
    return [
        f"Group {group} ({', '.join(held['classes'])}): "
        + ", ".join(f"{name} {_shown(held[key])}" for key, name in MEASURES.items())
        + "."
        for group, held in data["pooled"]["predicted"].get("groups", {}).items()
    ]


def _inside_and_outside(counts: Confusion, members: tuple[int, ...]) -> Confusion:
    """The same pixels, as two classes: those of the group, and all others."""
    inside = np.zeros(len(counts.counts), np.int64)
    inside[list(members)] = 1
    side = np.stack([inside, 1 - inside])
    return Confusion(side @ counts.counts @ side.T)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
