"""Loader processes: several that read low-res views and class fractions while the networks work."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from wsi_deform.errors import TrainingError, WsiDeformError


class Source(Protocol):
    """What workers read from; pickled once for each of them."""

    def __getitem__(self, index: Any) -> Any:
        """Read one entry."""
        ...


class Workers:
    """Spawned processes that stay from epoch to epoch; they end with this object, or with the main process.

    Args:
        source: What they read from; must not hold this object.
        count: How many, 1 or more.

    Convention:
        Entries come in the order asked for, whatever the number of workers. Ctrl-C reaches the main process alone,
        which decides; workers only stop when it does.
    """

    def __init__(self, source: Source, count: int) -> None:
        self.count = count
        self._batches: list[list[Any]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Entries(source),
            batch_sampler=self._batches,
            num_workers=count,
            collate_fn=_as_read,
            worker_init_fn=_ignore_interrupts,
            multiprocessing_context="spawn",
            persistent_workers=True,
        )

    def read(self, batches: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
        """Read batches.

        Args:
            batches: Indices of each batch, or whatever else the source is asked for.

        Yields:
            The entries of each batch.

        Raises:
            WsiDeformError: What reading an entry raised in its worker, as if it had been read here.
            TrainingError: A worker was killed.
        """
        # The loader asks this very list anew in every epoch.
        self._batches[:] = [list(batch) for batch in batches]
        try:
            for read in self._loader:
                for entry in read:
                    if isinstance(entry, WsiDeformError):
                        raise entry
                yield read
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise TrainingError(
                f"a loader process was lost: {error}. Needed all {self.count} to go on; something killed it, most "
                "often for its memory. Lower training.workers, and run the same command again to go on."
            ) from error


class _Entries(Dataset[Any]):
    """Reads whole batches, and hands on what went wrong as an entry: torch would wrap it in a page of text."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        return [self._entry(index) for index in indices]

    def _entry(self, index: Any) -> Any:
        try:
            return self.source[index]
        except WsiDeformError as error:
            return error


def _as_read(entries: list[Any]) -> list[Any]:
    return entries


def _ignore_interrupts(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
