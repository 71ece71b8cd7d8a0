"""Who is told how far the coarse levels of a slide are built; nothing that is slow is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

BuildProgress = Callable[[str, int, int], None]
_progress: BuildProgress | None = None


def set_build_progress(hook: BuildProgress | None) -> None:
    """Have a function called while coarse levels of large slides are built in this process.

    Args:
        hook: Given the slide's name, rows of tiles done and rows of tiles in all, from any thread; None for
            no calls. All are done in the last call of a build, also of one that fails.
    """
    global _progress
    _progress = hook


def tell_build_progress(name: str, done: int, total: int) -> None:
    """Tell how a build goes that another process makes for this one; see ``set_build_progress``."""
    if _progress is not None:
        _progress(name, done, total)


@contextmanager
def build_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Tell how a build goes; gives what to call after each row of tiles of the slide."""
    told = (0, 0)

    def on_row(done: int, total: int) -> None:
        nonlocal told
        told = (done, total)
        tell_build_progress(name, done, total)

    try:
        yield on_row
    finally:
        done, total = told
        if done < total:
            on_row(total, total)
