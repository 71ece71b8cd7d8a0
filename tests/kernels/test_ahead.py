"""Reading ahead, in order and by a bounded number."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from wsi_deform.kernels.ahead import ahead, ahead_in


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads: int):
    assert list(ahead(lambda item: item * item, range(50), threads=threads, max_waiting=4)) == [
        item * item for item in range(50)
    ]
    assert list(ahead(str, [], threads=threads, max_waiting=4)) == []
    assert list(ahead(str, [7], threads=threads, max_waiting=4)) == ["7"]


@pytest.mark.parametrize("max_waiting", [1, 2, 5])
def test_no_more_items_are_taken_than_may_wait(max_waiting: int):
    taken = []
    results = ahead(
        str, (taken.append(item) or item for item in range(50)), threads=1, max_waiting=max_waiting
    )
    assert taken == []
    for number in range(3):
        assert next(results) == str(number)
        assert len(taken) == max_waiting + number
    results.close()


def test_what_is_still_waiting_is_cancelled_where_the_caller_stops():
    begun, go_on = [], threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            go_on.wait(10)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = ahead_in(pool, work, range(50), max_waiting=8)
        assert next(results) == 0
        results.close()
        go_on.set()
    # The one thread was at item 1 at most when the others, taken already, were cancelled.
    assert set(begun) <= {0, 1}


def test_an_error_comes_out_where_its_result_would():
    results = ahead(lambda item: 1 // (2 - item), range(9), threads=2, max_waiting=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
