"""Bars of the coarse levels that are built when a large slide without them is first read."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn


@contextmanager
def build_bars(progress: Progress) -> Iterator[None]:
    """Show a bar for each slide whose coarse levels are built meanwhile in this process; it goes when they are there.

    Args:
        progress: Where; must be started. It needs no column of its own: counts are rows of tiles.
    """
    from wsi_deform.slide.levels.build_progress import set_build_progress

    tasks: dict[str, Any] = {}
    lock = threading.Lock()

    def show(name: str, done: int, total: int) -> None:
        with lock:
            if name not in tasks and done < total:
                file_name = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
                tasks[name] = progress.add_task(f"{file_name}: coarse levels", total=total, shown="")
            if name in tasks:
                progress.update(tasks[name], completed=done)
                if done >= total:
                    progress.remove_task(tasks.pop(name))

    set_build_progress(show)
    try:
        yield
    finally:
        set_build_progress(None)


@contextmanager
def only_build_bars(console: Console) -> Iterator[None]:
    """The same where nothing else has a bar; nothing where there is no terminal."""
    with passing_bars(console) as progress, build_bars(progress):
        yield


def passing_bars(console: Console) -> Progress:
    """Bars that go when the work is done; none where there is no terminal."""
    from rich.progress import Progress

    hidden = not console.is_interactive
    return Progress(
        *counting_columns(), console=console, refresh_per_second=2, transient=True, disable=hidden
    )


def counting_columns() -> tuple[ProgressColumn, ...]:
    """What each bar shows: its name as it is, how many of how many, and the time."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
