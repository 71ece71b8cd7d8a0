"""What lies where in the folder that `wsi-deform segment` fills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OutputKind = Literal[
    "samples", "probabilities", "footprint", "geojson", "coloured", "ome_zarr", "overlay", "mask"
]


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """The places of all outputs; nothing is read or written here.

    Attributes:
        path: The folder itself, ``--out`` of `segment` and ``--masks`` of `evaluate`.
    """

    path: Path

    def mask(self, slide_id: str) -> Path:
        """The mask, a pyramidal OME-TIFF."""
        return self.path / "masks" / f"{slide_id}.ome.tif"

    def geojson(self, slide_id: str) -> Path:
        """The outlines of the mask, for QuPath and others; unless it was not wanted."""
        return self.path / "geojson" / f"{slide_id}.geojson.gz"

    def overlay(self, slide_id: str) -> Path:
        """The thumbnail with the classes drawn over it."""
        return self.path / "overlays" / f"{slide_id}.jpg"

    def coloured(self, slide_id: str) -> Path:
        """The mask in the colours of its classes, a pyramid; where it was asked for."""
        return self.path / "overlays" / f"{slide_id}.tif"

    def ome_zarr(self, slide_id: str) -> Path:
        """The mask once more, as labels in a folder of OME-Zarr; where it was asked for."""
        return self.path / "masks" / f"{slide_id}.ome.zarr"

    def probabilities(self, slide_id: str) -> Path:
        """The probability of each class, a channel each; where it was asked for."""
        return self.path / "probabilities" / f"{slide_id}.probability.ome.tif"

    def footprint(self, slide_id: str) -> Path:
        """How closely the slide was looked at, tenths of um per sample; where it was asked for."""
        return self.path / "footprints" / f"{slide_id}.footprint.ome.tif"

    def samples(self, slide_id: str) -> Path:
        """Where the slide was sampled, with the labels; see ``mask/samples.py``."""
        return self.path / "samples" / f"{slide_id}.npz"

    def state(self, slide_id: str) -> Path:
        """How far the slide is."""
        return self.path / "states" / f"{slide_id}.json"

    def run(self, stamp: str) -> Path:
        """The record of one call of the command."""
        return self.path / "runs" / f"{stamp}.json"

    def lease(self, slide_id: str) -> Path:
        """Says which process works on the slide; there only while it does."""
        return self.path / "states" / f".{slide_id}.lease"

    @property
    def tables_lease(self) -> Path:
        """Says which process writes ``measurements.csv`` and ``summary.md``; there only while it does."""
        return self.path / ".tables.lease"

    @property
    def identity(self) -> Path:
        """What tells this folder from another one at the same path."""
        return self.path / ".folder.json"

    @property
    def aside(self) -> Path:
        """Where slides are made before they take their places; there only while one is."""
        return self.path / ".aside"

    @property
    def states(self) -> Path:
        """The folder of all states."""
        return self.path / "states"

    @property
    def qupath(self) -> Path:
        """Scripts for QuPath, where they were asked for."""
        return self.path / "qupath"

    @property
    def classes(self) -> Path:
        """The class table of the masks."""
        return self.path / "classes.json"

    @property
    def measurements(self) -> Path:
        """Pixels and area per slide and class."""
        return self.path / "measurements.csv"

    @property
    def summary(self) -> Path:
        """How far all slides of the folder are and what the last call did, for people."""
        return self.path / "summary.md"

    @property
    def evaluation(self) -> Path:
        """Measures against labels: a folder per split, and beside it the newest as ``.json`` and ``.csv``."""
        return self.path / "evaluation"

    def outputs(self, slide_id: str) -> dict[OutputKind, Path]:
        """All files of one slide, the mask last."""
        return {
            "samples": self.samples(slide_id),
            "probabilities": self.probabilities(slide_id),
            "footprint": self.footprint(slide_id),
            "geojson": self.geojson(slide_id),
            "coloured": self.coloured(slide_id),
            "ome_zarr": self.ome_zarr(slide_id),
            "overlay": self.overlay(slide_id),
            "mask": self.mask(slide_id),
        }
