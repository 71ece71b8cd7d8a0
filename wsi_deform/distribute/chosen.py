"""What a call must know of its model; nothing that is slow is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.runtime.choice import TORCH, Runtime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChosenModel:
    """A model that was loaded, in this process or another one; plain data that pickles.

    Attributes:
        path: Its ``.safetensors``, absolute.
        sha256: What ``models.model_sha256`` gives for it.
        device: Where slides are segmented, a torch device; of a scheduler's workers what was asked for.
        classes: Its class table.
        mpp: Um per px of its training slides, or None where they had none.
        needs_labels: Whether it is an oracle, which is shown the slide's labels.
        has_blocks: Whether it reads fields in blocks, and so labels no patches.
        runtime: What computes its networks.
    """

    path: Path
    sha256: str
    device: str
    classes: ClassTable
    mpp: float | None
    needs_labels: bool
    has_blocks: bool = False
    runtime: Runtime = TORCH
