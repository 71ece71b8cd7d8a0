"""One trial: train one variant at one budget with one seed, then measure it on the untouched test slides.

Run as a process of its own by ``study``; prints nothing and leaves ``result.json`` in its folder.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsi_deform.annotation.classes import UNLABELLED, read_class_table
from wsi_deform.annotation.labels import Labels
from wsi_deform.config import read_config
from wsi_deform.data.study import open_labelled
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import confusions_of
from wsi_deform.files import write_json
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.provenance import git_state
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.segment import SegmentedSlide, segment_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.train.loop import train

RESULT = "result.json"


def run_trial(folder: Path, *, slides: Path, changes: list[str]) -> dict[str, Any]:
    """Train and measure.

    Args:
        folder: Of the trial; a training that was stopped goes on.
        slides: The manifest, with ``classes.yaml`` beside it.
        changes: ``key=value`` over the default configuration.

    Returns:
        What ``result.json`` says.
    """
    manifest, classes = read_manifest(slides), read_class_table(slides.parent / "classes.yaml")
    config = read_config(changes=changes)
    started = time.process_time()
    result = train(config, manifest, classes, folder / "run")
    cpu_seconds = time.process_time() - started
    model = load_model(folder / "run")
    measured = {
        split: measure(model, [open_labelled(row, classes) for row in manifest.of_split(split)])
        for split in ("val", "test")
    }
    state = git_state()
    found = {
        **{f"{split}_{name}": value for split, values in measured.items() for name, value in values.items()},
        "train_cpu_seconds": round(cpu_seconds, 1),
        "epochs": result.epochs,
        "commit": state["commit"] if state else None,
    }
    write_json(folder / RESULT, found)
    return found


def measure(model: Model, labelled: list[tuple[Slide, Labels]]) -> dict[str, Any]:
    """Measure a model on some slides at full resolution.

    Returns:
        mIoU with the nearest and with the linear reverse sampler, mIoU(Y', Y) of the labels at the samples put back
        (what sampling alone loses), IoU of each class, and the share of samples on classes other than
        the background.
    """
    classes = model.classes.count
    nearest, linear, sampled = (Confusion.empty(classes) for _ in range(3))
    on_tissue = samples = 0
    for slide, labels in labelled:
        segmented = segment_slide(slide, model, labels=labels, limit_to_tissue=False)
        true = [labels.at_points(field.points_px) for field in segmented.fields]
        ignored = (UNLABELLED, model.classes.background)
        on_tissue += sum(
            int((~np.isin(each, [label for label in ignored if label is not None])).sum()) for each in true
        )
        samples += segmented.samples
        maps = [
            reverse_of(segmented, "nearest").region,
            reverse_of(segmented, "linear").region,
            reverse_of(segmented, "nearest", true).region,
        ]
        counts = confusions_of(labels, maps, size=slide.size, classes=classes)
        nearest, linear, sampled = (
            total + own for total, own in zip((nearest, linear, sampled), counts, strict=True)
        )
    return {
        "miou": nearest.miou(),
        "miou_linear": linear.miou(),
        "miou_sampled": sampled.miou(),
        "tissue_share": on_tissue / samples,
        "iou": [None if np.isnan(value) else round(float(value), 5) for value in nearest.iou()],
    }


def reverse_of(
    segmented: SegmentedSlide, interpolation: Any, labels: list[np.ndarray] | None = None
) -> ReverseSampler:
    """The reverse sampler of a segmented slide, with other labels if there are any."""
    fields = segmented.fields
    if labels is not None:
        fields = tuple(
            FieldSamples(kept=field.kept, points_px=field.points_px, labels=own)
            for field, own in zip(fields, labels, strict=True)
        )
    return ReverseSampler(
        fields,
        size=segmented.size,
        outside_label=segmented.outside_label if labels is None else UNLABELLED,
        interpolation=interpolation,
    )


def main() -> None:
    """Run the trial that the one argument describes (JSON)."""
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    run_trial(Path(given["folder"]), slides=Path(given["slides"]), changes=given["changes"])


if __name__ == "__main__":
    main()
