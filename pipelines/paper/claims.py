"""The paper's claims, one row each: reproduced, not reproduced, undecided or not testable here, with the interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.paper.intervals import Estimate, Record, estimate
from pipelines.paper.measured import cost_of, curve_of, saved
from pipelines.paper.studies import Records, Scope
from pipelines.paper.systems import BEST_GUESS_ORACLE, INTERPOLATION, JOINT, MARIN, PAPER, SINGLE, UNIFORM
from pipelines.paper.tables import HEADROOM, budget_text, chosen, paired
from pipelines.paper.trial import data_set_of
from wsi_deform.report.tables import Table

Verdict = Literal["reproduced", "not reproduced", "undecided", "no headroom", "not recorded"]
MIN_SEEDS = 3
"""Of fewer nothing is said to be reproduced or not: training alone moves results by points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that one system is ahead of another.

    Attributes:
        where: Figure or section of the paper.
        words: The claim.
        ahead: The system that is ahead.
        behind: The other.
        least: By so much at least, a share of mIoU.
    """

    where: str
    words: str
    ahead: str
    behind: str
    least: float = 0.0


CLAIMS = (
    Claim(
        where="Figure 4",
        words="joint loss 3 to 10 points above uniform",
        ahead=JOINT,
        behind=UNIFORM,
        least=0.03,
    ),
    Claim(where="Figure 4", words="single loss above uniform (2 of 3 sets)", ahead=SINGLE, behind=UNIFORM),
    Claim(where="Figure 4", words="joint loss above single loss", ahead=JOINT, behind=SINGLE),
    Claim(
        where="Figure 4",
        words="joint loss above edge-based, as its oracle",
        ahead=JOINT,
        behind=BEST_GUESS_ORACLE,
    ),
    Claim(where="4.2", words="joint loss above edge-based, learned", ahead=JOINT, behind=MARIN),
    Claim(where="4.2", words="edge-based, learned, above uniform", ahead=MARIN, behind=UNIFORM),
    Claim(
        where="4.2", words="joint loss above interpolation at few samples", ahead=JOINT, behind=INTERPOLATION
    ),
    Claim(where="all", words="the paper as published above uniform", ahead=PAPER, behind=UNIFORM),
)
NOT_TESTABLE = (
    (
        "Figures 4 to 6",
        "PCa-Histo, Cityscapes, DeepGlobe",
        "the data sets cannot be had here; stand-ins instead",
    ),
    ("all", "HRNetV2-W48, ImageNet weights", "no GPU and no checkpoint here"),
)


def verdict(found: Estimate | None, least: float, headroom: float | None) -> Verdict:
    """What an estimate of a gain says of a claim.

    Args:
        found: The gain; None where it is not recorded.
        least: The gain that is claimed.
        headroom: What four times the samples gain; None where it is not recorded.

    Returns:
        Reproduced: the gain is above what is claimed, and the whole interval over images, and every seed, above 0. Not
        reproduced: the whole interval lies below what is claimed, or every seed at or below 0. Else, and always with
        fewer than three seeds, undecided.
    """
    if found is None:
        return "not recorded"
    if headroom is not None and headroom < HEADROOM:
        return "no headroom"
    if len(found.seeds) < MIN_SEEDS or found.low is None or found.high is None:
        return "undecided"
    if found.value > least and found.low > 0 and min(found.seeds) > 0:
        return "reproduced"
    if max(found.seeds) <= 0 or found.high < least:
        return "not reproduced"
    return "undecided"


def claims_table(records: Records, scope: Scope) -> Table:
    """A row per claim, data set and budget."""
    rows = [row for claim in CLAIMS for row in _rows(claim, records, scope)]
    return Table(
        header=("in the paper", "claim", "data, budget", "gain, points", "verdict"),
        rows=tuple(rows),
        is_text=True,
    )


def _rows(claim: Claim, records: Records, scope: Scope) -> Iterator[tuple[str, ...]]:
    for data, budget, of in _cells(records, scope):
        gain = _gain(of(claim.ahead), of(claim.behind))
        if gain is None:
            continue
        found = verdict(gain, claim.least, _headroom(records, scope, data, budget))
        place = f"{data_set_of(data).label}, {budget_text(budget)}"
        yield claim.where, claim.words, place, gain.text(signed=True), found


def _cells(
    records: Records, scope: Scope
) -> Iterator[tuple[str, tuple[int, int], Callable[[str], list[Record]]]]:
    for data in scope.data:
        for budget in scope.budgets_of(data):
            own = {
                "data": data,
                "budget": budget,
                "network": scope.network,
                "variant": "",
                "only_class": None,
            }
            yield data, budget, lambda system, own=own: chosen(records, system=system, **own)  # type: ignore[misc]


def _gain(ahead: Sequence[Record], behind: Sequence[Record]) -> Estimate | None:
    ours, theirs = paired(ahead, behind)
    return estimate(ours, minus=theirs)


def _headroom(records: Records, scope: Scope, data: str, budget: tuple[int, int]) -> float | None:
    own = {"data": data, "system": UNIFORM, "network": scope.network, "variant": "", "only_class": None}
    more = chosen(records, budget=(2 * budget[0], 2 * budget[1]), **own)
    gain = _gain(more, chosen(records, budget=budget, **own))
    return None if gain is None else gain.value


def saved_table(records: Records, scope: Scope, *, cost: str = "flops") -> Table:
    """Figure 6: the largest share of a cost that joint saves at the mIoU of a point of uniform."""
    rows = []
    for data in scope.data:
        curves = {}
        for system in (JOINT, UNIFORM):
            own = {
                "data": data,
                "system": system,
                "network": scope.network,
                "variant": "",
                "only_class": None,
            }
            budgets = {trial.budget for trial in records if trial.data == data and trial.system == system}
            held = [chosen(records, budget=budget, **own) for budget in budgets]
            points = {value: estimate(each) for each in held if (value := cost_of(each, cost)) is not None}
            curves[system] = curve_of(points)
        found = saved(curves[JOINT], curves[UNIFORM])
        best = max((share for _, share in found), default=None)
        words = "nowhere comparable" if best is None else f"up to {100 * best:.0f} %"
        rows.append((data_set_of(data).label, words))
    return Table(
        header=("data", f"{cost} saved at equal mIoU (the paper: up to 33, 90 and 70 %)"),
        rows=tuple(rows),
        is_text=True,
    )


def untestable_table() -> Table:
    """What cannot be tested here, and why."""
    return Table(header=("in the paper", "what", "why not here"), rows=NOT_TESTABLE, is_text=True)
