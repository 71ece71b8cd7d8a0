"""One training step with the settings of ``configs/joint.yaml``: what each part of it costs.

Parts follow each other in a step: *read* (low-res views and class fractions, read anew), *deform* (deformation
network, grid, cell areas), *plan* (which pixels of which tiles), *tiles* (read, decode and pick), *blend*, *labels* (at
the sampling points), *forward* (segmentation network and losses), *backward*, *update*. The column *step* is the
package's own ``training_step``, reading included, so that the parts can be held against it. ``warm`` has every tile in
the cache, as from the second epoch on; ``cold`` has none. The cases of ``SETTINGS`` are the whole step with one more
setting, which may make it faster. Compiling takes minutes on a processor, before it counts; ``--quick`` leaves it out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from pipelines.benchmarks.drawn_slides import CLASSES, MPP, DrawnFile, Mosaic, drawn_file
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.models import FIRST_SEED, FULL, QUICK, clip_gradient
from pipelines.benchmarks.results import Settings
from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.config import find_config, read_config
from wsi_deform.data.fields import FieldBatch, FieldViews, LabelledField
from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.deform.targets import edge_target, target_map
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.sample.gather import gather, read_corners
from wsi_deform.sampled_fields import plan_field
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.open import open_slide
from wsi_deform.train.losses import edge_loss, focal_loss
from wsi_deform.train.schedule import optimiser_of
from wsi_deform.train.step import learner_of, training_step
from wsi_deform.train.step_loss import change_of_step, labels_of
from wsi_deform.train.training_fields import training_fields

SETTINGS = {
    "not channels_last": "networks.channels_last=false",
    "bfloat16": "training.precision=bfloat16",
    "compile": "training.compile=true",
}
PARTS = ("read", "deform", "plan", "tiles", "blend", "labels", "forward", "backward", "update")


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    block = QUICK.block if settings.quick else FULL.block
    side = block["block_px"]
    files = [
        drawn_file(Mosaic(side_px=side, kinds=1, tissue=1.0, seed=FIRST_SEED + n, **block), settings.cache)
        for n in range(2)
    ]
    given = {"slides": [str(each.slide) for each in files], "labels": [str(each.labels) for each in files]}
    budgets = ((16, 64),) if settings.quick else ((40, 400), (80, 800))
    cases = [
        Case(
            name=f"{short} x {long}, {'warm' if warm else 'cold'}",
            factory="training_step:work",
            params={**given, "budget": [short, long], "warm": warm},
        )
        for short, long in budgets
        for warm in (True, False)
    ]
    short, long = budgets[0]
    cases += [
        Case(
            name=f"{short} x {long}, warm, {name}",
            factory="training_step:work",
            params={**given, "budget": [short, long], "warm": True, "setting": setting},
        )
        for name, setting in SETTINGS.items()
        if not (settings.quick and name == "compile")
    ]
    chosen = [case for case in cases if not settings.only or case.name in settings.only]
    with Pool(settings.threads) as pool:
        rows = pool.measure(chosen, runs=settings.runs)
    for row in rows:
        del row["slides"], row["labels"]
        row.pop("setting", None)
    return rows


def work(
    *, slides: Sequence[str], labels: Sequence[str], budget: Sequence[int], warm: bool, setting: str = ""
) -> Work:
    """Steps on a batch of two slides."""
    torch.manual_seed(0)
    changes = [f"sampling.budget={list(budget)}", "device=cpu", *filter(None, [setting])]
    config = read_config(find_config("joint"), changes=changes)
    model = Model(config=config, classes=CLASSES, mpp=MPP).to_device("cpu").train()
    optimiser = optimiser_of(model)
    learner = learner_of(model, optimiser)
    opened = [
        (open_slide(slide), DrawnFile(slide=Path(slide), labels=Path(mask)).truth())
        for slide, mask in zip(slides, labels, strict=True)
    ]
    items = training_fields(opened, model)[:2]

    def run(number: int) -> Facts:
        if not warm:
            TILE_CACHE.forget()
            LABEL_CACHE.forget()
        facts: Facts = {}
        if not setting:
            parts = _parts(model, optimiser, items, number)
            facts = {f"{name}_seconds": parts[name] for name in PARTS}
            facts["parts_seconds"] = sum(facts.values())
            facts |= {"tiles_read": parts["tile_count"], "samples": parts["samples"]}
        if not warm:
            TILE_CACHE.forget()
            LABEL_CACHE.forget()
        start, cpu = time.perf_counter(), time.process_time()
        training_step(
            learner, [_batch(items)], epoch=0, step=number, edge_weight=model.config.loss.edge_weight
        )
        whole = time.perf_counter() - start
        return {"seconds": whole, "cpu_seconds": time.process_time() - cpu, **facts}

    run(0)
    return Work(run=run)


def _batch(items: list[LabelledField]) -> FieldBatch:
    views = FieldViews(items)
    return views.batch(views.collate([views[index] for index in range(len(items))]))


def _parts(
    model: Model, optimiser: torch.optim.Optimizer, items: list[LabelledField], number: int
) -> dict[str, float]:
    """The lines of ``training_step``, ``field_sums`` and ``sample_fields``, timed one by one."""
    watch = _Watch()
    config, settings = model.config, model.config.sampling
    with watch.part("read"):
        batch = _batch(items)
    size = batch.items[0].size
    change = change_of_step(config, batch, epoch=0, step=number)
    with watch.part("deform"):
        views = change.transform_view(batch.views)
        density = model.density(views)
        grid_of = partial(
            sampling_grid,
            density,
            sigma_px=settings.pull_px(min(density.shape[-2:])),
            radius_px=settings.radius_sigmas * settings.pull_px(min(density.shape[-2:])),
            warp_steps=settings.warp_steps,
            border=settings.border,
        )
        grid = grid_of(size=size, placement=settings.placement)
        with torch.no_grad():
            corners = grid_of(size=Size(size.width + 1, size.height + 1), placement="corner")
            areas = cell_areas(corners)
        grid = change(grid)
    images, tile_count = [], 0
    for item, own, own_areas in zip(batch.items, grid, areas, strict=True):
        with watch.part("plan"):
            plan = plan_field(model, item.slide, item.field, own, own_areas)
        with watch.part("tiles"):
            read_corners(item.slide, plan, scheduler="loop")
        # Reads the tiles again, from the cache: what is added is blending.
        with watch.part("blend"):
            images.append(gather(item.slide, own, plan=plan, scheduler="loop"))
        with watch.part("tiles again"):
            read_corners(item.slide, plan, scheduler="loop")
        tile_count += plan.tile_count
    watch.seconds["blend"] = max(0.0, watch.seconds["blend"] - watch.seconds.pop("tiles again"))
    with watch.part("labels"):
        labels = labels_of(batch, grid)
    with watch.part("forward"):
        scores = model.scores(torch.stack(images))
        loss = focal_loss(scores, labels, gamma=config.loss.focal_gamma)
        edges = edge_target(change.transform_fractions(batch.fractions))
        edge = edge_loss(density, target_map(edges, floor=config.loss.edge_floor))
        loss = loss + config.loss.edge_weight * edge
    with watch.part("backward"):
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
    with watch.part("update"):
        clip_gradient(model)
        optimiser.step()
    return {**watch.seconds, "tile_count": tile_count, "samples": size.area * len(items)}


class _Watch:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
