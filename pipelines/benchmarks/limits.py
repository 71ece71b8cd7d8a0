"""Look at the limit: for each stage the least it must do, how long that takes here, and how far away we are.

One field of the size of a real one (8,192 px, the default 2,048 um at 0.25 um per px), the default budget, one thread.
The *limit* of a stage is the fewest bytes and operations that it must do, divided by what this machine can do per
second: rates are measured first (copying memory, multiplying matrices, decoding JPEG tiles, deflating), each by the
plainest code there is. The *gap* is time / limit. A gap below 3 is taken as good; small absolute times with larger
gaps are fixed costs of calls (Python, torch) and are named as such in README.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import imagecodecs
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines.benchmarks.drawn_slides import (
    CLASSES,
    MPP,
    QUICK_BLOCKS,
    TILE_PX,
    Blocks,
    Mosaic,
    drawn_file,
    texture_tiles,
)
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.config import read_config
from wsi_deform.cover import view_of
from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.drawn.noise import smooth_noise
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.mask.pyramid import deflated
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model import Model
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.sampled_fields import points_of
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

REPEATS = 7
# Per sample: its place in the order of tiles, its pixel (x, y) and how far it lies past it (float64: exact far from the
# origin).
PLAN_BYTES = 4 + 2 * 4 + 2 * 8
# Per sample: four RGB pixels and two fractions in, one RGB float32 out.
BLEND_BYTES = 4 * 3 + 2 * 8 + 3 * 4


def benchmark(settings: Settings) -> list[Row]:
    """Run it; the one process that measures tells all stages."""
    blocks: Blocks = QUICK_BLOCKS if settings.quick else {}
    file = drawn_file(Mosaic(side_px=2048 if settings.quick else 12_288, **blocks), settings.cache)
    budget = [32, 128] if settings.quick else [80, 800]
    case = Case(name="stages", factory="limits:work", params={"slide": str(file.slide), "budget": budget})
    with Pool(1) as pool:
        (row,) = pool.measure([case], runs=1)
    return row["stages"] if "failed" not in row else [row]


def work(*, slide: str, budget: list[int]) -> Work:
    """All stages, each the median of seven."""

    def run(_: int) -> Facts:
        return {"stages": stages(open_slide(slide), budget)}

    return Work(run=run)


@torch.no_grad()
def stages(slide: Slide, budget: list[int]) -> list[Row]:
    """Measure the stages of one field.

    Args:
        slide: A slide with tissue.
        budget: Short and long side of the sampled image.

    Returns:
        One row per stage.
    """
    rates = Rates()
    torch.manual_seed(0)
    config = read_config(changes=[f"sampling.budget={budget}"])
    model = Model(config=config, classes=CLASSES, mpp=MPP).to_device("cpu").eval()
    side = min(8192, slide.size.short)
    region = Region((slide.size.width - side) // 2, (slide.size.height - side) // 2, side, side)
    field = Field(region=region, kept=region)
    size = model.sampled_size(region.size)
    map_size = model.map_size(size)
    samples = size.area
    rows: list[Row] = []

    def add(stage: str, seconds: float, least: str, limit: float) -> None:
        rows.append(_row(stage, seconds, least, limit))

    def cold_view() -> Tensor:
        TILE_CACHE.forget()
        return view_of(slide, field, map_size)

    level = slide.levels[slide.level_for_downsample(side / map_size.width)]
    tiles = sum(
        1
        for _ in Region(
            int(region.x / level.downsample.x),
            int(region.y / level.downsample.y),
            int(side / level.downsample.x),
            int(side / level.downsample.y),
        ).tiles(level.tile)
    )
    add("low-res view", median(cold_view), f"decode {tiles} tiles", tiles * rates.jpeg_tile_s)
    view = view_of(slide, field, map_size)[None]
    flops = _flops(model, view, lambda held, image: held.density(image))
    add(
        "deformation network",
        median(lambda: model.density(view)),
        f"{flops / 1e9:.2f} GFLOP",
        flops / rates.flops,
    )
    # A drawn density in place of an untrained one: a warp like a trained model's.
    noise = smooth_noise(np.random.default_rng(0), map_size.shape, 24, 24)
    density = torch.softmax(torch.from_numpy(noise).float().flatten(), 0).view(1, 1, *map_size.shape)
    sigma = config.sampling.pull_px(min(map_size.shape))
    grid_of = partial(
        sampling_grid,
        density,
        sigma_px=sigma,
        radius_px=config.sampling.radius_sigmas * sigma,
        warp_steps=config.sampling.warp_steps,
    )

    def grids() -> tuple[Tensor, Tensor]:
        grid = grid_of(size=size)
        corners = grid_of(size=Size(size.width + 1, size.height + 1), placement="corner")
        return grid, cell_areas(corners)

    h, w, height, width = *size.shape, *map_size.shape
    # Three products of small matrices per lattice of samples, corners and map cells.
    operations = 3 * 3 * 2 * (h * height * width + h * width * w)
    add("grid and cell areas", median(grids), f"{operations / 1e9:.2f} GFLOP", operations / rates.flops)
    (grid,), (areas,) = grids()
    plan = plan_tiles(slide, grid, region=region, areas=areas)
    add(
        "plan",
        median(lambda: plan_tiles(slide, grid, region=region, areas=areas)),
        f"write {samples * PLAN_BYTES / 1e6:.1f} MB",
        samples * PLAN_BYTES / rates.bytes,
    )

    addresses = [(int(level), int(column), int(row)) for level, column, row in plan.tiles]

    def cold_read() -> None:
        TILE_CACHE.forget()
        for _ in slide.read_tiles(addresses):
            pass

    add(
        "read tiles",
        median(cold_read),
        f"decode {plan.tile_count} tiles",
        plan.tile_count * rates.jpeg_tile_s,
    )
    blend_bytes = samples * BLEND_BYTES
    add(
        "pick and blend",
        median(lambda: gather(slide, grid, plan=plan, scheduler="loop")),
        f"{blend_bytes / 1e6:.1f} MB",
        blend_bytes / rates.bytes,
    )
    image = gather(slide, grid, plan=plan)[None]
    flops = _flops(model, image, lambda held, pixels: held.scores(pixels))
    add("network", median(lambda: model.scores(image), 3), f"{flops / 1e9:.1f} GFLOP", flops / rates.flops)
    rows += _mask_stages(field, grid, rates)
    return rows


def _mask_stages(field: Field, grid: Tensor, rates: Rates) -> list[Row]:
    """Reverse sampling, encoding and writing of a whole slide with the samples of one field."""
    region = field.region
    size = Size(region.width, region.height)
    points = points_of(field, grid) - (region.x, region.y)
    noise = smooth_noise(np.random.default_rng(1), (256, 256), 30, 30)
    at = np.clip((points / region.width * 256).astype(int), 0, 255)
    labels = np.digitize(noise[at[:, 1], at[:, 0]], (0.5, 1.0, 1.5)).astype(np.uint8)
    fields = [FieldSamples(kept=Region.whole(size), points_px=points, labels=labels)]
    tiles = list(ReverseSampler(fields, size=size).tiles())
    rendered = [np.ascontiguousarray(tile.pixels) for tile in tiles if tile.pixels is not None]
    pixels = sum(tile.size for tile in rendered)

    def render() -> None:
        for _ in ReverseSampler(fields, size=size).tiles():
            pass

    def encode() -> None:
        for tile in rendered:
            deflated(tile)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "mask.ome.tif"
        whole = median(lambda: write_mask(path, iter(tiles), size=size, mpp=MPP))
        written = path.stat().st_size
    encoding = median(encode)
    sampling = median(render)
    sample_bytes = len(labels) * 3 * 4
    limit = (pixels + sample_bytes) / rates.bytes
    encode_limit = pixels * rates.deflate_s_per_byte
    write_limit = encode_limit + written / rates.bytes
    return [
        _row("reverse sampling", sampling, f"write {pixels / 1e6:.1f} Mpx of mixed tiles", limit),
        _row("encode", encoding, f"deflate {pixels / 1e6:.1f} MB", encode_limit),
        _row("encode and write", whole, f"the same, and {written / 1e6:.2f} MB to a file", write_limit),
    ]


def _row(stage: str, seconds: float, least: str, limit: float) -> Row:
    return {"case": stage, "seconds": seconds, "limit_seconds": limit, "gap": seconds / limit, "least": least}


class Rates:
    """What one thread of this machine can do, measured by the plainest code.

    Attributes:
        bytes: Bytes copied per second.
        flops: Float32 operations per second of a large matrix product.
        jpeg_tile_s: Seconds to decode one JPEG tile of drawn tissue that is in memory.
        deflate_s_per_byte: Seconds per byte to deflate label tiles.
    """

    def __init__(self) -> None:
        source = np.ones(32 << 20, np.uint8)
        target = np.empty_like(source)
        self.bytes = source.nbytes / median(lambda: np.copyto(target, source))
        a = torch.rand(1024, 1024)
        self.flops = 2 * 1024**3 / median(lambda: a @ a)
        tiles = texture_tiles()

        def decode() -> None:
            for tile in tiles:
                imagecodecs.jpeg8_decode(tile)

        self.jpeg_tile_s = median(decode) / len(tiles)
        y, x = np.mgrid[:TILE_PX, :TILE_PX]
        labels = ((x * 3 + y * 2) // 180 % 3).astype(np.uint8)
        self.deflate_s_per_byte = median(lambda: imagecodecs.zlibng_encode(labels, level=3)) / labels.nbytes


def median(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds of a function, called once before."""
    function()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _flops(model: Model, image: Tensor, function: Callable[[Model, Tensor], Tensor]) -> int:
    empty = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter:
        function(empty, torch.zeros(image.shape, device="meta"))
    flops: int = counter.get_total_flops()
    return flops
