"""What people see while slides are segmented: bars of slides and fields, and a line for each slide."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from wsi_deform.cli.build_bars import build_bars, counting_columns
from wsi_deform.cli.console import TALK, plain_console

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_deform.distribute.outcome import Outcome

# Slides of the last hours say how long the next ones will take.
PERIOD_S = 24 * 3600.0


class SegmentBars:
    """Progress bars of a batch; a context manager and a ``distribute.outcome.Watcher``.

    Args:
        console: Where lines go; bars too where it is a terminal. Where it is quiet, what failed is said on stderr.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress, TextColumn, TimeRemainingColumn

        self.console = console
        self.progress = Progress(
            *counting_columns(),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=2,
            # rich's own forgets what is older than 30 s, so that slides that take longer would have no ETA.
            speed_estimate_period=PERIOD_S,
            disable=not console.is_interactive,
        )
        self._shown = ExitStack()
        self.slides: Any = None
        self.fields: Any = None

    def __enter__(self) -> SegmentBars:
        self._shown.enter_context(self.progress)
        self._shown.enter_context(build_bars(self.progress))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def start(self, *, slides: int) -> None:
        """Show the bar of the slides."""
        self.slides = self.progress.add_task("slides", total=slides)

    def slide(self, slide_id: str) -> None:
        """Show the bar of a slide's fields."""
        self._drop_fields()
        self.fields = self.progress.add_task(f"{slide_id}: fields", total=None)

    def started(self, slide_id: str) -> None:
        """Show nothing: what workers do has no bar of its own."""

    def field(self, done: int, total: int) -> None:
        """Move the bar of the fields."""
        self.progress.update(self.fields, completed=done, total=total)

    def outcome(self, outcome: Outcome) -> None:
        """Say how a slide went and move the bar of the slides."""
        self._drop_fields()
        self.progress.advance(self.slides)
        state = outcome.state
        line = f"{outcome.slide_id}: {outcome.status}"
        if outcome.status == "done":
            seen = f"{state.samples} samples" if state.method != "patches" else f"{state.fields} patches"
            line += f", {state.seconds:.1f} s, {seen}, {state.tiles} tiles read"
        if outcome.reason:
            line += f", {outcome.reason}"
        style = "red" if outcome.status == "failed" else ""
        self.console.print(line, style=style, soft_wrap=True)
        if TALK.quiet and outcome.status == "failed":
            plain_console(stderr=True).print(line, style=style, soft_wrap=True)

    def _drop_fields(self) -> None:
        if self.fields is not None:
            self.progress.remove_task(self.fields)
            self.fields = None
