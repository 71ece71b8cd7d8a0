"""View: milliseconds per tile of `wsi-deform view`, beside OpenSlide's DeepZoomGenerator on the same tiles.

Tiles of 512 px without overlap, the same ones in the same order for both: of every step of the pyramid so many at most,
drawn at random with a fixed seed, as somebody sees them who zooms in and out. Both encode with Pillow at the same
quality; the slide is opened anew in every run, and both start with empty caches.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
from openslide import OpenSlide
from openslide.deepzoom import DeepZoomGenerator

from pipelines.benchmarks.drawn_slides import QUICK_BLOCKS, Blocks, Mosaic, drawn_file
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.geometry import Size, tile_grid
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.registry import READERS
from wsi_deform.viewer.frame import TILE_PX, Frame
from wsi_deform.viewer.slide_tiles import JPEG_QUALITY, jpeg_of, slide_tile

TILES_PER_STEP = 24
SVS = "CMU-1-Small-Region.svs"
OURS, RIVAL = "ours", "DeepZoomGenerator"

Place = tuple[int, int, int]


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    blocks: Blocks = QUICK_BLOCKS if settings.quick else {}
    file = drawn_file(Mosaic(side_px=2048 if settings.quick else 12_288, **blocks), settings.cache)
    slides = {"TIFF, drawn": file.slide}
    named = os.environ.get("WSI_DEFORM_DATA")
    data = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if (svs := data / "slides" / SVS).is_file():
        slides["SVS"] = svs
    rows: list[Row] = []
    with Pool(1) as pool:
        for name, path in slides.items():
            cases = [
                Case(
                    name=case,
                    factory="view:work",
                    params={"slide": name, "path": str(path), "rival": case == RIVAL},
                )
                for case in (OURS, RIVAL)
                if not settings.only or case in settings.only
            ]
            rows += pool.measure(cases, runs=settings.runs)
    for row in rows:
        del row["path"], row["rival"]
    return rows


def work(*, slide: str, path: str, rival: bool) -> Work:
    """All tiles of one slide."""
    frame = _frame(path)
    places = tiles_of(frame)
    run = _rival if rival else _ours

    def once(_: int) -> Facts:
        TILE_CACHE.forget()
        READERS.forget()
        return {"tiles": len(places), "file_mb": run(path, frame, places) / 1e6}

    once(-1)
    return Work(run=once)


def tiles_of(frame: Frame) -> list[Place]:
    """Step, column and row of tiles of every step, those of a step in random order, the coarsest step first."""
    drawn = np.random.default_rng(0)
    places: list[Place] = []
    for step in reversed(range(frame.steps)):
        grid = tile_grid(frame.size_at(step), Size(TILE_PX, TILE_PX))
        chosen = drawn.permutation(grid.area)[:TILES_PER_STEP].tolist()
        places += [(step, number % grid.width, number // grid.width) for number in chosen]
    return places


def _frame(path: str) -> Frame:
    size = open_slide(path).size
    return Frame(slide_size=size, size=size)


def _ours(path: str, frame: Frame, places: list[Place]) -> int:
    slide = open_slide(path)
    return sum(len(jpeg_of(slide_tile(slide, frame, *place))) for place in places)


def _rival(path: str, frame: Frame, places: list[Place]) -> int:
    written = 0
    with OpenSlide(path) as slide:
        zoom = DeepZoomGenerator(slide, tile_size=TILE_PX, overlap=0, limit_bounds=False)
        for step, column, row in places:
            file = BytesIO()
            tile = zoom.get_tile(zoom.level_count - 1 - step, (column, row))
            tile.save(file, format="JPEG", quality=JPEG_QUALITY)
            written += file.tell()
    return written
