"""Work by several threads, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from wsi_deform.kernels.ordered import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int):
    assert list(map_in_order(lambda item: item * item, range(1000), threads)) == [i * i for i in range(1000)]
    assert list(map_in_order(str, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_work_on_work_is_done_in_one_go_in_one_thread(threads: int):
    def first(item: int) -> tuple[int, int]:
        return item, threading.get_ident()

    def second(result: tuple[int, int]) -> int:
        assert result[1] == threading.get_ident()
        return -result[0]

    assert list(map_in_order(second, map_in_order(first, range(500), 1), threads)) == [-i for i in range(500)]
    assert list(map_in_order(second, map_in_order(first, range(500), threads), 1)) == [-i for i in range(500)]


def test_items_are_read_a_bounded_number_ahead():
    read = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            read.append(item)
            yield item

    results = map_in_order(lambda item: item, items(), 2)
    for _ in range(10):
        next(results)
    # Six batches of 8, three for each thread, are ahead of the one of which the results come, the second.
    assert len(read) == 64


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_out_where_its_result_would(threads: int):
    def failing(item: int) -> int:
        if item == 40:
            raise ValueError("forty")
        return item

    results = map_in_order(failing, range(100), threads)
    assert [next(results) for _ in range(40 if threads == 1 else 8)][:8] == list(range(8))
    with pytest.raises(ValueError, match="forty"):
        list(results)
