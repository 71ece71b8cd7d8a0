"""`wsi-deform train`: from labelled slides to a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.build_bars import build_bars, passing_bars
from wsi_deform.cli.console import plain_console
from wsi_deform.cli.interrupts import stop_on_signals
from wsi_deform.cli.options import Changes, Classes, Config, device_option
from wsi_deform.cli.training_bars import TrainingBars
from wsi_deform.config_files import DEFAULT

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_deform.annotation.classes import ClassTable
    from wsi_deform.manifest.rows import Manifest


EXAMPLES = (
    "wsi-deform train --slides manifest.csv --out run",
    "wsi-deform train --slides manifest.csv --out run-2 --config uniform --seed 1",
    "wsi-deform train --slides manifest.csv --set blocks.finest_um=2.5",
    "wsi-deform train --slides manifest.csv --config joint --out joint",
    "wsi-deform train --slides manifest.csv --out tuned --init-from run",
    "torchrun --nproc-per-node 4 -m wsi_deform train --slides manifest.csv",
)


def train(
    slides: Annotated[
        Path, typer.Option(metavar="MANIFEST", help="Manifest CSV with slides, masks and splits.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Run folder; training goes on where it stopped.")
    ] = Path("run"),
    config: Config = None,
    changes: Changes = None,
    classes: Classes = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same as --set seed=N; default: as the configuration says (0)."),
    ] = None,
    device: Annotated[
        str | None,
        device_option(help="auto, cpu, cuda, cuda:1 or mps; default: as the configuration says (auto)."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Fine-tune: start from the weights of this run or model file, as far as they fit.",
        ),
    ] = None,
    allow_empty_classes: Annotated[
        bool, typer.Option("--allow-empty-classes", help="Train although a class has no labelled pixel.")
    ] = False,
) -> None:
    """Train a model on labelled slides. Ctrl-C keeps a checkpoint; the same command goes on from it.

    Without --config tissue is read whole at 5 um per px, by a pretrained encoder; --config joint is the paper's way.

    A finished run goes on with --set training.epochs=N, more than it had.

    Several processes: torchrun --nproc-per-node N -m wsi_deform train ...; each takes training.batch fields of a step.
    """
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.config import find_config, read_config
    from wsi_deform.manifest.read import read_manifest
    from wsi_deform.train.loop import train as run_training
    from wsi_deform.train.start import refuse_missing_weights

    # Under torchrun every process comes here; what they have in common is said once.
    first = int(os.environ.get("RANK") or 0) == 0
    console = plain_console(quiet=not first)
    read = read_manifest(slides)
    table = find_class_table(read, classes)
    chosen = [] if device is None else [f"device={device}"]
    chosen += [] if seed is None else [f"seed={seed}"]
    settings = read_config(
        find_config(DEFAULT if config is None else config), changes=[*(changes or ()), *chosen]
    )
    refuse_missing_weights(settings)
    # One process counts the labels; the others wait for it where they meet.
    refuse_problems(slides, read, table, scan=first, allow_empty_classes=allow_empty_classes, console=console)
    with stop_on_signals() as stop, TrainingBars(console) as bars:
        result = run_training(
            settings,
            read,
            table,
            out,
            watcher=bars,
            stop=stop,
            init_from=init_from,
            on_remark=lambda said: console.print(f"{out}: {said}", soft_wrap=True),
        )
    if not result.finished:
        console.print(
            f"Stopped in epoch {result.epochs + 1}; {out} holds a checkpoint. The same command goes on.",
            soft_wrap=True,
        )
        raise typer.Exit(stop.exit_code)
    over = "" if result.miou_classes is None else result.miou_classes.text()
    best = f"validation mIoU {over}" if over else "no validation slides"
    if result.best is not None:
        best = f"best validation mIoU {result.best:.3f}{over and ' ' + over} in epoch {result.best_epoch}"
    early = f"; stopped early: training.patience={settings.training.patience}" if result.stopped_early else ""
    console.print(f"{out}: {result.epochs} epochs, {best}{early}.", markup=False, soft_wrap=True)


def refuse_problems(
    slides: Path,
    manifest: Manifest,
    classes: ClassTable,
    *,
    scan: bool,
    allow_empty_classes: bool,
    console: Console,
) -> None:
    """Look for what would make training fail or mean nothing, and say what is worth knowing.

    Args:
        slides: The manifest's path.
        manifest: What it says.
        classes: The class table.
        scan: Whether the pixels of the label masks are counted.
        allow_empty_classes: Whether classes without pixels are no problem.
        console: Shows progress and remarks.

    Raises:
        ManifestError: There are problems; the message lists all.
    """
    from wsi_deform.annotation.check import check_manifest
    from wsi_deform.errors import ManifestError
    from wsi_deform.manifest.problems import problem_text

    remarks: list[str] = []
    with passing_bars(console) as progress, build_bars(progress):
        bar = progress.add_task("slides and labels", total=len(manifest.rows))
        problems = check_manifest(
            manifest,
            classes,
            for_training=True,
            scan=scan,
            allow_empty_classes=allow_empty_classes,
            on_row=lambda row: progress.advance(bar),
            on_remark=remarks.append,
        )
    if problems:
        raise ManifestError(problem_text(f"manifest {slides}", problems))
    for remark in remarks:
        console.print(f"warning: {remark}.", markup=False, highlight=False, soft_wrap=True)
