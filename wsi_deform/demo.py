"""The main job on slides that it draws itself: draw, train each method, segment, evaluate, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from wsi_deform.config import find_config, is_of_samples, read_config
from wsi_deform.config_sections import Config
from wsi_deform.drawn.study import Study, draw_study
from wsi_deform.geometry import Size
from wsi_deform.side_by_side import BLOCKS, SideBySide, made_once, methods_here, run_side_by_side
from wsi_deform.side_by_side import Watcher as PartsWatcher

BUDGET = (16, 64)
SLIDE = Size(2048, 512)
SLIDES = {"train": 64, "val": 8, "test": 16}
BEST = "joint"
METHODS = {
    # Uniform learns better from one fixed grid (pipelines/ablations), and each method gets what suits it.
    "uniform": ("sampling.density=uniform", "augmentation.shift_cells=0", "augmentation.warp_cells=0"),
    BEST: ("sampling.density=learned",),
}
SETTINGS = (
    f"sampling.budget={list(BUDGET)}",
    "networks.segmentation={name: 'monai:DynUNet'}",
    "augmentation={flip_x: true, flip_y: true, shift_cells: 1.0, warp_cells: 0.3}",
    "training={epochs: 40, validate_every: 5, threads: 1}",
    "device=cpu",
)
# Encoders learn in fewer epochs, and read 4,096 px of a slide.
OF_BLOCKS = (
    "blocks.finest_um=4",
    "blocks.window_px=16",
    "blocks.share=0.25",
    "training={epochs: 16, validate_every: 4, threads: 1}",
    "device=cpu",
)
LEAD = (
    "Whole-slide images are too large to label pixel by pixel. Here the same slides are labelled from few of their "
    "pixels, and the methods differ in which ones they read. The slides are drawn, so that the truth is known: {train} "
    "train each method, {val} choose its best epoch, and the {test} that are measured and shown are new to all of them."
)


class Watcher(PartsWatcher, Protocol):
    """Who is told how the demo goes; gives a watcher for each of its parts."""

    def drawing(self, slides: int) -> AbstractContextManager[Callable[[str], None]]:
        """So many slides are about to be drawn; the function is called with the id of each."""
        ...


def demo_config(method: str, *, seed: int = 0, changes: Sequence[str] = ()) -> Config:
    """The configuration of a method in the demo: warps differ by density and by augmentation by sampling.

    Args:
        method: "joint", "uniform" or "blocks".
        seed: Seed of training.
        changes: Further ``key=value``; blocks leave out those that are of samples.
    """
    named = (f"name={method}", f"seed={seed}")
    if method == BLOCKS:
        of_blocks = [change for change in changes if not is_of_samples(change)]
        return read_config(find_config(BLOCKS), changes=[*named, *OF_BLOCKS, *of_blocks])
    return read_config(changes=[*named, *SETTINGS, *METHODS[method], *changes])


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    slides: Mapping[str, int] = SLIDES,
    size: Size = SLIDE,
    changes: Sequence[str] = (),
    blocks: bool | None = None,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> SideBySide:
    """Draw slides with truth, train uniform and joint with the same budget, and blocks; segment, evaluate and report.

    Every part skips what an earlier call finished.

    Args:
        out: Gets ``slides/ labels/ classes.yaml manifest.csv runs/<method>/ masks/<method>/ report.html``.
        seed: Decides the slides and the training.
        slides: Number of slides per split.
        size: Size of a slide, px.
        changes: ``key=value`` over all configurations.
        blocks: Whether blocks are trained too; they read 4 times the pixels. None: where they can be.
        watcher: Told how it goes.
        stop: Asked during training.

    Returns:
        The measures and the page.

    Raises:
        WsiDeformError: ``out`` holds another demo, or a part failed.
        ModelError: Blocks were asked for, and their encoder's weights are not there; nothing is drawn or trained then.
    """
    methods = methods_here(
        lambda method: demo_config(method, seed=seed, changes=changes),
        (*METHODS, BLOCKS),
        pretrained=blocks,
        watcher=watcher,
    )
    return run_side_by_side(
        out,
        _drawn(out, seed, slides, size, watcher),
        methods,
        best=BEST,
        title="wsi-deform demo: learning where to look",
        lead=[LEAD.format(**slides), methods.text()],
        facts={"seed": seed},
        watcher=watcher,
        stop=stop,
    )


def _drawn(out: Path, seed: int, slides: Mapping[str, int], size: Size, watcher: Watcher) -> Study:
    """Draw the study unless it is there."""
    wanted = {"seed": seed, "slides": dict(slides), "size": list(size.shape)}

    def draw() -> None:
        with watcher.drawing(sum(slides.values())) as on_slide:
            draw_study(out, **slides, seed=seed, size=size, on_slide=on_slide)

    return made_once(out, wanted, draw)
