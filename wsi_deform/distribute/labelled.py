"""Slides for an oracle, which is shown their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import ManifestError


def with_labels(sources: Sequence[SlideSource], model: Path) -> list[SlideSource]:
    """The slides of an oracle: one without labels is known to fail.

    Args:
        sources: The slides.
        model: The oracle, for the error.

    Raises:
        ManifestError: No slide has labels.
    """
    if all(source.labels is None for source in sources):
        raise ManifestError(
            f"model {model}: an oracle (sampling.density edges or edge_positions), whose samples lie where the labels "
            f"of the slide have borders. Found {len(sources)} slides without labels. Needed a manifest CSV with a "
            "column mask as --slides; on slides without labels use another model, or --method patches."
        )
    problem = (
        "no labels: the column mask of its manifest row is empty. Needed them: the model is an oracle "
        "(sampling.density edges or edge_positions). Fill the column, or leave the row out."
    )
    return [
        source
        if source.labels is not None or source.problem
        else replace(source, problem=f"slide {source.slide_id}: {problem}")
        for source in sources
    ]
