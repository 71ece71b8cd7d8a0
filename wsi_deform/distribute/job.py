"""What one slide's turn needs to know: plain data that goes to a loop, a child process or a cluster alike.

Nothing that is slow is imported here, neither torch nor a reader: who only hands jobs over needs neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point
from wsi_deform.runtime.choice import TORCH, Runtime
from wsi_deform.slide.identity import slide_identity
from wsi_deform.slide_results import WantedOutputs

if TYPE_CHECKING:
    from wsi_deform.slide.slide import OnBadTile

MASK_VERSION = 3
"""Raised when the program makes other masks of the same slide, model and settings than before, beyond rounding; slides
of earlier versions are then done again. Version 0.1.0 is 1; since 3, blocks of which less than 1 % is
tissue are glass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """Everything that a worker needs to segment a slide; plain data that pickles.

    Attributes:
        source: The slide.
        model: Path of the model's ``.safetensors``.
        model_sha256: What ``models.model_sha256`` gives for it.
        out: The mask folder.
        folder_identity: Of the mask folder, see ``out_folder.prepare_folder``; empty is not looked at.
        device: Torch device, e.g. "cpu".
        runtime: What computes the networks.
        threads: Threads that render and encode the mask; more than 1 gained nothing on 2 cores (benchmark `mask`).
        wanted: What is written besides the mask, and how that is put back.
        needs_labels: Whether the model is an oracle that is shown the slide's labels.
        batch: Most fields per forward pass.
        memory_gib: Most memory of the process that does it, GiB, or None.
        overwrite: Whether a slide that is done is done again.
        seen: With ``overwrite``, the attempt whose result lay there when the call began; a newer one stays.
        on_bad_tile: "fail", or "blank" to leave tiles out that cannot be decoded.
        retry_failed: Whether a slide that killed its process too often is tried once more.
        is_isolated: Whether the process is one that may die: a worker or child that is replaced.
        expired: A lease of the slide that was seen to be expired, see ``lease.LeaseWatch``, or None.
        versions: Package -> version, for the state.
    """

    source: SlideSource
    model: Path
    model_sha256: str
    out: Path
    folder_identity: str = ""
    device: str = "cpu"
    runtime: Runtime = TORCH
    threads: int = 1
    wanted: WantedOutputs = WantedOutputs()
    needs_labels: bool = False
    batch: int = 1
    memory_gib: float | None = None
    overwrite: bool = False
    seen: str = ""
    on_bad_tile: OnBadTile = "fail"
    retry_failed: bool = False
    is_isolated: bool = False
    expired: bytes | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slide_id(self) -> str:
        """The slide's name."""
        return self.source.slide_id

    def identity(self) -> dict[str, str]:
        """What tells the slide, and the files of its tissue and of labels that it needs, from others at their paths.

        Raises:
            SlideError: A file is missing or cannot be read.
        """
        known = slide_identity(self.source.path)
        if self.source.tissue_path is not None:
            known |= {
                f"tissue {name}": value for name, value in slide_identity(self.source.tissue_path).items()
            }
        if self.needs_labels and self.source.labels is not None:
            try:
                labels = slide_identity(self.source.labels)
            except SlideError as error:
                raise SlideError(f"slide {self.source.path}: labels {error}") from error
            known |= {f"labels {name}": value for name, value in labels.items()}
        return known

    def fingerprints(self, identity: Mapping[str, str]) -> tuple[str, ...]:
        """Hashes of all results that will do, the job's own first; others where nobody asked for a runtime.

        Args:
            identity: What ``identity`` returned.
        """
        return tuple(self.fingerprint(identity, each) for each in (self.runtime, *self.runtime.others()))

    def fingerprint(self, identity: Mapping[str, str] | None = None, runtime: Runtime | None = None) -> str:
        """Hash of what the mask depends on: model, slide file, mpp override, tissue mask, settings, ``MASK_VERSION``.

        Of an oracle also the labels, of a slide with a region also that, and of another runtime than torch also that.

        Args:
            identity: What ``identity`` returned; None asks again.
            runtime: None is the job's.

        Raises:
            SlideError: As ``identity``.
        """
        known = dict(self.identity() if identity is None else identity)
        mpp = list(astuple(self.source.mpp)) if isinstance(self.source.mpp, Point) else self.source.mpp
        parts = [self.model_sha256, known, mpp, self.wanted.settings()]
        if self.needs_labels:
            parts.append({"label_channel": self.source.label_channel})
        if self.source.region is not None:
            parts.append({"region": list(astuple(self.source.region))})
        if (settings := (runtime or self.runtime).settings()) is not None:
            parts.append(settings)
        parts.append({"masks": MASK_VERSION})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
