"""A function on many items at a time: order, laziness, and errors."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from fti_qdrant.parallel_map import parallel_map


def test_results_are_in_order_and_several_are_made_at_a_time() -> None:
    barrier = threading.Barrier(2, timeout=30)  # two items wait for each other
    found = parallel_map(lambda n: (barrier.wait() < 2, n), range(10))
    assert list(found) == [(True, n) for n in range(10)]


def test_a_result_comes_before_the_last_item_is_done() -> None:
    first_used = threading.Event()
    results = parallel_map(lambda n: n or first_used.wait(30), [1, 2, 0])
    assert next(results) == 1
    first_used.set()
    assert list(results) == [2, True]


def test_an_error_is_raised_at_its_place_and_drops_what_has_not_begun() -> None:
    begun = count()

    def refuse(n: int) -> int:
        next(begun)
        if n == 3:
            raise ValueError(n)
        return n

    results = parallel_map(refuse, range(1_000_000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
    assert next(begun) < 1_000_000


def test_a_caller_that_stops_waits_for_what_has_begun_and_for_no_more() -> None:
    begun, ended = set(), set()

    def work(n: int) -> None:
        begun.add(n)
        threading.Event().wait(0.01)
        ended.add(n)

    results = parallel_map(work, range(10_000))
    next(results)
    results.close()
    assert begun == ended
    assert len(ended) < 10_000
