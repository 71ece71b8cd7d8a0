"""The systems that the paper compares, each a packaged configuration with what is changed in it."""

from __future__ import annotations

from dataclasses import dataclass

JOINT, SINGLE, UNIFORM, POINT = "joint", "single", "uniform", "uniform-point"
MARIN, INTERPOLATION, PATCHES, PAPER = "edge-based", "interpolation", "patches", "paper"
ORACLE = "edge-oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system.

    Attributes:
        name: In files and commands.
        label: In tables and figures.
        config: The packaged configuration that it begins with.
        changes: ``key=value`` over it, after those of the data set and of the study.
        method: Of `wsi-deform segment`: sampled or patches.
        is_oracle: Whether it sees the labels of what it segments.
        keeps_rates: Whether learning rates, augmentation and reading are its own, not the study's.
        looks: Whether it reads with an encoder as ``DataSet.looks`` says: network and budget are its own.
        warps: Whether it is one of these that has no blocks, but a warped image of as many pixels.
    """

    name: str
    label: str
    config: str
    changes: tuple[str, ...] = ()
    method: str = "sampled"
    is_oracle: bool = False
    keeps_rates: bool = False
    looks: bool = False
    warps: bool = False


def _looks(name: str, label: str, *changes: str, is_oracle: bool = False) -> System:
    return System(name=name, label=label, config="blocks", changes=changes, is_oracle=is_oracle, looks=True)


def _warp(name: str, label: str, config: str) -> System:
    return System(name=name, label=label, config=config, looks=True, warps=True)


def _oracle(blur: float) -> System:
    return System(
        name=f"{ORACLE}-{blur:g}",
        label=f"edge oracle, blur {blur:g}",
        config="edge_oracle",
        changes=(f"loss.edge_blur={blur:g}",),
        is_oracle=True,
    )


def _resizer(blocks: int, filters: int) -> System:
    return System(
        name=f"{INTERPOLATION}-{filters}x{blocks}",
        label=f"interpolation, n {filters}, r {blocks}",
        config="interpolation",
        changes=(f"networks.resizer.blocks={blocks}", f"networks.resizer.filters={filters}"),
    )


BLOCKS, SCRATCH = "blocks", "blocks-scratch"
CHOICES = {
    "detail": "blocks, image detail",
    "tissue": "blocks, tissue mask",
    "random": "blocks, random",
    "labels": "blocks, oracle",
}
"""Controls: what chooses the blocks where nothing is learned -> in tables."""
WARPS = ("warp-uniform", "warp-joint")
"""The encoder on one sampled image of as many pixels: windows of k px per sample of the paper's, side by side."""
DENSE = tuple(f"dense-{step}" for step in (1, 2, 4))
"""The same encoder and head over the whole of one level, of 1, 2 or 4 times the finest um per px: no choice."""
FROM_SCRATCH = ("networks.pretrained=null", "networks.segmentation.frozen=false")
BLURS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Blur of the edge oracle in cells of the map: how far from a border samples are spent."""
RESIZERS = tuple((blocks, filters) for filters in (16, 32) for blocks in (1, 2, 3, 4))
"""Residual blocks and filters of Table 6."""

SYSTEMS = {
    system.name: system
    for system in (
        System(name=JOINT, label="joint loss (ours)", config="joint"),
        System(name=SINGLE, label="single loss", config="single_loss"),
        System(name=UNIFORM, label="uniform", config="uniform"),
        System(name=POINT, label="uniform, point-sampled", config="uniform_point"),
        System(name=MARIN, label="edge-based (Marin et al.)", config="edge_based"),
        System(name=INTERPOLATION, label="interpolation (Talebi & Milanfar)", config="interpolation"),
        System(name=PATCHES, label="patches, full resolution", config="patches", method="patches"),
        System(name=PAPER, label="the paper as published", config="paper", keeps_rates=True),
        _looks(BLOCKS, "blocks (ours)"),
        *(
            _looks(f"{BLOCKS}-{choice}", label, f"blocks.choice={choice}", is_oracle=choice == "labels")
            for choice, label in CHOICES.items()
        ),
        _looks(SCRATCH, "blocks, encoder from scratch", *FROM_SCRATCH),
        *(
            _looks(name, f"dense, {step} x the finest um per px")
            for name, step in zip(DENSE, (1, 2, 4), strict=True)
        ),
        _warp(WARPS[0], "uniform, same encoder", "uniform"),
        _warp(WARPS[1], "joint, same encoder", "joint"),
        *(_oracle(blur) for blur in BLURS),
        *(_resizer(blocks, filters) for blocks, filters in RESIZERS),
    )
}
BEST_GUESS_ORACLE = f"{ORACLE}-1"
"""The edge oracle of the comparison of methods; the others are of Figure 14."""
METHODS = (UNIFORM, SINGLE, JOINT, PAPER, MARIN, INTERPOLATION, BEST_GUESS_ORACLE, PATCHES)
"""The systems of the comparison of methods, in the order of its tables."""
LOOKS = (BLOCKS, *DENSE, *(f"{BLOCKS}-{choice}" for choice in CHOICES), *WARPS, SCRATCH)
"""The systems that read with an encoder: in blocks, and their controls."""
ONE_OF_EACH_KIND = (BLOCKS, DENSE[0], WARPS[0])
"""Of them, where little is run."""
