"""The demo on real tissue: biopsies of a GlaS folder, uniform, joint and dense trained on them, a page of all.

    python -m pipelines.glas.demo --images FOLDER --out DIR [--seed 0] [--dense | --no-dense]

Methods are set up as in the study of GlaS biopsies (pipelines/paper), dense, what training takes by default, with
half of its steps. DIR gets what `wsi-deform demo` leaves, ``report.html`` first of all. GlaS images are for research
only: so are page, models and masks.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.glas.biopsies import CANVAS, IMAGES_PER_SLIDE, LICENCE, make_biopsies
from pipelines.glas.folder import read_glas
from pipelines.paper.trial import Trial, config_of
from wsi_deform.cli.console import plain_console
from wsi_deform.cli.demo import DemoBars, show_side_by_side
from wsi_deform.cli.interrupts import stop_on_signals
from wsi_deform.config_sections import Config
from wsi_deform.demo import BEST, METHODS, Watcher
from wsi_deform.drawn.study import Study
from wsi_deform.errors import WsiDeformError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import SPLITS, Split
from wsi_deform.side_by_side import DENSE, SideBySide, made_once, methods_here, run_side_by_side

BUDGET = (24, 113)
SLIDES: dict[Split, int] = {"train": 64, "val": 6, "test": 10}
STEPS, STEPS_OF_DENSE = 2400, 320
SYSTEM_OF_DENSE = "dense-2"
# Each method gets what suits it, as in the demo of drawn slides.
CHANGES = {
    "uniform": ("augmentation.shift_cells=0", "augmentation.warp_cells=0"),
}
LEAD = (
    "Real tissue: H&E images of colon glands from the GlaS challenge (Sirinukunwattana et al., 2017), several of one "
    "patient laid on glass as the pieces of a biopsy lie on a slide. {train} train each method, {val} choose its best "
    "epoch, and {test} are measured and shown; no patient is in two of these groups. These are few patients: another "
    "seed moves a measure by several points, and none of the models is a good one of glands."
)
NOT_TO_BE_SOLD = (
    "GlaS images are for research only. So are this page and its pictures, and the models and masks beside it: do not "
    "pass them on commercially."
)


def glas_config(
    method: str, *, seed: int = 0, slides: int = SLIDES["train"], changes: Sequence[str] = ()
) -> Config:
    """The configuration of a method on GlaS biopsies.

    Args:
        method: "uniform", "joint" or "dense".
        seed: Seed of training.
        slides: Training slides: an epoch.
        changes: Further ``key=value``.
    """
    trial = Trial(
        data="glas",
        system=SYSTEM_OF_DENSE if method == DENSE else method,
        budget=BUDGET,
        seed=seed,
        variant="demo",
        changes=(*CHANGES.get(method, ()), *changes),
    )
    return config_of(trial, images=slides, steps=STEPS_OF_DENSE if method == DENSE else STEPS)


def run_glas_demo(
    images: Path,
    out: Path,
    *,
    seed: int = 0,
    slides: dict[Split, int] = SLIDES,
    canvas: Size = CANVAS,
    per_slide: tuple[int, int] = IMAGES_PER_SLIDE,
    changes: Sequence[str] = (),
    dense: bool | None = None,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> SideBySide:
    """Make biopsies of a GlaS folder, train each method, segment, evaluate and report.

    Every part skips what an earlier call finished.

    Args:
        images: The GlaS folder, see ``folder.read_glas``.
        out: Gets ``slides/ labels/ classes.yaml manifest.csv runs/<method>/ masks/<method>/ report.html``.
        seed: Decides splits, slides and training.
        slides: Number of slides per split.
        canvas: Size of a slide, px.
        per_slide: Fewest and most images on a slide.
        changes: ``key=value`` over all configurations.
        dense: Whether dense is trained too; None: where its encoder's weights are found.
        watcher: Told how it goes.
        stop: Asked during training.

    Raises:
        WsiDeformError: The folder cannot be used, ``out`` holds another demo, or a part failed.
    """
    named = "\n".join(f"{each.name} {each.patient} {each.grade}" for each in read_glas(images))
    wanted = {
        "seed": seed,
        "slides": dict(slides),
        "size": list(canvas.shape),
        "images_sha256": hashlib.sha256(named.encode()).hexdigest(),
    }
    methods = methods_here(
        lambda method: glas_config(method, seed=seed, slides=slides["train"], changes=changes),
        (*METHODS, DENSE),
        pretrained=dense,
        watcher=watcher,
    )

    def make() -> None:
        with watcher.drawing(sum(slides.values())) as on_slide:
            make_biopsies(
                images, out, counts=slides, seed=seed, canvas=canvas, per_slide=per_slide, on_slide=on_slide
            )

    study = made_once(out, wanted, make)
    return run_side_by_side(
        out,
        study,
        methods,
        best=DENSE if DENSE in methods.configs else BEST,
        title="wsi-deform demo: learning where to look, on real tissue",
        lead=[LEAD.format(**_groups(study)), methods.text(), NOT_TO_BE_SOLD],
        facts={"seed": seed},
        watcher=watcher,
        stop=stop,
    )


def _groups(study: Study) -> dict[str, str]:
    """Split -> its slides and patients in words."""
    manifest = read_manifest(study.manifest)
    rows = {split: manifest.of_split(split) for split in SPLITS}
    return {
        split: f"{len(own)} slides of {len({row.patient for row in own})} patients"
        for split, own in rows.items()
    }


def main() -> int:
    """Parse, run, print measures."""
    parser = argparse.ArgumentParser(description="The demo on biopsies of a GlaS folder.", epilog=LICENCE)
    parser.add_argument("--images", type=Path, required=True, help="folder with the PNGs and grade.csv")
    parser.add_argument("--out", type=Path, required=True, help="gets slides, runs, masks and report.html")
    parser.add_argument("--seed", type=int, default=0, help="decides splits, slides and training")
    parser.add_argument(
        "--dense",
        action=argparse.BooleanOptionalAction,
        help="train dense too; default: where its encoder's weights are installed",
    )
    given = parser.parse_args()
    console, started = plain_console(), time.monotonic()
    try:
        with stop_on_signals() as stop:
            result = run_glas_demo(
                given.images,
                given.out,
                seed=given.seed,
                dense=given.dense,
                watcher=DemoBars(console),
                stop=stop,
            )
    except WsiDeformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show_side_by_side(console, result)
    if not result.finished:
        return stop.exit_code
    print(f"{time.monotonic() - started:.0f} s. Open {result.page} in a browser. {LICENCE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
