"""Work done by several threads, handed on in the order in which it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Further = TypeVar("_Further")

_BATCH = 8
"""Items handed to a thread at once: handing over costs about as much as rendering a tile."""

_BATCHES_AHEAD_PER_THREAD = 3


class MapInOrder(Iterator[_Result], Generic[_Item, _Result]):
    """A function applied to items as they come, by several threads, a bounded number of items ahead.

    Args:
        function: Called once per item; it should release the GIL to gain from threads.
        items: Read lazily, by the thread that asks for results.
        threads: Number of threads; 1 calls the function there, with no pool at all.

    Convention:
        Yields the results in the order of the items, whatever the number of threads.
    """

    def __init__(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = 1
    ) -> None:
        self._function = function
        self._items = items
        self._threads = threads
        self._results: Iterator[_Result] | None = None

    def then(self, function: Callable[[_Result], _Further], threads: int) -> MapInOrder[_Item, _Further]:
        """Do more with each result in the same thread, right after; for work of which no result was taken yet.

        What the first function made need not wait for the second, and leaves no thread's cache between them.

        Args:
            function: Called once per result.
            threads: Number of threads; the larger number of both holds.
        """
        first = self._function
        return MapInOrder(lambda item: function(first(item)), self._items, max(threads, self._threads))

    def __next__(self) -> _Result:
        """The next result."""
        if self._results is None:
            self._results = self._by_threads() if self._threads > 1 else map(self._function, self._items)
        return next(self._results)

    def _by_threads(self) -> Iterator[_Result]:
        items, waiting = iter(self._items), deque[Future[list[_Result]]]()
        pool = ThreadPoolExecutor(self._threads)
        try:
            while batch := list(islice(items, _BATCH)):
                waiting.append(pool.submit(self._all, batch))
                if len(waiting) > _BATCHES_AHEAD_PER_THREAD * self._threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _all(self, batch: list[_Item]) -> list[_Result]:
        return [self._function(item) for item in batch]


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[_Result]:
    """Apply a function to items; where they are themselves such work, both are done in one go (see ``then``)."""
    if isinstance(items, MapInOrder):
        return items.then(function, threads)
    return MapInOrder(function, items, threads)
