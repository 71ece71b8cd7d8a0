"""`wsi-deform train`: from labelled slides to a model."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130


def train(
    slides: Annotated[Path, typer.Option(help="Manifest CSV with slides, masks and splits.")],
    out: Annotated[Path, typer.Option(help="Run folder; training goes on where it stopped.")] = Path("run"),
    config: Annotated[
        Path | None, typer.Option(help="Configuration YAML; default: configs/joint.yaml.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class table (YAML or JSON); default: classes.yaml beside the manifest."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the configuration, e.g. seed=1.")
    ] = None,
) -> None:
    """Train a model on labelled slides. Ctrl-C keeps a checkpoint; the same command goes on from it."""
    from rich.console import Console

    from wsi_deform.annotation.check import check_manifest
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.config import read_config
    from wsi_deform.errors import ManifestError
    from wsi_deform.manifest import problem_text, read_manifest
    from wsi_deform.train.loop import train as run_training

    console = Console()
    read = read_manifest(slides)
    table = find_class_table(read, classes)
    settings = read_config(config, changes=changes or ())
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
    best = "no validation slides" if result.best is None else f"best validation mIoU {result.best:.3f}"
    console.print(f"{out}: {result.epochs} epochs, {best}.", soft_wrap=True)


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


class TrainingBars:
    """Progress bars of a training; a context manager and a ``train.watcher.Watcher``."""

    def __init__(self, console: Console, title: str = "training") -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.title = title
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )
        self.task: Any = None
        self.steps = 0
        self.losses: list[float] = []
        self.score = ""

    def __enter__(self) -> TrainingBars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start(self, *, epochs: int, steps: int, fields: int, resumed_at: int) -> None:
        """Show the bar."""
        self.steps = steps
        self.task = self.progress.add_task(
            f"{self.title} ({fields} fields)", total=epochs * steps, completed=resumed_at * steps, shown=""
        )

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """Move the bar."""
        self.losses = [*self.losses[-49:], loss]
        shown = f"loss {sum(self.losses) / len(self.losses):.3f}{self.score}"
        self.progress.update(self.task, completed=epoch * self.steps + step, shown=shown)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the newest validation."""
        if "val_miou" in row:
            self.score = f", val mIoU {row['val_miou']:.3f}"
