"""Tables of the studies, from records."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.paper.intervals import Estimate, Kind, Record, estimate
from pipelines.paper.studies import Records, Scope
from pipelines.paper.systems import JOINT, PATCHES, SYSTEMS, UNIFORM
from pipelines.paper.trial import Trial, data_set_of
from wsi_deform.report.tables import NOTHING, Table

HEADROOM = 0.05
"""Less than this between a budget and four times as many samples: no claim about where samples lie."""


def chosen(records: Records, **wanted: Any) -> list[Record]:
    """Records of the trials with these attributes, by seed."""
    found = [
        (trial.seed, record)
        for trial, record in records.items()
        if all(getattr(trial, name) == value for name, value in wanted.items())
    ]
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def paired(one: Sequence[Record], other: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Those of both that have the same seeds, in the same order."""
    first = {record["trial"]["seed"]: record for record in one}
    second = {record["trial"]["seed"]: record for record in other}
    seeds = sorted(first.keys() & second.keys())
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def said(found: Estimate | None, *, signed: bool = False) -> str:
    """An estimate in a cell."""
    return NOTHING if found is None else found.text(signed=signed)


def budget_text(budget: tuple[int, int]) -> str:
    """(16, 64) as 16x64."""
    return f"{budget[0]}x{budget[1]}"


def _plain(trial: Trial) -> bool:
    return not trial.variant and trial.only_class is None


def methods_table(records: Records, data: str, scope: Scope, *, kind: Kind = "predicted") -> Table:
    """Mean IoU of systems at the budgets of a data set: mean over seeds [95 % over images] (range over seeds)."""
    budgets = scope.budgets_of(data)
    plain = {trial: record for trial, record in records.items() if trial.data == data and _plain(trial)}
    rows = []
    for name in [name for name in SYSTEMS if any(trial.system == name for trial in plain)]:
        cells = []
        for budget in budgets:
            own = chosen(plain, system=name, budget=budget, network=scope.network)
            cells.append(said(estimate(own, kind=kind)))
        if any(cell != NOTHING for cell in cells):
            rows.append((SYSTEMS[name].label, *cells))
    return Table(header=("system", *map(budget_text, budgets)), rows=tuple(rows))


def differences_table(records: Records, data: str, scope: Scope) -> Table:
    """By how many points joint is ahead of every other system, paired by seed and by image."""
    budgets = scope.budgets_of(data)
    plain = {trial: record for trial, record in records.items() if trial.data == data and _plain(trial)}
    rows = []
    for name in [name for name in SYSTEMS if name != JOINT and any(t.system == name for t in plain)]:
        cells = []
        for budget in budgets:
            # Patches know no budget: the one trial stands beside all of them.
            other = chosen(plain, system=name, network=scope.network) if name == PATCHES else None
            if other is None:
                other = chosen(plain, system=name, budget=budget, network=scope.network)
            ours, theirs = paired(chosen(plain, system=JOINT, budget=budget, network=scope.network), other)
            cells.append(said(estimate(ours, minus=theirs), signed=True))
        if any(cell != NOTHING for cell in cells):
            rows.append((SYSTEMS[name].label, *cells))
    return Table(header=("joint ahead of", *map(budget_text, budgets)), rows=tuple(rows))


def headroom_table(records: Records, scope: Scope) -> Table:
    """What four times the samples would gain: where that is little, where samples lie cannot matter."""
    rows = []
    for data in scope.data:
        for short, long in scope.budgets_of(data):
            own = {
                "data": data,
                "system": UNIFORM,
                "network": scope.network,
                "variant": "",
                "only_class": None,
            }
            few, many = (
                chosen(records, budget=size, **own) for size in ((short, long), (2 * short, 2 * long))
            )
            ours, theirs = paired(many, few)
            gain = estimate(ours, minus=theirs)
            verdict = NOTHING if gain is None else "yes" if gain.value >= HEADROOM else "no"
            rows.append(
                (data_set_of(data).label, budget_text((short, long)), said(gain, signed=True), verdict)
            )
    return Table(
        header=("data", "budget", "four times the samples, points", "5 points of headroom"), rows=tuple(rows)
    )


def class_table(records: Records, data: str, scope: Scope) -> Table:
    """IoU of each class at the smallest budget, rarest first, joint beside uniform."""
    budget = scope.budgets_of(data)[0]
    own = {"data": data, "budget": budget, "network": scope.network, "variant": "", "only_class": None}
    ours, theirs = paired(chosen(records, system=JOINT, **own), chosen(records, system=UNIFORM, **own))
    if not ours:
        return Table(header=("class",), rows=())
    names = ours[0]["classes"]
    counts = np.array(ours[0]["pooled"]["predicted"]["confusion"], dtype=float).sum(axis=1)
    rows = []
    for number in np.argsort(counts):
        rows.append(
            (
                names[number],
                f"{100 * counts[number] / counts.sum():.2f} %",
                said(estimate(theirs, class_index=int(number))),
                said(estimate(ours, class_index=int(number))),
                said(estimate(ours, minus=theirs, class_index=int(number)), signed=True),
            )
        )
    return Table(header=("class", "pixels", "uniform", "joint", "gain"), rows=tuple(rows))


def variants_table(
    records: Records, data: str, systems_and_variants: Sequence[tuple[str, str]], *, network: str
) -> Table:
    """Mean IoU of variants of systems, a row each."""
    rows = []
    for system, variant in systems_and_variants:
        found = chosen(records, data=data, system=system, variant=variant, network=network)
        words = variant.replace("-", " ") or SYSTEMS[system].label
        rows.append((words, said(estimate(found)), said(estimate(found, kind="sampled"))))
    return Table(header=("variant", "mIoU", "mIoU(Y', Y)"), rows=tuple(rows))


def paper_rows(path: Path, table: str) -> Table:
    """The paper's own numbers of a table, as it printed them.

    Args:
        path: A CSV with the columns table, dataset, input, downsampled, setting, value, miou.
        table: Its number, such as "2".
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == table]
    return Table(
        header=("the paper's", "downsampled to", "setting", "mIoU"),
        rows=tuple(
            (
                f"{row['dataset']} {row['input']}",
                row["downsampled"],
                f"{row['setting']} {row['value']}",
                f"{100 * float(row['miou']):.0f}",
            )
            for row in rows
        ),
    )
