"""Ceilings of the warp: true labels at the samples, put back, for even samples and for samples near true borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.config import find_config, read_config
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import WsiDeformError
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Split
from wsi_deform.model import Model
from wsi_deform.model_file import save_model
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_results import WantedOutputs

CONFIGS = {"uniform": "uniform", "edge oracle": "edge_oracle"}
# What is said of the samples does not come into it: the smallest network there is.
NETWORK = "networks.segmentation={name: hrnetv2, width: 1, stem_stride: 4}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What ceilings are asked of.

    Attributes:
        manifest: CSV.
        classes: The class table.
        split: Whose slides.
        settings: ``key=value`` over the packaged configurations, such as lengths for images without mpp.
    """

    manifest: Path
    classes: ClassTable
    split: Split
    settings: tuple[str, ...] = ()

    def slides(self) -> list[tuple[Slide, Labels]]:
        """The slides of the split, opened, with their labels."""
        return [open_labelled(row, self.classes) for row in read_manifest(self.manifest).of_split(self.split)]


def warp_confusion(ask: Ask, system: str, budget: Sequence[int]) -> Confusion:
    """True labels at the samples of a system, put back by the reverse sampler, against all labels.

    Args:
        ask: Of what.
        system: Of ``CONFIGS``.
        budget: (short, long) side of the sampled image.

    Returns:
        Pixels by true and said class, of all slides.

    Raises:
        WsiDeformError: A slide failed.
    """
    config = read_config(
        find_config(CONFIGS[system]),
        changes=[NETWORK, f"sampling.budget={list(budget)}", "device=cpu", *ask.settings],
    )
    rows = read_manifest(ask.manifest).of_split(ask.split)
    mpp = median_mpp([slide for slide, _ in ask.slides()])
    torch.manual_seed(0)
    with TemporaryDirectory(prefix="headroom") as folder:
        masks, run = Path(folder, "masks"), Path(folder, "run")
        run.mkdir()
        save_model(Model(config=config, classes=ask.classes, mpp=mpp), run / "best.safetensors", facts={})
        batch = segment_slides(
            slide_sources(ask.manifest, out=masks, split=ask.split),
            run,
            masks,
            device="cpu",
            wanted=WantedOutputs(geojson=False, limit_to_tissue=False),
        )
        if failed := batch.of("failed"):
            raise WsiDeformError(f"{failed[0].slide_id}: {failed[0].reason}")
        found = evaluate_masks(rows, masks, ask.classes, split=ask.split).pooled_sampled
    if found is None:
        raise WsiDeformError(f"{ask.manifest}: no slide with samples in the split {ask.split}.")
    return found
