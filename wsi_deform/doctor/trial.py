"""The whole way on a tiny slide: drawn, segmented by an untrained model, its mask read by other software."""

from __future__ import annotations

import time
from pathlib import Path

from wsi_deform.doctor.finding import Finding, tried

TOPIC = "segment"
SIDES_PX = (640, 160)
MPP = 0.5


def segment_finding(folder: Path) -> Finding:
    """Draw a slide, save and load a model, segment the slide to files and read them.

    Args:
        folder: An empty folder for all of it.
    """
    remedy = "Mend the faults above first; if there are none, report this with the whole of what was printed."
    return tried(TOPIC, "tiny slide", lambda: _segmented(folder), remedy=remedy)


def _segmented(folder: Path) -> str:
    import numpy as np
    import tifffile
    import torch

    from wsi_deform.annotation.classes import read_class_table
    from wsi_deform.config import parse_config
    from wsi_deform.distribute.batch import segment_slides
    from wsi_deform.distribute.sources import slide_sources
    from wsi_deform.drawn.study import draw_study
    from wsi_deform.geometry import Size
    from wsi_deform.model import Model
    from wsi_deform.model_file import save_model

    started = time.monotonic()
    width, height = SIDES_PX
    study = draw_study(folder, train=0, val=0, test=1, size=Size(width, height), mpp=MPP, workers=1)
    settings = {
        "sampling": {"budget": [12, 48]},
        "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
    }
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = Model(
            config=parse_config(settings, source="doctor"), classes=read_class_table(study.classes), mpp=MPP
        )
    save_model(model, folder / "run" / "best.safetensors", facts={})
    out = folder / "out"
    sources = slide_sources(folder / "slides", out=out)
    batch = segment_slides(sources, folder / "run", out, device="cpu", command=["wsi-deform doctor"])
    for outcome in batch.of("failed"):
        raise RuntimeError(outcome.reason)
    (mask,) = (out / "masks").iterdir()
    labels = tifffile.imread(mask, level=0)
    if labels.shape != (height, width) or labels.max() >= model.classes.count:
        raise ValueError(f"a mask of {labels.shape} with labels up to {labels.max()}")
    count, seconds = len(np.unique(labels)), time.monotonic() - started
    return f"a slide of {width} x {height} px segmented into {count} classes in {seconds:.1f} s"
