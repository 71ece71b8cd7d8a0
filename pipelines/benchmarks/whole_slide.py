"""Whole slide: from file to mask with HRNetV2-W18 on the same threads; accuracy beside cost.

- ``ours`` with several budgets of samples: fields, deformation map, mip gather, network, reverse sampling, mask file.
- ``blocks`` reads fields in blocks, with several budgets of pixels; what it costs follows the pixels that it reads.
- ``patches`` is `wsi-deform segment --method patches` (``wsi_deform.baselines``): MONAI's ``SlidingWindowInferer`` on
  every window that touches tissue, at full resolution (level 0) and at coarser levels, with our tile reading and our
  mask writer, no overlap.
- ``monai`` is MONAI's ``PatchInferer`` with ``WSISlidingWindowSplitter`` (OpenSlide, the backend that its documentation
  recommends where there is no CUDA), no overlap, ``filter_fn`` leaving out windows without tissue, ``AvgMerger``. It
  merges labels (half floats) instead of scores, the least memory it can do with, and libvips writes the pyramid.
- ``tiatoolbox`` is TIAToolbox's ``SemanticSegmentor`` (``tiatoolbox_rival.py``) in an environment of its own, on the
  windows that MONAI's network sees, without overlap. It merges labels (bytes) instead of scores too, and writes them as
  Zarr, without a pyramid. All of its engine is run; ``part`` is the share of batches that its network sees. ``scores``
  is without the present: float scores of two classes are merged, the least that its documentation's way can do with.

With ``--runtimes`` OpenVINO computes the networks too, in float32 and in int8 (``runtimes.py``): of ours, of blocks, of
patches and of MONAI at full resolution, each with the same weights as its row in PyTorch.

Patches and MONAI are run on a random part of their windows where the column ``part`` is below 1, another one in every
run; reading and network are multiplied by its inverse, everything else is measured in full (but the windows left out
are not encoded, which favours the rivals). The cases named ``zero``
have a network that costs nothing, so reading and stitching show alone. FLOPs are counted by
``torch.utils.flop_counter`` (two per multiply-add), for all windows or fields.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.benchmarks.drawn_slides import (
    CLASSES,
    QUICK_BLOCKS,
    Blocks,
    DrawnFile,
    DrawnReader,
    Mosaic,
    drawn_file,
)
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.models import trained_models, training_slides, with_block_budget, with_budget
from pipelines.benchmarks.parts import accuracy, extrapolated_work, part_of, sampled_confusion
from pipelines.benchmarks.results import Settings
from pipelines.benchmarks.runtimes import computed_by, quantise_for_cases
from pipelines.benchmarks.stopwatch import Stopwatch
from pipelines.benchmarks.tables import TIATOOLBOX
from pipelines.benchmarks.tiatoolbox_rows import tiatoolbox_cases, what_it_found, write_windows
from wsi_deform.baselines.patch_grid import PatchGrid, patch_grid
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.baselines.patch_tiles import patch_tiles
from wsi_deform.baselines.patches import Patches
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of, tissue_of
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.geometry import Region, Size
from wsi_deform.look.tissue import TissueMask, tissue_mask
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, read_model_facts
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.detect import open_reader
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tiff.tiles import TiffTiles
from wsi_deform.slide_files import segment_to_files

WINDOW_PX = 512
MONAI_BATCH = 4
MONAI_BUFFER = 8
DARK = 128.0
# Paths, and what is the same in all rows.
UNSAID = ("slide", "labels", "folder", "model", "mask", "window_px", "predictions", "scores")


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    models = trained_models(settings)
    ours = [str(path) for path in settings.models] or [str(models.ours), str(models.blocks)]
    if "int8" in settings.runtimes:
        slides = training_slides(settings)
        for path in (*map(Path, ours), models.patches):
            quantise_for_cases(path, slides, window_px=WINDOW_PX, is_patches=path == models.patches)
    quick = settings.quick
    blocks: Blocks = QUICK_BLOCKS if quick else {}
    rows: list[Row] = []
    for side in (2048,) if quick else settings.sides:
        file = drawn_file(Mosaic(side_px=side, **blocks), settings.cache)
        with tempfile.TemporaryDirectory(prefix="wsi-deform-whole-slide-") as folder:
            given = {
                "side": side,
                "slide": str(file.slide),
                "labels": str(file.labels),
                "folder": folder,
                "threads": settings.threads,
            }
            if settings.tiatoolbox is not None:
                opened, _ = _opened(str(file.slide))
                write_windows(window_grid(opened, tissue_mask(opened), 0).wanted, Path(folder))
            for cases in _groups(
                given,
                ours,
                str(models.patches),
                settings.tiatoolbox,
                large=side > 30_000,
                quick=quick,
                runtimes=settings.runtimes,
            ):
                chosen = [case for case in cases if not settings.only or case.name in settings.only]
                with Pool(settings.threads) as pool:
                    measured = pool.measure(chosen, runs=settings.runs) if chosen else []
                for row in measured:
                    if row["case"].startswith(TIATOOLBOX) and not row["zero"] and "failed" not in row:
                        row |= what_it_found(row, file, _flops_of_window(load_model(models.patches)))
                    for column in UNSAID:
                        row.pop(column, None)
                rows += measured
    return rows


def _groups(
    given: dict[str, Any],
    ours_models: Sequence[str],
    patches_model: str,
    tiatoolbox: Path | None,
    *,
    large: bool,
    quick: bool,
    runtimes: Sequence[str] = (),
) -> list[list[Case]]:
    """The cases with networks, and those with a network that costs nothing."""
    # Budgets as multiples of the number of samples that the model was trained at.
    factors = (1.0,) if quick else (0.5, 1.0, 2.0)
    parts = {0: 0.1} if quick else {0: 1 / 120, 2: 1 / 20} if large else {0: 0.1, 1: 0.1, 2: 0.5}
    networks = [
        _ours_case(given, model, factor, _number(ours_models, at))
        for at, model in enumerate(ours_models)
        for factor in factors
    ]
    networks += [_patches_case(given, patches_model, level, part) for level, part in parts.items()]
    monai_part = 0.1 if quick else 1 / 200 if large else 0.1
    networks.append(_monai_case(given, patches_model, monai_part))
    for runtime in runtimes:
        networks += [
            _ours_case(given, model, 1.0, _number(ours_models, at), runtime=runtime)
            for at, model in enumerate(ours_models)
        ]
        networks.append(_patches_case(given, patches_model, 0, parts[0], runtime=runtime))
        networks.append(_monai_case(given, patches_model, monai_part, runtime=runtime))
    looking, engine = tiatoolbox_cases(
        given, patches_model, tiatoolbox, window_px=WINDOW_PX, large=large, quick=quick
    )
    zero_part = 1 / 30 if large else 0.25
    # A network that costs nothing is one of one image.
    warps = [model for model in ours_models if not _has_blocks(model)][:1]
    zero = [
        *(_ours_case(given, model, 1.0, 0, zero=True) for model in warps),
        _patches_case(given, patches_model, 0, zero_part, zero=True),
    ]
    if not quick:
        zero.append(_monai_case(given, patches_model, zero_part, zero=True))
    return [[*networks, *looking], [*zero, *engine]]


def _ours_case(
    given: dict[str, Any],
    model: str,
    factor: float,
    number: int,
    *,
    zero: bool = False,
    runtime: str = "",
) -> Case:
    kind = "blocks" if _has_blocks(model) else "ours"
    name = f"{kind} x{factor:g}" + (f", model {number + 1}" if number else "") + _suffix(zero, runtime)
    params = {**given, "model": model, "factor": factor, "zero": zero, "runtime": runtime}
    return Case(name=name, factory="whole_slide:ours", params=params)


def _number(models: Sequence[str], at: int) -> int:
    """Of a model, how many of its kind come before it."""
    kind = _has_blocks(models[at])
    return sum(_has_blocks(each) == kind for each in models[:at])


def _has_blocks(model: str) -> bool:
    """Whether a stored model reads fields in blocks."""
    return bool(read_model_facts(Path(model))["config"]["sampling"].get("geometry") == "blocks")


def _suffix(zero: bool, runtime: str) -> str:
    """How the name of a case ends."""
    return "".join(f", {each}" for each in ("zero" if zero else "", runtime) if each)


def _patches_case(
    given: dict[str, Any], model: str, level: int, part: float, *, zero: bool = False, runtime: str = ""
) -> Case:
    name = f"patches, level {level}" + _suffix(zero, runtime)
    params = {**given, "model": model, "level": level, "part": part, "zero": zero, "runtime": runtime}
    return Case(name=name, factory="whole_slide:patches", params=params)


def _monai_case(
    given: dict[str, Any], model: str, part: float, *, zero: bool = False, runtime: str = ""
) -> Case:
    name = "monai, level 0" + _suffix(zero, runtime)
    params = {**given, "model": model, "part": part, "zero": zero, "runtime": runtime}
    return Case(name=name, factory="whole_slide:monai", params=params)


class ZeroCost(nn.Module):
    """Class 1 where a pixel is dark: one mean per pixel."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 2, H, W)."""
        dark = DARK - image.mean(dim=1)
        return torch.stack((-dark, dark), dim=1)


class NoDeformation(nn.Module):
    """The same density everywhere."""

    def forward(self, view: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 1, H, W) zeros."""
        return torch.zeros_like(view[:, :1])


def _loaded(path: str, *, zero: bool, runtime: str = "") -> Model:
    model = computed_by(load_model(path), Path(path), runtime)
    if zero:
        model.segmentation = ZeroCost()
        if model.deformation is not None:
            model.register_module("deformation", NoDeformation())
        # A parameter, so that the model still knows where it is.
        model.register_parameter("nothing", nn.Parameter(torch.zeros(1)))

        def scores(sampled: Tensor) -> Tensor:
            found: Tensor = model.segmentation(sampled)
            return found

        model.scores = scores  # type: ignore[method-assign]
    return model


def _opened(path: str) -> tuple[Slide, CountingReader]:
    TILE_CACHE.forget()
    counting = CountingReader(open_reader(Path(path)))
    return Slide.from_reader(counting, slide_id=Path(path).stem), counting


def _flops(model: Model, function: Callable[[Model, Tensor], Tensor], size: Size) -> int:
    """FLOPs of one image; nothing is computed."""
    empty = copy.deepcopy(model).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(empty, torch.zeros(1, 3, size.height, size.width, device="meta"))
    flops: int = counter.get_total_flops()
    return flops


def _flops_of_window(model: Model) -> int:
    """FLOPs of a window."""
    return _flops(model, lambda held, image: held.scores(image), Size(WINDOW_PX, WINDOW_PX))


def ours(
    *,
    side: int,
    slide: str,
    labels: str,
    folder: str,
    threads: int,
    model: str,
    factor: float,
    zero: bool,
    runtime: str = "",
) -> Work:
    """The method."""
    loaded = _loaded(model, zero=zero, runtime=runtime)
    if loaded.has_blocks:
        loaded.config = with_block_budget(loaded.config, factor)
    else:
        loaded.config = with_budget(loaded.config, loaded.config.sampling.budget[0] * factor**0.5)
    flops: list[int] = []
    # A folder of its own: cases of other models take turns with this one, and are measured when all have run.
    out = MaskFolder(Path(tempfile.mkdtemp(prefix="ours-", dir=folder)))

    def run(_: int) -> Facts:
        opened, counting = _opened(slide)
        start = time.perf_counter()
        tissue_of(opened)  # found once, and used below
        tissue_seconds = time.perf_counter() - start
        files = segment_to_files(opened, loaded, out, threads=threads)
        flops.append(files.flops or 0)
        return {
            "decoded_mpx": counting.total_bytes / 3e6,
            "read_mpx": (files.read_pixels or 0) / 1e6,
            "tissue_seconds": tissue_seconds,
            "samples": files.samples,
            "fields": files.fields,
        }

    def finish() -> Facts:
        if zero:
            return {}
        opened, _ = _opened(slide)
        # As many as PyTorch takes, whatever computes them.
        plain = load_model(model)
        plain.config = loaded.config
        operations = flops[-1] if loaded.has_blocks else _flops_of_fields(plain, opened)
        truth = DrawnFile(slide=Path(slide), labels=Path(labels)).truth()
        written = TiffTiles(out.mask(opened.slide_id))
        counts = confusion_of(
            truth,
            lambda region: np.ascontiguousarray(written.read_region(0, region)[..., 0]),
            size=opened.size,
            classes=CLASSES.count,
        )
        return {"tflop": operations / 1e12, **accuracy(counts)}

    _warm_up(loaded, Path(folder) / "warm-up", threads)
    return Work(run=run, finish=finish, facts={"part": 1.0})


def _flops_of_fields(model: Model, slide: Slide) -> int:
    """FLOPs of both networks, for all fields of a slide."""
    flops = 0
    for size, fields in Counter(budget.size for budget in budgets_of(slide, model)).items():
        flops += fields * _flops(model, lambda held, image: held.scores(image), size)
        flops += fields * _flops(model, lambda held, view: held.density(view), model.map_size(size))
    return flops


def patches(
    *,
    side: int,
    slide: str,
    labels: str,
    folder: str,
    threads: int,
    model: str,
    level: int,
    part: float,
    zero: bool,
    runtime: str = "",
) -> Work:
    """The sliding window of this package."""
    loaded = _loaded(model, zero=zero, runtime=runtime)
    classes = 2 if zero else CLASSES.count
    masks: list[tuple[Path, tuple[Region, ...]]] = []

    def run(number: int) -> Facts:
        opened, counting = _opened(slide)
        tissue = tissue_mask(opened)
        seen = counting.total_bytes
        grid = window_grid(opened, tissue, level)
        everywhere = grid.regions()
        chosen = part_of(everywhere, part, number)
        looking = Stopwatch()
        opened.read_region = looking.timed(opened.read_region)  # type: ignore[method-assign]
        path = Path(folder) / f"patches-{level}-{zero}{runtime}-{number}.ome.tif"
        start, cpu = time.perf_counter(), time.process_time()
        grid = grid.chosen(_among(grid, everywhere, chosen))
        # What reads ahead makes times of parts overlap: only where all is run.
        looked = Patches(opened, looking.timed(loaded.scores), grid, classes=classes, reads_ahead=part == 1.0)
        tiles = patch_tiles(looked.labelled(), grid)
        write_mask(path, tiles, size=opened.size, mpp=opened.mpp, threads=threads)
        rest = time.perf_counter() - start - looking.seconds
        masks.append((path, chosen))
        times = len(everywhere) / len(chosen)
        return {
            **looking.extrapolated(times),
            "write_seconds": rest,
            "decoded_mpx": (seen + times * (counting.total_bytes - seen)) / 3e6,
            "windows": len(everywhere),
            "cpu_of_rest": time.process_time() - cpu - looking.cpu_seconds,
        }

    def finish() -> Facts:
        if zero:
            return {}
        opened, _ = _opened(slide)
        everywhere = window_grid(opened, tissue_mask(opened), level).regions()
        each = _flops_of_window(load_model(model))
        truth = DrawnFile(slide=Path(slide), labels=Path(labels)).truth()
        counts = sampled_confusion(truth, masks, everywhere)
        return {"tflop": each * len(everywhere) / 1e12, **accuracy(counts)}

    loaded.scores(torch.zeros(1, 3, WINDOW_PX, WINDOW_PX))
    _warm_up(None, Path(folder) / "warm.ome.tif", threads)
    small = Slide.from_reader(DrawnReader(1024), slide_id="small")
    warm = Patches(small, loaded.scores, window_grid(small, None, 0), classes=classes)
    list(patch_tiles(warm.labelled(), warm.grid))
    return extrapolated_work(run, finish, part)


def monai(
    *,
    side: int,
    slide: str,
    labels: str,
    folder: str,
    threads: int,
    model: str,
    part: float,
    zero: bool,
    runtime: str = "",
) -> Work:
    """MONAI's whole-slide sliding window."""
    from pipelines.benchmarks.mask import save_with_libvips
    from pipelines.benchmarks.monai_rival import inferred_labels

    loaded = _loaded(model, zero=zero, runtime=runtime)
    masks: list[tuple[Path, tuple[Region, ...]]] = []

    def run(number: int) -> Facts:
        opened, _ = _opened(slide)
        tissue = tissue_mask(opened)
        everywhere = window_grid(opened, None, 0).regions()
        wanted = window_grid(opened, tissue, 0).regions()
        glass = tuple(region for region in everywhere if region not in set(wanted))
        chosen = part_of(wanted, part, number)
        chosen_glass = part_of(glass, part, number) if glass else ()
        looking = Stopwatch()
        start, cpu = time.perf_counter(), time.process_time()
        merged = inferred_labels(
            slide,
            looking.timed(loaded.scores) if part < 1 else loaded.scores,
            window_px=WINDOW_PX,
            batch=MONAI_BATCH,
            # A thread that reads ahead makes times of parts overlap: only where all is run.
            buffer=MONAI_BUFFER if part == 1.0 else 0,
            wanted={(region.y, region.x) for region in chosen},
            read={(region.y, region.x) for region in (*chosen, *chosen_glass)},
            timed=looking.timed if part < 1 else lambda function: function,
        )
        middle = time.perf_counter()
        path = Path(folder) / f"monai-{zero}{runtime}-{number}.tif"
        save_with_libvips(merged, path, mpp=opened.mpp)
        masks.append((path, chosen))
        times = (len(wanted) + len(glass)) / (len(chosen) + len(chosen_glass))
        return {
            **looking.extrapolated(times),
            "write_seconds": time.perf_counter() - middle,
            "merge_seconds": middle - start - looking.seconds,
            "decoded_mpx": len(everywhere) * WINDOW_PX**2 / 1e6,
            "windows": len(wanted),
            "cpu_of_rest": time.process_time() - cpu - looking.cpu_seconds,
        }

    def finish() -> Facts:
        if zero:
            return {}
        opened, _ = _opened(slide)
        wanted = window_grid(opened, tissue_mask(opened), 0).regions()
        each = _flops_of_window(load_model(model))
        truth = DrawnFile(slide=Path(slide), labels=Path(labels)).truth()
        counts = sampled_confusion(truth, masks, wanted)
        return {"tflop": each * len(wanted) / 1e12, **accuracy(counts)}

    loaded.scores(torch.zeros(MONAI_BATCH, 3, WINDOW_PX, WINDOW_PX))
    return extrapolated_work(run, finish, part)


def window_grid(slide: Slide, tissue: TissueMask | None, level: int) -> PatchGrid:
    """Windows side by side that touch tissue, or all of them."""
    settings = PatchSettings(overlap=0.0, blend="constant")
    cells = None if tissue is None else tissue.tissue
    return patch_grid(slide, settings, patch_px=WINDOW_PX, level=level, cells=cells)


def _among(grid: PatchGrid, everywhere: Sequence[Region], chosen: Sequence[Region]) -> NDArray[np.bool_]:
    """Which windows of a grid were chosen, (rows, columns)."""
    of = set(chosen)
    found = np.zeros_like(grid.wanted)
    found[grid.wanted] = [region in of for region in everywhere]
    return found


def _warm_up(model: Model | None, folder: Path, threads: int) -> None:
    """Compile and import everything on a picture of 1,024 px."""
    small = Slide.from_reader(DrawnReader(1024), slide_id="small")
    segment_to_files(small, load_untrained() if model is None else model, folder, threads=threads)


def load_untrained() -> Model:
    """A model of few samples that costs nothing to run."""
    changes = ["sampling.budget=[16, 16]", "networks.segmentation={name: hrnetv2, width: 4}"]
    return Model(config=read_config(changes=changes), classes=CLASSES, mpp=0.25).eval()
