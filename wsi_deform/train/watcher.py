"""Who is told how training goes."""

from __future__ import annotations

from typing import Any, Protocol


class Watcher(Protocol):
    """Who is told how training goes; the command line draws progress bars with it."""

    def start(
        self, *, epochs: int, steps: int, fields: int, samples: int, resumed_at: int, phase: str = ""
    ) -> None:
        """Training starts.

        Args:
            epochs: In all.
            steps: Of an epoch.
            fields: Training fields.
            samples: Samples of an epoch.
            resumed_at: Epochs that are done.
            phase: What is trained, where that comes before the training itself, which then starts once more.
        """
        ...

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """A step is done."""
        ...

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; the row is what the log holds of it."""
        ...


class NullWatcher:
    """Watches nothing."""

    def start(
        self, *, epochs: int, steps: int, fields: int, samples: int, resumed_at: int, phase: str = ""
    ) -> None:
        """Ignore."""

    def step(self, *, epoch: int, step: int, loss: float) -> None:
        """Ignore."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Ignore."""
