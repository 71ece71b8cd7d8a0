"""Tables of the pages beside this file, and the curves, from the CSVs in ``results``.

    python -m pipelines.ablations.tables

Blocks are those of ``page_tables``, marked ``<!-- table: STUDY KIND -->``; STUDY is the name of a CSV
in ``results``, KIND is ``methods``, ``differences``, ``ceilings``, ``saved``, ``time``, ``augmentation``, ``levels`` or
a group of variants. ``time`` reads ``STUDY_time.csv`` too, ``levels`` ``STUDY_averages.csv`` where there is one: trials
with ``sampling.coarsest_um=null``. Differences are paired by slides and seed.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.ablations.variants import DEFAULT, READINGS
from pipelines.page_tables import filled
from wsi_deform.files import write_aside, write_text
from wsi_deform.report.tables import NOTHING, Table, mean_and_spread

HERE = Path(__file__).parent
PAGES = tuple(HERE / name for name in ("README.md", "RECIPE.md", "SHORTER.md"))
RESULTS = HERE / "results"
MEASURE = "test_miou_linear"
CEILING = "test_miou_sampled"
WITHOUT_AUGMENTATION = "no augmentation by sampling"
LIMIT = "at most 16 um"
"""What samples read by default, as the names of variants say it."""
ENDINGS = {
    "its cell, averaged": "",
    **{reading: f", {reading}" for reading in READINGS},
    "a point of level 0": ", point-sampled",
}
"""What a sample reads, and how the names of variants that do end."""

Row = dict[str, str]


def main() -> int:
    """Rewrite the tables of the pages and draw the curves."""
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8"), _table))
    for study in ("methods", "glas"):
        draw_curves(read_rows(RESULTS / f"{study}.csv"), RESULTS / f"{study}.png")
    return 0


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _table(study: str, kind: str) -> str:
    rows = read_rows(RESULTS / f"{study}.csv")
    makers: dict[str, Callable[[Sequence[Row]], Table]] = {
        "methods": methods_table,
        "differences": differences_table,
        "ceilings": lambda rows: methods_table(rows, CEILING),
        "saved": saved_table,
        "time": lambda rows: time_table(rows, read_rows(RESULTS / f"{study}_time.csv")),
        "augmentation": augmentation_table,
        "levels": lambda rows: levels_table(with_averages(rows, RESULTS / f"{study}_averages.csv")),
    }
    table = makers[kind](rows) if kind in makers else group_table(rows, kind)
    return table.markdown()


def methods_table(rows: Sequence[Row], column: str = MEASURE) -> Table:
    """Mean and half the range of the test mIoU, or of another column: methods by budgets."""
    budgets = budgets_of(rows)
    cells = []
    for variant in _variants(rows, "methods"):
        cells.append(
            (variant, *(mean_and_spread(values_of(rows, variant, budget, column)) for budget in budgets))
        )
    return Table(header=("method", *budgets), rows=tuple(cells))


def differences_table(rows: Sequence[Row]) -> Table:
    """By how many points of test mIoU the default is ahead of each other method, least and most over the seeds."""
    budgets = budgets_of(rows)
    cells = []
    for variant in _variants(rows, "methods"):
        if variant == DEFAULT:
            continue
        found = [paired(rows, DEFAULT, variant, budget) for budget in budgets]
        cells.append((variant, *(points(each) for each in found)))
    return Table(header=("joint ahead of", *budgets), rows=tuple(cells))


def group_table(rows: Sequence[Row], group: str) -> Table:
    """A group of variants beside the default at the smallest budget where it was run."""
    names = _variants(rows, group)
    if not names:
        raise ValueError(f"{group}: neither a table nor a group of which a trial is among the results.")
    budget = next(each for each in budgets_of(rows) if values_of(rows, names[0], each))
    cells = []
    for variant in dict.fromkeys((DEFAULT, *names)):
        if not values_of(rows, variant, budget):
            continue
        base = "uniform" if variant.startswith("uniform") else DEFAULT
        cells.append(
            (
                variant,
                mean_and_spread(values_of(rows, variant, budget, "val_miou_linear")),
                mean_and_spread(values_of(rows, variant, budget)),
                NOTHING if variant == base else points(paired(rows, variant, base, budget)),
                mean_and_spread(values_of(rows, variant, budget, CEILING), 2),
                mean_and_spread(values_of(rows, variant, budget, "test_tissue_share"), 2),
            )
        )
    header = (
        f"at {budget}",
        "val mIoU",
        "test mIoU",
        "against the default",
        "mIoU(Y', Y)",
        "share on tissue",
    )
    return Table(header=header, rows=tuple(cells))


def saved_table(rows: Sequence[Row]) -> Table:
    """How many times the samples uniform needs for the mIoU of the default, seed by seed."""
    cells = []
    for budget in budgets_of(rows):
        factors, beyond = [], 0
        for seed in _seeds(rows):
            curve = [
                (samples_of(each), value)
                for each in budgets_of(rows)
                for value in values_of(rows, "uniform", each, seed=seed)
            ]
            own = values_of(rows, DEFAULT, budget, seed=seed)
            if not own or len(curve) < 2:
                continue
            needed = samples_for(own[0], curve)
            if math.isinf(needed):
                beyond += 1
            else:
                factors.append(needed / samples_of(budget))
        most = max(samples_of(each) for each in budgets_of(rows)) / samples_of(budget)
        if not factors and not beyond:
            continue
        if beyond:
            text = f"over {most:.2g} in {beyond} of {beyond + len(factors)} seeds"
            text += f", else {min(factors):.2f} to {max(factors):.2f}" if factors else ""
        else:
            text = f"{statistics.mean(factors):.2f} ({min(factors):.2f} to {max(factors):.2f})"
        cells.append((budget, text))
    return Table(header=("joint with", "samples that uniform needs / its own"), rows=tuple(cells))


def time_table(rows: Sequence[Row], shorter: Sequence[Row]) -> Table:
    """The default trained for fewer epochs against uniform trained for more: CPU seconds, and what is between them.

    Args:
        rows: Where uniform comes from.
        shorter: Where the default comes from: trials of fewer epochs on the same slides.
    """
    budgets = [each for each in budgets_of(rows) if values_of(shorter, DEFAULT, each)]
    cells = []
    for name, found in ((DEFAULT, shorter), ("uniform", rows)):
        epochs = next(row["epochs"] for row in found if row["variant"] == name)
        seconds = [values_of(found, name, budget, "train_cpu_seconds") for budget in budgets]
        shown = (f"{statistics.mean(each):.0f}" for each in seconds)
        cells.append((f"{name}, {epochs} epochs, CPU s", *shown))
    own = [row for row in shorter if row["variant"] == DEFAULT]
    both = [*own, *(row for row in rows if row["variant"] == "uniform")]
    ahead = (points(paired(both, DEFAULT, "uniform", budget)) for budget in budgets)
    cells.append((f"{DEFAULT} ahead by", *ahead))
    return Table(header=("", *budgets), rows=tuple(cells))


def augmentation_table(rows: Sequence[Row]) -> Table:
    """Methods trained without augmentation by sampling, and how many points that is above training with it."""
    cells = []
    budgets = budgets_of(rows)
    for variant in dict.fromkeys(row["variant"] for row in rows):
        if not variant.endswith(WITHOUT_AUGMENTATION):
            continue
        method = variant.removesuffix(WITHOUT_AUGMENTATION).removesuffix(", ") or DEFAULT
        found = [
            (values_of(rows, variant, budget), paired(rows, variant, method, budget)) for budget in budgets
        ]
        shown = (f"{mean_and_spread(own)}: {points(gained)}" if own else NOTHING for own, gained in found)
        cells.append((method, *shown))
    return Table(header=("without it", *budgets), rows=tuple(cells))


def levels_table(rows: Sequence[Row]) -> Table:
    """The default and uniform by what a sample reads: test mIoU, what is gained over averages, and the default's lead.

    Args:
        rows: Trials whose samples average their cells, and those with another reading in their names.
    """
    cells = []
    for budget in budgets_of(rows):
        for reading, ending in ENDINGS.items():
            shown = []
            for method in (DEFAULT, "uniform"):
                values = values_of(rows, method + ending, budget)
                gained = paired(rows, method + ending, method, budget) if ending else []
                shown += [mean_and_spread(values) if values else NOTHING, points(gained)]
            for rival in ("uniform", "tissue mask"):
                shown.append(points(paired(rows, DEFAULT + ending, rival + ending, budget)))
            if any(each != NOTHING for each in shown):
                cells.append((budget, reading, *shown))
    header = ("budget", "a sample reads", "joint", "gained", "uniform", "gained")
    return Table(header=(*header, "joint ahead of uniform", "of tissue mask"), rows=tuple(cells))


def with_averages(rows: Sequence[Row], path: Path) -> Sequence[Row]:
    """Trials of a study beside those that average, methods with the reading of the default in their names; or as is."""
    if not path.is_file():
        return rows
    named = (
        {**row, "variant": f"{row['variant']}, {LIMIT}"} if row["group"] == "methods" else row for row in rows
    )
    return [*read_rows(path), *named]


def samples_for(wanted: float, curve: Sequence[tuple[int, float]]) -> float:
    """Samples at which a curve of (samples, mIoU) reaches a value; linear over the logarithm of the samples.

    Returns:
        Infinity where it never does; the least budget of the curve where it starts above.
    """
    ordered = sorted(curve)
    if wanted <= ordered[0][1]:
        return ordered[0][0]
    for (few, low), (many, high) in zip(ordered[:-1], ordered[1:], strict=True):
        if low < wanted <= high:
            part = (wanted - low) / (high - low)
            return float(few * (many / few) ** part)
    return math.inf


def values_of(
    rows: Sequence[Row], variant: str, budget: str, column: str = MEASURE, *, seed: str | None = None
) -> list[float]:
    """A column of the trials of a variant at a budget, in the order of the seeds."""
    return [
        float(row[column])
        for row in sorted(rows, key=lambda row: int(row["seed"]))
        if row["variant"] == variant and row["budget"] == budget and seed in (None, row["seed"])
    ]


def paired(rows: Sequence[Row], variant: str, base: str, budget: str) -> list[float]:
    """Differences of test mIoU, seed by seed, where both were run."""
    found = []
    for seed in _seeds(rows):
        own, other = (values_of(rows, name, budget, seed=seed) for name in (variant, base))
        if own and other:
            found.append(own[0] - other[0])
    return found


def points(differences: Sequence[float]) -> str:
    """``+3.1 (+2.0 to +4.5)`` in points of mIoU: mean, least and most."""
    if not differences:
        return NOTHING
    mean = f"{100 * statistics.mean(differences):+.1f}"
    if len(differences) == 1:
        return f"{mean} (1)"
    return f"{mean} ({100 * min(differences):+.1f} to {100 * max(differences):+.1f})"


def budgets_of(rows: Sequence[Row]) -> list[str]:
    """Budgets by their number of samples."""
    return sorted({row["budget"] for row in rows}, key=samples_of)


def samples_of(budget: str) -> int:
    """Samples of ``16x64``."""
    short, long = budget.split("x")
    return int(short) * int(long)


def _variants(rows: Sequence[Row], group: str) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in rows if row["group"] == group))


def _seeds(rows: Sequence[Row]) -> list[str]:
    return sorted({row["seed"] for row in rows}, key=int)


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Test mIoU against samples per field, one line per method with the range over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = (
        "#D55E00",
        "#222222",
        "#999999",
        "#56B4E9",
        "#0072B2",
        "#009E73",
        "#E69F00",
        "#CC79A7",
        "#8C6BB1",
    )
    budgets = budgets_of(rows)
    names = [
        name
        for name in _variants(rows, "methods")
        if all(values_of(rows, name, budget) for budget in budgets)
    ]
    for name, colour in zip(names, colours, strict=False):
        values = [values_of(rows, name, budget) for budget in budgets]
        samples = [samples_of(budget) for budget in budgets]
        axes.fill_between(
            samples, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.12, lw=0
        )
        width = 2.4 if name == DEFAULT else 1.2
        axes.plot(
            samples,
            [statistics.mean(v) for v in values],
            marker="o",
            ms=3,
            lw=width,
            color=colour,
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([samples_of(each) for each in budgets], [each.replace("x", " × ") for each in budgets])
    axes.minorticks_off()
    axes.set(xlabel="samples per field", ylabel="test mIoU, full resolution")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=100, format="png")


if __name__ == "__main__":
    sys.exit(main())
