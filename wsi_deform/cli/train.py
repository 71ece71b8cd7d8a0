"""`wsi-deform train`: from labelled slides to a model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.training_bars import TrainingBars

INTERRUPTED = 130


def train(
    slides: Annotated[Path, typer.Option(help="Manifest CSV with slides, masks and splits.")],
    out: Annotated[Path, typer.Option(help="Run folder; training goes on where it stopped.")] = Path("run"),
    config: Annotated[
        str | None,
        typer.Option(help="YAML file, or a packaged configuration: joint (the default), uniform, ..."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class table (YAML or JSON); default: classes.yaml beside the manifest."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:1, mps; default: as the configuration says (auto)."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the configuration, e.g. seed=1.")
    ] = None,
) -> None:
    """Train a model on labelled slides. Ctrl-C keeps a checkpoint; the same command goes on from it.

    Several processes: torchrun --nproc-per-node N -m wsi_deform train ...; each takes training.batch fields of a step.
    """
    from wsi_deform.annotation.check import check_manifest
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.config import find_config, read_config
    from wsi_deform.errors import ManifestError
    from wsi_deform.manifest.read import read_manifest
    from wsi_deform.manifest.rows import problem_text
    from wsi_deform.train.loop import train as run_training

    # Under torchrun every process comes here; what they have in common is said once.
    console = plain_console(quiet=int(os.environ.get("RANK") or 0) > 0)
    read = read_manifest(slides)
    table = find_class_table(read, classes)
    chosen = [] if device is None else [f"device={device}"]
    found = None if config is None else find_config(config)
    settings = read_config(found, changes=[*(changes or ()), *chosen])
    if problems := check_manifest(read, table, for_training=True, scan=False):
        raise ManifestError(problem_text(f"manifest {slides}", problems))
    with stop_on_interrupt() as stop, TrainingBars(console) as bars:
        result = run_training(settings, read, table, out, watcher=bars, stop=stop)
    if not result.finished:
        console.print(
            f"Stopped in epoch {result.epochs + 1}; {out} holds a checkpoint. The same command goes on.",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)
    best = "no validation slides"
    if result.best is not None:
        best = f"best validation mIoU {result.best:.3f} in epoch {result.best_epoch}"
    early = f"; stopped early: training.patience={settings.training.patience}" if result.stopped_early else ""
    console.print(f"{out}: {result.epochs} epochs, {best}{early}.", soft_wrap=True)


@contextmanager
def stop_on_interrupt() -> Iterator[Any]:
    """Turn the first Ctrl-C into a polite request; a second one interrupts at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
