"""What people see while a model trains: a progress bar, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.cli.build_bars import build_bars

if TYPE_CHECKING:
    from rich.console import Console

RECENT_STEPS = 50
SECONDS_BETWEEN_LINES = 60.0


class TrainingBars:
    """Loss, validation mIoU, samples per second and the time left; a context manager and a ``train.watcher.Watcher``.

    Args:
        console: Where to. In a terminal a bar moves. Elsewhere (a log file, a batch job) each validated epoch gets a
            line, and where none is validated for a minute, another epoch does.
        title: What is trained.
    """

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
        self.phase = ""
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=2,
            disable=not console.is_interactive,
        )
        self._shown = ExitStack()
        self.task: Any = None
        self.pace = Pace(epochs=1, steps=1, samples=0, done=0)
        self.losses: deque[float] = deque(maxlen=RECENT_STEPS)
        self.score = ""
        self.said = 0.0

    def __enter__(self) -> TrainingBars:
        self._shown.enter_context(self.progress)
        self._shown.enter_context(build_bars(self.progress))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def start(
        self, *, epochs: int, steps: int, fields: int, samples: int, resumed_at: int, phase: str = ""
    ) -> None:
        """Show the bar, or a first line."""
        self.phase = phase
        self.pace = Pace(epochs=epochs, steps=steps, samples=samples, done=resumed_at)
        self.task = self.progress.add_task(
            f"{self._named()} ({fields} fields)", total=epochs * steps, completed=resumed_at * steps, shown=""
        )
        self.said = time.monotonic()
        if self.progress.disable:
            again = f", from epoch {resumed_at + 1}" if resumed_at else ""
            self._say(f"{epochs} epochs of {steps} steps, {fields} fields{again}")

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """Move the bar."""
        self.losses.append(loss)
        self.pace.step()
        parts = [f"loss {sum(self.losses) / len(self.losses):.3f}"]
        parts += [self.score] if self.score else []
        parts += [f"{self.pace.samples_per_second:,.0f} samples/s"] if self.pace.samples_per_second else []
        self.progress.update(self.task, completed=epoch * self.pace.steps + step, shown=", ".join(parts))

    def epoch(self, row: dict[str, Any]) -> None:
        """Show the newest validation."""
        self.pace.epoch()
        over = MeanClasses.from_data(row.get("miou_classes"))
        said = "" if over is None else over.text()
        validated = "val_miou" in row or bool(said)
        if validated:
            parts = ["val mIoU", f"{row['val_miou']:.3f}" if "val_miou" in row else "", said]
            self.score = " ".join(part for part in parts if part)
        now, last = time.monotonic(), row["epoch"] == self.pace.epochs
        if self.progress.disable and (validated or last or now - self.said >= SECONDS_BETWEEN_LINES):
            self.said = now
            parts = [f"epoch {row['epoch']}/{self.pace.epochs}", f"loss {row['loss']:.4f}"]
            parts += [self.score] if validated else []
            parts += [f"{row['samples_per_second']:,.0f} samples/s"] if "samples_per_second" in row else []
            parts += [] if last else [f"ETA {clock(self.pace.seconds_left(row['epoch']))}"]
            self._say(", ".join(parts))

    def _say(self, text: str) -> None:
        self.console.print(f"{self._named()}: {text}", soft_wrap=True)

    def _named(self) -> str:
        return f"{self.title}, {self.phase}" if self.phase else self.title


class Pace:
    """How fast steps and epochs go.

    Args:
        epochs: In all.
        steps: Of an epoch.
        samples: Of an epoch.
        done: Epochs that were done before.

    Attributes:
        samples_per_second: Over the newest steps, without validation; 0 before it is known.
    """

    def __init__(self, *, epochs: int, steps: int, samples: int, done: int) -> None:
        self.epochs, self.steps, self.samples, self.done = epochs, steps, samples, done
        self.samples_per_second = 0.0
        self.began = time.monotonic()
        self.recent: deque[float] = deque(maxlen=RECENT_STEPS)

    def step(self) -> None:
        """A step is done."""
        self.recent.append(time.monotonic())
        passed = self.recent[-1] - self.recent[0]
        if passed > 0:
            self.samples_per_second = (len(self.recent) - 1) * self.samples / self.steps / passed

    def epoch(self) -> None:
        """An epoch and what followed it is done; the next step's time is not measured from here."""
        self.recent.clear()

    def seconds_left(self, epoch: int) -> float:
        """From the end of an epoch to that of the last, as fast as since the start, validation included."""
        return (time.monotonic() - self.began) / max(1, epoch - self.done) * (self.epochs - epoch)


def clock(seconds: float) -> str:
    """A time as ``H:MM:SS``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
