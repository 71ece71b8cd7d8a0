"""Work done by several threads, handed on in the order in which it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD_PER_THREAD = 16


def map_in_order(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    *,
    heavy: Callable[[_Item], bool] = lambda item: True,
) -> Iterator[_Result]:
    """Apply a function to items as they come, by several threads, a bounded number of items ahead.

    Args:
        function: Called once per item; it should release the GIL to gain from threads.
        items: Read lazily, by the calling thread.
        threads: Number of threads; 1 calls the function here, with no pool at all.
        heavy: Says which items are worth handing to a thread; the others are done here.

    Yields:
        The results, in the order of the items whatever the number of threads.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    waiting: deque[Callable[[], _Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item).result if heavy(item) else partial(function, item))
            if len(waiting) > _AHEAD_PER_THREAD * threads:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)
