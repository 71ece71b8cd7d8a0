"""Memory: the most that segmenting a slide holds, from file to mask and overlay, against the side of the slide.

The default configuration with a quarter of its samples per field and a small network, so that what a slide needs shows
beside what a network needs; and blocks, as large as they are by default, whose encoder is what it is. Slides are drawn
as they are read; fields in which no tissue is found are left out. Blocks stand beside what ``--memory-gib`` takes a
field to need; their largest fields are of one size on all slides, and tissue is no larger than
``TISSUE_PX``.
"""

from __future__ import annotations

import tempfile

import torch

from pipelines.benchmarks.drawn_slides import CLASSES, MPP, DrawnReader
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of
from wsi_deform.memory import looks_bytes
from wsi_deform.model import Model
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import segment_to_files

SETTINGS = (
    "sampling.budget=[40, 400]",
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 2}",
    # From He, so that the grids are warped.
    "networks.deformation.zero_init_head=false",
    "device=cpu",
)
BLOCKS = (
    "sampling.geometry=blocks",
    "networks.segmentation={name: efficientnet-lite0}",
    "fields.side_um=1707",
    "augmentation.shift_cells=0",
    "augmentation.warp_cells=0",
    "device=cpu",
)
GEOMETRIES = {"": SETTINGS, "blocks, ": BLOCKS}
TISSUE_PX = 40_960
WARM_UP_PX = 2048
MIB = 1 << 20


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    sides = (4096, 8192) if settings.quick else (20_480, 61_440, 204_800)
    cases = [
        Case(
            name=f"{geometry}{side:,} px",
            factory="memory:work",
            params={"side": side, "threads": settings.threads, "geometry": geometry},
            runs=1,  # What a process frees it may keep: a second slide would be measured on top of the first.
        )
        for geometry in GEOMETRIES
        for side in sides
    ]
    chosen = [case for case in cases if not settings.only or case.name in settings.only]
    with Pool(settings.threads) as pool:
        return pool.measure(chosen, runs=settings.runs)


def work(*, side: int, threads: int, geometry: str = "") -> Work:
    """One slide, read in one of ``GEOMETRIES``."""
    torch.manual_seed(0)
    model = (
        Model(config=read_config(changes=GEOMETRIES[geometry]), classes=CLASSES, mpp=MPP)
        .to_device("cpu")
        .eval()
    )

    def once(side_px: int) -> Facts:
        TILE_CACHE.forget()
        tissue_px = TISSUE_PX if model.has_blocks else None
        slide = Slide.from_reader(DrawnReader(side_px, tissue_px), slide_id="drawn")
        with tempfile.TemporaryDirectory(prefix="wsi-deform-memory-") as path:
            files = segment_to_files(slide, model, path, threads=threads)
        return {
            "fields": files.fields,
            "samples": files.samples,
            "read_mpx": (files.read_pixels or 0) / 1e6,
            "tiles": files.tiles,
        }

    once(WARM_UP_PX)
    return Work(run=lambda _: once(side), facts=_estimate(model, side))


def _estimate(model: Model, side: int) -> Facts:
    """What ``--memory-gib`` takes looking at a field of the slide to need."""
    if not model.has_blocks:
        return {}
    slide = Slide.from_reader(DrawnReader(side, TISSUE_PX), slide_id="drawn")
    return {"looks_mib": looks_bytes(model, budgets_of(slide, model)) / MIB}
