"""The main job on slides that it draws itself: draw, train each method, segment, evaluate, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config import find_config, read_config
from wsi_deform.config_sections import Config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.outcome import Watcher as BatchWatcher
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import WsiDeformError
from wsi_deform.evaluate.masks import Evaluation, evaluate_masks
from wsi_deform.files import write_json
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest
from wsi_deform.networks.encoders import weight_file
from wsi_deform.report.comparison import compare_methods
from wsi_deform.train.loop import TrainingResult, train
from wsi_deform.train.watcher import Watcher as TrainingWatcher

BUDGET = (16, 64)
SLIDE = Size(2048, 512)
SLIDES = {"train": 64, "val": 8, "test": 16}
METHODS = {
    # Uniform learns better from one fixed grid (pipelines/ablations), and each method gets what suits it.
    "uniform": ("sampling.density=uniform", "augmentation.shift_cells=0", "augmentation.warp_cells=0"),
    "joint": ("sampling.density=learned",),
}
SETTINGS = (
    f"sampling.budget={list(BUDGET)}",
    "networks.segmentation={name: 'monai:DynUNet'}",
    "augmentation={flip_x: true, flip_y: true, shift_cells: 1.0, warp_cells: 0.3}",
    "training={epochs: 40, validate_every: 5, threads: 1}",
    "device=cpu",
)
# Beside them, where it is asked for: encoders learn in fewer epochs, and read 4,096 px of a slide.
BLOCKS = "blocks"
OF_BLOCKS = (
    "blocks.finest_um=4",
    "blocks.window_px=16",
    "blocks.share=0.25",
    "training={epochs: 16, validate_every: 4, threads: 1}",
    "device=cpu",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes:
        evaluations: Method -> measures on the held-out slides.
        page: The report.
        finished: False when it was asked to stop; the same command goes on.
    """

    evaluations: Mapping[str, Evaluation]
    page: Path
    finished: bool


class Watcher(Protocol):
    """Who is told how the demo goes; gives a watcher for each of its parts."""

    def drawing(self, slides: int) -> AbstractContextManager[Callable[[str], None]]:
        """So many slides are about to be drawn; the function is called with the id of each."""
        ...

    def training(self, method: str) -> AbstractContextManager[TrainingWatcher]:
        """A method is about to be trained."""
        ...

    def segmenting(self, method: str) -> AbstractContextManager[BatchWatcher]:
        """A method is about to segment the held-out slides."""
        ...


def demo_config(method: str, *, seed: int = 0, changes: Sequence[str] = ()) -> Config:
    """The configuration of a method in the demo: warps differ by density and by augmentation by sampling.

    Args:
        method: "joint", "uniform" or "blocks".
        seed: Seed of training.
        changes: Further ``key=value``.
    """
    named = (f"name={method}", f"seed={seed}")
    if method == BLOCKS:
        return read_config(find_config(BLOCKS), changes=[*named, *OF_BLOCKS, *changes])
    return read_config(changes=[*named, *SETTINGS, *METHODS[method], *changes])


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    slides: Mapping[str, int] = SLIDES,
    size: Size = SLIDE,
    changes: Sequence[str] = (),
    blocks: bool = False,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> DemoResult:
    """Draw slides with truth, train joint and uniform with the same budget, segment, evaluate and report.

    Every part skips what an earlier call finished.

    Args:
        out: Gets ``slides/ labels/ classes.yaml manifest.csv runs/<method>/ masks/<method>/ report.html``.
        seed: Decides the slides and the training.
        slides: Number of slides per split.
        size: Size of a slide, px.
        changes: ``key=value`` over all configurations.
        blocks: Whether blocks are trained too; they read 4 times the pixels.
        watcher: Told how it goes.
        stop: Asked during training.

    Returns:
        The measures and the page.

    Raises:
        WsiDeformError: ``out`` holds another demo, or a part failed.
        ModelError: The encoder's weights for blocks are not there; nothing is drawn or trained then.
    """
    # The last one is what the page puts forward.
    methods = (*([BLOCKS] if blocks else []), *METHODS)
    for method in methods:
        if (weights := demo_config(method, changes=changes).networks.pretrained) is not None:
            weight_file(weights)
    manifest, classes = _drawn(out, seed, slides, size, watcher)
    evaluations: dict[str, Evaluation] = {}
    for method in methods:
        result = _trained(out, method, seed, changes, manifest, classes, watcher, stop)
        if not result.finished:
            return DemoResult(evaluations={}, page=out / "report.html", finished=False)
    for method in methods:
        _segmented(out, method, watcher)
        evaluations[method] = evaluate_masks(manifest.of_split("test"), out / "masks" / method, classes)
    page = compare_methods(
        out / "report.html",
        title="wsi-deform demo: learning where to look",
        manifest=manifest,
        classes=classes,
        runs={method: out / "runs" / method for method in methods},
        masks={method: out / "masks" / method for method in methods},
        evaluations=evaluations,
        facts={"seed": seed},
    )
    return DemoResult(evaluations=evaluations, page=page, finished=True)


def _drawn(
    out: Path, seed: int, slides: Mapping[str, int], size: Size, watcher: Watcher
) -> tuple[Manifest, ClassTable]:
    """Draw the study unless it is there."""
    wanted: dict[str, Any] = {"seed": seed, "slides": dict(slides), "size": list(size.shape)}
    note = out / "demo.json"
    if note.is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
        if found != wanted:
            raise WsiDeformError(
                f"demo {out}: holds a demo of {found}. Needed {wanted}, or an empty folder. Choose another --out."
            )
    else:
        with watcher.drawing(sum(slides.values())) as on_slide:
            draw_study(out, **slides, seed=seed, size=size, on_slide=on_slide)
        write_json(note, wanted)
    return read_manifest(out / "manifest.csv"), read_class_table(out / "classes.yaml")


def _trained(
    out: Path,
    method: str,
    seed: int,
    changes: Sequence[str],
    manifest: Manifest,
    classes: ClassTable,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> TrainingResult:
    config = demo_config(method, seed=seed, changes=changes)
    with watcher.training(method) as bars:
        return train(config, manifest, classes, out / "runs" / method, watcher=bars, stop=stop)


def _segmented(out: Path, method: str, watcher: Watcher) -> Batch:
    folder = out / "masks" / method
    sources = slide_sources(out / "manifest.csv", out=folder, split="test")
    with watcher.segmenting(method) as bars:
        batch = segment_slides(sources, out / "runs" / method, folder, device="cpu", watcher=bars)
    if failed := batch.of("failed"):
        raise WsiDeformError(f"demo {out}: {failed[0].slide_id} failed: {failed[0].reason}")
    return batch
