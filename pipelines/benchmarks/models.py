"""Models for ``whole_slide``, trained in minutes on drawn slides: enough to compare accuracy at a cost, no more.

Two are HRNetV2-W18. Ours is trained by the package's own loop on warped sampled images. The one that patches
are segmented with is trained on full-resolution and two and four times coarser patches of the same slides (half of
them around a gland, which are rare), with the same loss and optimiser and about as many FLOPs. The focal loss and
samples that average their cells are what was the default when the page's numbers were made. Blocks are trained by the
same loop for as many steps, as ``configs/blocks.yaml`` has them: on the encoder's ImageNet weights where the extra
``pretrained`` is installed, else from scratch.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.benchmarks.drawn_slides import CLASSES, MPP, Block, DrawnFile, Mosaic, drawn_file
from pipelines.benchmarks.measure import Row
from pipelines.benchmarks.results import Settings
from wsi_deform.config import find_config, read_config
from wsi_deform.config_blocks import BUDGETS
from wsi_deform.config_sections import Config
from wsi_deform.geometry import Region
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.encoders import PUBLISHED
from wsi_deform.slide.open import open_slide
from wsi_deform.train.loop import train
from wsi_deform.train.losses import focal_loss
from wsi_deform.train.watcher import NullWatcher

FIELD_UM = 2048
FIRST_SEED = 100  # slides to train on share no seed with slides to measure on
SAY_EVERY_S = 20.0
LEVELS = 3
ENCODER = "efficientnet-lite0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is trained.

    Attributes:
        slides: Number of slides, each one block.
        block: What ``Mosaic`` is told about a block.
        budget: Side of a slide's sampled image, px.
        steps: Steps of ours, two slides each.
        patch_px: Side of a patch.
        patch_steps: Steps on patches.
        batch: Patches per step.
    """

    slides: int
    block: Block
    budget: int
    steps: int
    patch_px: int
    patch_steps: int
    batch: int = 4


FULL = Plan(
    slides=8,
    block={"block_px": 4096, "scale": 4.0},
    budget=128,
    steps=400,
    patch_px=192,
    patch_steps=300,
)
QUICK = Plan(
    slides=2,
    block={"block_px": 1024, "scale": 1.0},
    budget=32,
    steps=2,
    patch_px=64,
    patch_steps=2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The models; ``ours`` warps."""

    ours: Path
    patches: Path
    blocks: Path


def benchmark(settings: Settings) -> list[Row]:
    """Train what is not there yet; there is nothing to measure."""
    trained_models(settings)
    return []


def plan_of(settings: Settings) -> Plan:
    """How much is trained."""
    return QUICK if settings.quick else FULL


def trained_models(settings: Settings) -> Trained:
    """Train the models once; later calls find them in the cache."""
    plan = plan_of(settings)
    folder = settings.cache / "models" / ("quick" if settings.quick else "full")
    models = Trained(
        ours=folder / "ours.safetensors",
        patches=folder / "patches.safetensors",
        blocks=folder / "blocks.safetensors",
    )
    torch.set_num_threads(settings.threads)
    if not models.ours.is_file():
        _train_ours(plan, models.ours, settings)
    if not models.patches.is_file():
        _train_patches(plan, models.patches, settings)
    if not models.blocks.is_file():
        _train_blocks(plan, models.blocks, settings)
    return models


def training_slides(settings: Settings) -> list[DrawnFile]:
    """The slides that all of them are trained on."""
    return _files(plan_of(settings), settings)


def _files(plan: Plan, settings: Settings) -> list[DrawnFile]:
    side = plan.block["block_px"]
    return [
        drawn_file(
            Mosaic(side_px=side, kinds=1, tissue=1.0, seed=FIRST_SEED + number, **plan.block), settings.cache
        )
        for number in range(plan.slides)
    ]


def _config(plan: Plan, *, stem_stride: int, warped: bool) -> Config:
    return read_config(
        changes=[
            f"sampling.budget=[{plan.budget}, {plan.budget}]",
            f"networks.segmentation={{name: hrnetv2, width: 18, stem_stride: {stem_stride}}}",
            f"networks.area_channel={str(warped).lower()}",
            f"training.epochs={max(1, plan.steps * 2 // plan.slides)}",
            "training.validate_every=1000",
            "augmentation.flip_y=true",
            "loss.focal_gamma=2",
            "sampling.coarsest_um=null",
            f"fields.side_um={FIELD_UM}",
            "device=cpu",
        ]
    )


def _manifest(plan: Plan, settings: Settings, folder: Path) -> Manifest:
    rows = tuple(
        ManifestRow(slide=file.slide, slide_id=file.slide.stem, split="train", mask=file.labels)
        for file in _files(plan, settings)
    )
    return Manifest(rows=rows, folder=folder)


def _train_blocks(plan: Plan, path: Path, settings: Settings) -> None:
    is_pretrained = importlib.util.find_spec(PUBLISHED[ENCODER][1]) is not None
    config = read_config(
        find_config("blocks"),
        changes=[
            f"networks.segmentation={{name: {ENCODER}, width: 64, frozen: {str(is_pretrained).lower()}}}",
            f"networks.pretrained={ENCODER if is_pretrained else 'null'}",
            f"training.epochs={max(1, plan.steps * 2 // plan.slides)}",
            "training.validate_every=1000",
            f"fields.side_um={FIELD_UM}",
            "device=cpu",
        ],
    )
    run = path.with_name("blocks-run")
    print(f"  blocks: {config.training.epochs} epochs of {plan.slides} slides, pretrained: {is_pretrained}")
    train(config, _manifest(plan, settings, run), CLASSES, run, watcher=_Progress("blocks"))
    save_model(load_model(run / "last.safetensors"), path, facts={"steps": plan.steps})


def _train_ours(plan: Plan, path: Path, settings: Settings) -> None:
    config = _config(plan, stem_stride=2, warped=True)
    run = path.with_name("run")
    print(f"  ours: {config.training.epochs} epochs of {plan.slides} slides, {plan.budget}^2 samples each")
    train(config, _manifest(plan, settings, run), CLASSES, run, watcher=_Progress("ours"))
    model = load_model(run / "last.safetensors")
    # A slide to train on is smaller than a field; the same distance between samples is another budget.
    field_px = FIELD_UM / MPP * (1 + 2 * config.fields.margin)
    budget = round(plan.budget * (field_px if not settings.quick else 2048) / plan.block["block_px"])
    model.config = with_budget(config, budget)
    save_model(model, path, facts={"steps": plan.steps})


def with_budget(config: Config, side: float) -> Config:
    """The configuration with another budget, ``side`` x ``side`` samples per field."""
    whole = max(8, round(side))
    sampling = config.sampling.model_copy(update={"budget": (whole, whole)})
    return config.model_copy(update={"sampling": sampling})


def with_block_budget(config: Config, factor: float) -> Config:
    """The configuration of blocks with a budget of so many times the pixels."""
    blocks = config.blocks
    assert blocks is not None
    said = {key: getattr(blocks, key) for key in BUDGETS}
    changed = {key: type(value)(value * factor) for key, value in said.items() if value is not None}
    return config.model_copy(update={"blocks": blocks.model_copy(update=changed)})


class _Progress(NullWatcher):
    """Says the loss now and then."""

    def __init__(self, name: str) -> None:
        self.name, self.said = name, time.monotonic()

    def epoch(self, row: dict[str, object]) -> None:
        """An epoch is done."""
        if time.monotonic() - self.said > SAY_EVERY_S:
            self.said = time.monotonic()
            print(f"  {self.name}: epoch {row['epoch']}, loss {row['loss']:.3f}")


def _train_patches(plan: Plan, path: Path, settings: Settings) -> None:
    torch.manual_seed(0)
    config = _config(plan, stem_stride=4, warped=False)
    model = Model(config=config, classes=CLASSES, mpp=MPP).to_device("cpu").train()
    rate = config.optimiser.learning_rate
    optimiser = torch.optim.Adam(model.segmentation.parameters(), lr=rate)
    said = time.monotonic()
    print(f"  patches: {plan.patch_steps} steps of {plan.batch} patches of {plan.patch_px}^2 px")
    for step, (images, labels) in enumerate(_patches(plan, _files(plan, settings))):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / plan.patch_steps))
        loss = focal_loss(model.scores(images), labels, gamma=config.loss.focal_gamma)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        clip_gradient(model)
        optimiser.step()
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            print(f"  patches: step {step + 1}, loss {float(loss.detach()):.3f}")
    save_model(model.eval(), path, facts={"steps": plan.patch_steps})


def clip_gradient(model: Model) -> None:
    """Shorten the gradient as ``training_step`` does."""
    longest = model.config.optimiser.clip_norm
    torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if longest is None else longest)


def _patches(plan: Plan, files: list[DrawnFile]) -> Iterator[tuple[Tensor, Tensor]]:
    """Random patches with their labels: (B, 3, p, p) RGB, (B, p, p) uint8; all of one level in a batch."""
    rng = np.random.default_rng(0)
    slides = [(open_slide(file.slide), file.truth()) for file in files]
    glands = [_gland_points(truth.read_region(Region.whole(slide.size)), rng) for slide, truth in slides]
    for _ in range(plan.patch_steps):
        level = int(rng.integers(0, LEVELS))
        images, labels = [], []
        for _ in range(plan.batch):
            chosen = int(rng.integers(0, len(slides)))
            slide, truth = slides[chosen]
            scale = 2**level
            side = plan.patch_px * scale
            centre = rng.uniform(0, slide.size.width, 2)
            if rng.random() < 0.5 and len(glands[chosen]):
                centre = glands[chosen][rng.integers(0, len(glands[chosen]))]
            left, top = (int(np.clip(at - side / 2, 0, slide.size.width - side)) // scale for at in centre)
            image = slide.read_region(level, Region(left, top, plan.patch_px, plan.patch_px))
            true = truth.read_region(Region(left * scale, top * scale, side, side))[
                scale // 2 :: scale, scale // 2 :: scale
            ]
            turns, flip = int(rng.integers(0, 4)), 1 - 2 * int(rng.integers(0, 2))
            images.append(np.rot90(image[:, ::flip], turns))
            labels.append(np.rot90(true[:, ::flip], turns))
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        yield pixels, torch.from_numpy(np.stack(labels))


def _gland_points(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2) some positions (x, y) in glands, px."""
    rows, columns = np.nonzero(labels[::8, ::8])
    chosen = rng.permutation(len(rows))[:2000]
    return np.stack((columns[chosen], rows[chosen]), axis=1).astype(np.float64) * 8
