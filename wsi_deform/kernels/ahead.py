"""Reading ahead: results in order, with a bounded number of reads on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, max_waiting: int
) -> Iterator[_Result]:
    """Apply a function to items in threads while the caller works on earlier results.

    Args:
        function: Called once per item.
        items: Taken as they are needed, by the calling thread.
        threads: Number of threads.
        max_waiting: Results that may be on the way or done and not yet taken.

    Yields:
        The results in the order of the items.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        yield from ahead_in(pool, function, items, max_waiting=max_waiting)


def ahead_in(
    pool: Executor, function: Callable[[_Item], _Result], items: Iterable[_Item], *, max_waiting: int
) -> Iterator[_Result]:
    """``ahead`` in a pool that exists; what is still waiting is cancelled where the caller stops early."""
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= max_waiting:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
