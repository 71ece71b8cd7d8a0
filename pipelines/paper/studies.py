"""The studies of the paper: which trials each needs, and what is shown of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from pipelines.paper.systems import (
    BLOCKS,
    BLURS,
    DENSE,
    INTERPOLATION,
    JOINT,
    LOOKS,
    METHODS,
    ONE_OF_EACH_KIND,
    ORACLE,
    PAPER,
    PATCHES,
    RESIZERS,
    UNIFORM,
    WARPS,
)
from pipelines.paper.trial import Trial, data_set_of

Variant = tuple[str, tuple[str, ...]]
Records = Mapping[Trial, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a study is asked for.

    Attributes:
        data: Names of data sets.
        seeds: Seeds.
        budgets: (short, long) sides, for all data sets alike; None is each data set's own.
        network: Segmentation network, of ``trial.NETWORKS``.
        classes: Data set -> its classes but the background, for binary studies.
        most: Of settings that are tried one beside the other, only the first so many; None takes all.
    """

    data: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    budgets: tuple[tuple[int, int], ...] | None = None
    network: str = "dynunet"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    most: int | None = None

    def budgets_of(self, data: str) -> tuple[tuple[int, int], ...]:
        """The budgets of a data set."""
        return self.budgets or data_set_of(data).budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study.

    Attributes:
        name: Of the command.
        about: Of which figure or table, and what it shows.
        trials: What it needs.
    """

    name: str
    about: str
    trials: Callable[[Scope], list[Trial]]


def of_systems(scope: Scope, systems: Sequence[str], **changes: Any) -> list[Trial]:
    """Systems at all budgets with all seeds; seeds outermost, so that one seed is whole before the next begins."""
    return [
        Trial(data=data, system=system, budget=budget, seed=seed, network=scope.network, **changes)
        for seed, data in product(scope.seeds, scope.data)
        for budget, system in product(scope.budgets_of(data), systems)
        # Patches are of full resolution whatever the budget.
        if system != PATCHES or budget == scope.budgets_of(data)[0]
    ]


def ceilings(scope: Scope) -> list[Trial]:
    """Uniform with four times the samples of each budget, one seed: what finer sampling could gain at all."""
    return [
        Trial(
            data=data,
            system=UNIFORM,
            budget=(2 * short, 2 * long),
            seed=scope.seeds[0],
            network=scope.network,
        )
        for data in scope.data
        for short, long in scope.budgets_of(data)
    ]


def at_smallest(scope: Scope, systems: Sequence[str], **changes: Any) -> list[Trial]:
    """Systems at the smallest budget of each data set, the first ``scope.most`` of them."""
    return [
        Trial(
            data=data,
            system=system,
            budget=scope.budgets_of(data)[0],
            seed=seed,
            network=scope.network,
            **changes,
        )
        for seed, data in product(scope.seeds, scope.data)
        for system in systems[: scope.most]
    ]


ORACLES = tuple(f"{ORACLE}-{blur:g}" for blur in BLURS)
INTERPOLATIONS = tuple(f"{INTERPOLATION}-{filters}x{blocks}" for blocks, filters in RESIZERS)


def _figure3(scope: Scope) -> list[Trial]:
    return [
        trial
        for data in scope.data
        for name in scope.classes.get(data, ())
        for trial in at_smallest(replace(scope, data=(data,)), ORACLES, only_class=name)
    ]


def _figure6(scope: Scope) -> list[Trial]:
    wanted = []
    for seed, data in product(scope.seeds, scope.data):
        budgets = list(scope.budgets_of(data))
        if scope.budgets is None:  # one octave of samples below and above what is compared otherwise
            short, long = budgets[0]
            budgets = [(short // 2, long // 2), *budgets, (2 * budgets[-1][0], 2 * budgets[-1][1])]
        wanted += [
            Trial(data=data, system=system, budget=budget, seed=seed, network=scope.network)
            for budget, system in product(budgets, (UNIFORM, JOINT))
        ]
    return wanted


def share_variant(share: float) -> Variant:
    """A budget of blocks: pixels read / those of the finest level."""
    return f"share-{share:g}", (f"blocks.share={share:g}",)


def warp_changes(data: str, share: float) -> tuple[str, ...]:
    """Sampled images of as many pixels as blocks read at a share; none where images are of no one size.

    The map keeps the size that it has at the smallest budget of the data set.
    """
    found = data_set_of(data)
    if found.looks.size is None:
        return ()
    short, long = (max(1, round(side * math.sqrt(share))) for side in found.looks.size)
    return (
        f"sampling.budget=[{short}, {long}]",
        f"sampling.map_scale={min(1.0, found.budgets[0][0] / short):.3g}",
    )


def _looks(scope: Scope) -> list[Trial]:
    """Blocks at every share, their controls too, and dense reading of each level."""
    wanted = []
    for seed, data in product(scope.seeds, scope.data):
        # The first budget stands in all of them: theirs is the share.
        budget = scope.budgets_of(data)[0]
        plain = Trial(data=data, system=BLOCKS, budget=budget, seed=seed)
        names = LOOKS if scope.most is None else ONE_OF_EACH_KIND
        wanted += [replace(plain, system=name) for name in names if name in DENSE]
        for share in reversed(data_set_of(data).looks.shares):
            variant, of_blocks = share_variant(share)
            of_warps = warp_changes(data, share)
            wanted += [
                replace(plain, system=name, variant=variant, changes=of_warps if name in WARPS else of_blocks)
                for name in names
                if name not in DENSE and (of_warps or name not in WARPS)
            ]
    return [
        *wanted,
        *(coarsely_labelled(each) for each in wanted if scope.most is None and _is_control(each)),
    ]


def coarsely_labelled(trial: Trial) -> Trial:
    """The same with labels of twice the side: what their size is worth."""
    side = 2 * data_set_of(trial.data).looks.label_px
    variant = "_".join(part for part in (trial.variant, f"label-{side}") if part)
    return replace(trial, variant=variant, changes=(*trial.changes, f"blocks.label_px={side}"))


def _is_control(trial: Trial) -> bool:
    """Whether it is also run with coarser labels."""
    return trial.system in (BLOCKS, f"{BLOCKS}-detail", *DENSE[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """One of Tables 2 to 5.

    Attributes:
        number: Of the table.
        about: What varies.
        system: The system that it varies in.
        sides: (short, long) sides of the sampled image in the paper, on Cityscapes' central crops of 1,024 x 1,024 px.
        variants: (name, key=value ...) with the paper's own numbers.
        relative: The same as shares of the sampled image, for other sizes.
    """

    number: str
    about: str
    system: str
    sides: tuple[int, int]
    variants: tuple[Variant, ...]
    relative: tuple[Variant, ...]


KERNELS = tuple((f"kernel-{side}", (f"networks.deformation.kernel={side}",)) for side in (3, 5, 7))
GAMMAS = tuple((f"gamma-{gamma}", (f"loss.edge_weight={gamma}",)) for gamma in (50, 100, 200))
EXACT = "sampling.size=exact"
SENSITIVITIES = (
    Sensitivity(
        number="2",
        about="sigma, px of the map",
        system=JOINT,
        sides=(96, 96),
        variants=tuple((f"sigma-{px}px", (EXACT, f"sampling.sigma_px={px}")) for px in (15, 26, 32)),
        relative=tuple((f"sigma-{share:g}", (f"sampling.sigma={share}",)) for share in (0.156, 0.271, 0.333)),
    ),
    Sensitivity(
        number="3",
        about="kernel of the deformation network",
        system=JOINT,
        sides=(96, 96),
        variants=tuple((f"{name}-exact", (EXACT, *changes)) for name, changes in KERNELS),
        relative=KERNELS,
    ),
    Sensitivity(
        number="4",
        about="side of the low-res view",
        system=JOINT,
        sides=(64, 64),
        variants=tuple(
            (f"view-{px}px", (EXACT, f"sampling.view_px=[{px}, {px}]")) for px in (32, 48, 64, 80, 96)
        ),
        relative=tuple(
            (f"view-{share:g}", (f"sampling.map_scale={share}",)) for share in (0.5, 0.75, 1.0, 1.25, 1.5)
        ),
    ),
    Sensitivity(
        number="5",
        about="gamma, on the paper's own scale, in the paper as published",
        system=PAPER,
        sides=(64, 64),
        variants=tuple((f"{name}-exact", (EXACT, *changes)) for name, changes in GAMMAS),
        relative=GAMMAS,
    ),
)
"""Tables 2 to 5 at the paper's sizes; with ``--budgets`` at those, in shares."""


def variants_of(sensitivity: Sensitivity, scope: Scope) -> tuple[Variant, ...]:
    """The variants that a scope asks for."""
    chosen = sensitivity.variants if scope.budgets is None else sensitivity.relative
    return chosen[: scope.most]


def _tables(scope: Scope) -> list[Trial]:
    return [
        Trial(
            data=data,
            system=each.system,
            budget=each.sides if scope.budgets is None else scope.budgets[0],
            seed=seed,
            network=scope.network,
            variant=name,
            changes=changes,
        )
        for seed, data in product(scope.seeds, scope.data)
        for each in SENSITIVITIES
        for name, changes in variants_of(each, scope)
    ]


STUDIES = {
    study.name: study
    for study in (
        Study(
            name="figure3",
            about="edge oracles of several blurs, one class against all others: no blur suits every class",
            trials=_figure3,
        ),
        Study(
            name="figure4_5",
            about="all systems: mIoU and mIoU(Y', Y), and IoU of each class against its frequency",
            trials=lambda scope: [*of_systems(scope, METHODS), *ceilings(scope)],
        ),
        Study(
            name="figure6",
            about="cost and performance: what joint saves at the mIoU of uniform, in samples, FLOPs and seconds",
            trials=_figure6,
        ),
        Study(
            name="figure9",
            about="accuracy near borders (trimap); with --network pspnet and manifests of crops also its part a",
            trials=lambda scope: of_systems(scope, METHODS),
        ),
        Study(
            name="figure13",
            about="class frequency, sampled / whole image, and objects that were missed",
            trials=lambda scope: of_systems(scope, METHODS),
        ),
        Study(
            name="figure14",
            about="edge oracles of several blurs, all classes",
            trials=lambda scope: at_smallest(scope, ORACLES),
        ),
        Study(
            name="tables2_to_5",
            about="sigma, kernel, size of the low-res view, weight of the edge loss",
            trials=_tables,
        ),
        Study(
            name="table6",
            about="interpolation with 1 to 4 residual blocks of 16 or 32 filters",
            trials=lambda scope: at_smallest(scope, INTERPOLATIONS),
        ),
        Study(
            name="blocks",
            about="blocks read at the level they deserve, beside dense reading, warps and plain choices",
            trials=_looks,
        ),
        Study(
            name="claims",
            about="the claims of the paper, one row each",
            trials=lambda scope: list(
                dict.fromkeys([*of_systems(scope, METHODS), *ceilings(scope), *_figure6(scope)])
            ),
        ),
    )
}
