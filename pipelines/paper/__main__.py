"""The studies of the paper: ``python -m pipelines.paper STUDY --data NAME=MANIFEST.csv ... --out OUT``.

STUDY is figure3, figure4_5, figure6, figure9, figure13, figure14, tables2_to_5, table6, claims or all. Trials run in
processes of one thread; one that is recorded in --records (default: results/ beside this file) is not run again, and
one that was stopped goes on. Tables and figures are made of what is recorded. ``--quick`` draws small slides and
trains a few steps: it shows that everything runs, its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.paper.binary import binary_tables
from pipelines.paper.datasets import QUICK
from pipelines.paper.grid import RESULTS, Grid, records_of
from pipelines.paper.show import show
from pipelines.paper.studies import STUDIES, Scope
from pipelines.paper.trial import NETWORKS, budget_of
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size

QUICK_SLIDE = Size(256, 128)
TINY = "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run studies; returns the exit code, 1 where a trial failed."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="+", choices=[*STUDIES, "all"], metavar="STUDY")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=MANIFEST", type=_named)
    parser.add_argument("--out", type=Path, default=Path("paper"), help="runs and masks of trials under way")
    parser.add_argument("--records", type=Path, help=f"default: {RESULTS.name}/ beside this file")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--budgets", nargs="+", type=_budget, help="e.g. 32x43; default: the data set's")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SYSTEM", help="only trials of these systems"
    )
    parser.add_argument("--network", choices=NETWORKS, default="dynunet")
    parser.add_argument("--steps", type=int, help="of every training; default: the data set's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", dest="changes", action="append", default=[], help="key=value for all trials")
    parser.add_argument("--keep", action="store_true", help="keep runs and masks, for pictures")
    parser.add_argument(
        "--show", action="store_true", help="only make tables and figures of what is recorded"
    )
    parser.add_argument("--quick", action="store_true", help="small drawn slides, a few steps")
    given = parser.parse_args(arguments)
    manifests: dict[str, Path] = dict(given.data)
    if given.quick:
        manifests = {QUICK.name: quick_slides(given.out)}
        given.changes.append(TINY)
    recorded = given.records or (given.out / "records" if given.quick else RESULTS)
    names = tuple(manifests) or recorded_data(recorded)
    scope = Scope(
        data=names,
        seeds=tuple(given.seeds),
        budgets=None if given.budgets is None else tuple(given.budgets),
        network=given.network,
        classes={name: _foreground(path) for name, path in manifests.items()},
    )
    grid = Grid(
        manifests=manifests,
        out=given.out,
        records=recorded,
        jobs=given.jobs,
        steps=given.steps,
        settings=tuple(given.changes),
        keep=given.keep,
        in_process=given.quick,
    )
    if given.quick:
        scope = dataclasses.replace(scope, most=2, classes={QUICK.name: scope.classes[QUICK.name][:1]})
    failed = 0
    for name in STUDIES if "all" in given.studies else given.studies:
        print(f"{name}: {STUDIES[name].about}", flush=True)
        trials = [
            trial for trial in STUDIES[name].trials(scope) if not given.only or trial.system in given.only
        ]
        if not given.show:
            failed += len(grid.run(trials, binary_tables(trials, manifests, given.out)))
        for path in show(name, records_of(recorded, trials), scope, recorded / name):
            print(path, flush=True)
    return int(failed > 0)


def recorded_data(records: Path) -> tuple[str, ...]:
    """The data sets that have a record; pages of studies lie beside them."""
    return tuple(sorted({path.parent.name for path in records.glob("*/*_seed*.json")}))


def quick_slides(out: Path) -> Path:
    """The manifest of a few small drawn slides."""
    folder = out / "slides"
    if not (folder / "manifest.csv").is_file():
        draw_study(folder, train=2, val=1, test=5, size=QUICK_SLIDE, slides_per_patient=1)
    return folder / "manifest.csv"


def _foreground(manifest: Path) -> tuple[str, ...]:
    classes = read_class_table(manifest.parent / "classes.yaml")
    return tuple(name for number, name in enumerate(classes.names) if number != classes.background)


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text}: needed NAME=MANIFEST.csv, and that file.")
    return name, Path(path)


def _budget(text: str) -> tuple[int, int]:
    try:
        return budget_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: needed SHORTxLONG, such as 32x43.") from error


if __name__ == "__main__":
    sys.exit(main())
