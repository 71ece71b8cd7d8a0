"""The data sets that the studies run on: stand-ins that anyone can have, drawn slides, or a manifest of one's own.

None of them is in this repository; ``pipelines.photos`` and ``pipelines.glas`` write their manifests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LABEL_PX = 2
"""Side of a label of blocks, px of the finest level; records of another say it in their variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How a data set is read in blocks.

    Attributes:
        finest: um per px of the finest level, or level-0 px of a photograph.
        levels: How many.
        window_px: Side of a window.
        label_px: Side of what a label is of, px of the finest level.
        shares: Pixels read / those of the finest level.
        steps: Steps of the optimiser of every training.
        is_pretrained: Whether the encoder has its published weights, and keeps them.
        size: (short, long) side of an image at the finest level, px; None where images are of no one size.
    """

    finest: float
    levels: int = 3
    window_px: int = 64
    label_px: int = LABEL_PX
    shares: tuple[float, ...] = (0.15, 0.25, 0.55)
    steps: int = 600
    is_pretrained: bool = True
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """How a data set is trained on.

    Attributes:
        name: In files and commands.
        label: In tables.
        budgets: (short, long) sides of sampled images, smallest first.
        settings: ``key=value`` of every trial of it.
        steps: Steps of the optimiser of every training.
        batch: Fields per step.
        patch_px: Side of the patches of the full-resolution baseline, level-0 px.
        mpp: Level-0 um per pixel; None for photographs.
        stands_for: The paper's data set of the same kind, or "".
        bands_px: Widths of the trimap, level-0 px.
        looks: How fields are read in blocks.
    """

    name: str
    label: str
    budgets: tuple[tuple[int, int], ...]
    settings: tuple[str, ...] = ()
    steps: int = 1500
    batch: int = 2
    patch_px: int = 256
    mpp: float | None = None
    stands_for: str = ""
    bands_px: tuple[int, ...] = field(default=(1, 2, 4, 8, 16, 32))
    looks: Looks = Looks(finest=2.0, window_px=32)


# A photograph has no physical scale: nothing of its configuration may be a length in um.
PHOTO = ("fields.side_um=null", "sampling.coarsest_um=null")
BOTH_FLIPS = ("augmentation.flip_y=true",)

DATA_SETS = {
    each.name: each
    for each in (
        DataSet(
            name="cwfid",
            label="CWFID (field)",
            budgets=((32, 43), (64, 86)),
            settings=(*PHOTO, *BOTH_FLIPS),
            stands_for="DeepGlobe",
            # Plants are small: windows of 32 px reach .638 on the validation images at a share of .26, of 16 px .669.
            looks=Looks(finest=2.0, window_px=16, shares=(0.08, 0.26), size=(483, 648)),
        ),
        DataSet(
            name="glas",
            label="GlaS biopsies (histology)",
            budgets=((16, 75), (24, 113)),
            settings=(*BOTH_FLIPS, "augmentation.stain_jitter=0.05"),
            steps=2400,
            mpp=0.62,
            stands_for="PCa-Histo",
            looks=Looks(finest=2.5, size=(496, 2331)),
        ),
        DataSet(
            name="camvid",
            label="CamVid (street)",
            budgets=((24, 32), (48, 64)),
            settings=PHOTO,
            stands_for="Cityscapes",
            patch_px=128,
            looks=Looks(finest=1.0, window_px=32, size=(360, 480)),
        ),
        DataSet(
            name="hei_med",
            label="HEI-MED (fundus)",
            budgets=((64, 72), (128, 144)),
            # Lesions are .3 % of the pixels: without weights every system says that all is background.
            settings=(*PHOTO, "loss.class_weights=inverse"),
            looks=Looks(finest=2.0, window_px=64, shares=(0.25, 0.5), size=(979, 1098)),
        ),
        DataSet(
            name="drawn",
            label="drawn slides",
            budgets=((16, 64), (24, 96)),
            mpp=0.5,
            settings=(*BOTH_FLIPS, "sampling.coarsest_um=null"),
        ),
    )
}

QUICK = DataSet(
    name="quick",
    label="drawn slides, a few steps",
    budgets=((8, 16), (12, 24)),
    settings=(*BOTH_FLIPS, "sampling.coarsest_um=null"),
    steps=2,
    mpp=0.5,
    patch_px=64,
    bands_px=(1, 2, 4),
    looks=Looks(finest=4.0, window_px=16, shares=(0.5,), steps=2, is_pretrained=False, size=(16, 32)),
)
"""Small enough for a test of the commands; its numbers mean nothing."""
