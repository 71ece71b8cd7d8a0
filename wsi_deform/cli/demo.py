"""`wsi-deform demo`: the main job on slides that it draws itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.interrupts import stop_on_signals
from wsi_deform.cli.options import device_option
from wsi_deform.cli.segment_bars import SegmentBars
from wsi_deform.cli.training_bars import TrainingBars

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_deform.side_by_side import SideBySide

EXAMPLES = (
    "wsi-deform demo",
    "wsi-deform demo --seed 1 --out demo-1",
    "wsi-deform demo --no-blocks",
)


def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for slides, runs, masks and report.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(metavar="N", help="Decides the slides and the training.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Over all configurations; may be given several times."
        ),
    ] = None,
    blocks: Annotated[
        bool | None,
        typer.Option(
            "--blocks/--no-blocks",
            help="Train blocks too, which read 4 times the pixels and need the extra pretrained; default: where it is "
            "installed.",
        ),
    ] = None,
    device: Annotated[str | None, device_option(help="auto, cpu, cuda, cuda:1 or mps; default: cpu.")] = None,
) -> None:
    """Draw slides, train uniform, joint and blocks, segment, evaluate, report: minutes on 2 cores."""
    from wsi_deform.demo import run_demo

    if device is not None:
        changes = [*(changes or ()), f"device={device}"]
    console = plain_console()
    started = time.monotonic()
    with stop_on_signals() as stop:
        result = run_demo(
            out, seed=seed, changes=changes or (), blocks=blocks, watcher=DemoBars(console), stop=stop
        )
    show_side_by_side(console, result)
    if not result.finished:
        raise typer.Exit(stop.exit_code)
    console.print(f"{time.monotonic() - started:.0f} s. Open {result.page} in a browser.", soft_wrap=True)


def show_side_by_side(console: Console, result: SideBySide) -> None:
    """Print the measures of each method, or that it goes on."""
    from rich.table import Table

    from wsi_deform.evaluate.tables import mean_notes
    from wsi_deform.report.measured import CEILING, MIOU, WITHOUT, measures
    from wsi_deform.report.tables import number

    if not result.finished:
        kept = result.page.parent
        console.print(f"Stopped; {kept} keeps what is done. The same command goes on.", soft_wrap=True)
        return
    columns = (MIOU, WITHOUT, CEILING)
    table = Table("method", *columns)
    for method, evaluation in result.evaluations.items():
        values = measures(evaluation)
        table.add_row(method, *(number(values[name]) for name in columns))
    console.print(table)
    for method, evaluation in result.evaluations.items():
        for note in mean_notes(evaluation):
            console.print(f"{method}: {note}", markup=False, highlight=False, soft_wrap=True)


class DemoBars:
    """Progress bars for each part of the demo; a ``demo.Watcher``."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def drawing(self, slides: int) -> Iterator[Callable[[str], None]]:
        """A bar of the slides that are drawn."""
        from rich.progress import Progress

        hidden = not self.console.is_interactive
        with Progress(console=self.console, refresh_per_second=2, disable=hidden) as progress:
            task = progress.add_task("drawing slides", total=slides)
            yield lambda slide_id: progress.advance(task)

    def leaves_out(self, method: str, reason: str) -> None:
        """Say in a line what is missing, and what to install."""
        self.console.print(f"Without {method}: {reason}", markup=False, highlight=False, soft_wrap=True)

    def training(self, method: str) -> AbstractContextManager[TrainingBars]:
        """A bar of the training steps."""
        return TrainingBars(self.console, title=f"training {method}")

    def segmenting(self, method: str) -> AbstractContextManager[SegmentBars]:
        """A bar of the slides that are segmented."""
        self.console.print(f"segmenting with {method}")
        return SegmentBars(self.console)
