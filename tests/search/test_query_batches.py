"""The batcher alone, over a function that shows what it was given."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti_qdrant.errors import BadQuery, GalleryUnavailable, Overloaded
from fti_qdrant.query_batches import BatchLimits, QueryBatches

SOON = 5.0
"""Seconds; the longest that a test waits for what should come at once."""


class Squares:
    """Squares numbers, slowly where it is told to; refuses negative ones; keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def __call__(self, numbers: list[int]) -> list[int]:
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.gate.wait(SOON)
        self.batches.append(list(numbers))
        for number in numbers:
            if number < 0:
                raise BadQuery(f"{number} is negative")
        return [number * number for number in numbers]


class Seen:
    """An observer."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.stages: list[str] = []
        self.refusals = 0

    def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((queries, waiting))

    def stage_done(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)

    def refused(self) -> None:
        self.refusals += 1


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def batches(squares: Squares) -> Iterator[QueryBatches[int, int]]:
    made: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(4, 8, 0.0))
    yield made
    squares.gate.set()
    made.close()


def held(squares: Squares, batches: QueryBatches[int, int]) -> Future[int]:
    """A first query that stays in the model until the gate opens."""
    squares.gate.clear()
    first = batches.submit(1)
    assert squares.started.wait(SOON)
    return first


@given(
    numbers=st.lists(st.integers(-3, 50), max_size=30),
    most=st.integers(1, 6),
    wait=st.sampled_from([0.0, 0.001]),
)
@settings(max_examples=30, deadline=None)
def test_each_gets_its_own_answer_whoever_is_in_its_batch(
    numbers: list[int], most: int, wait: float
) -> None:
    squares = Squares()
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(most, 64, wait))
    futures = [batches.submit(number) for number in numbers]
    for number, future in zip(numbers, futures):
        if number < 0:
            with pytest.raises(BadQuery, match=f"{number} is negative"):
                future.result(SOON)
        else:
            assert future.result(SOON) == number * number
    batches.close()
    assert all(len(batch) <= most for batch in squares.batches)
    assert len(squares.threads) <= 1


def test_what_comes_while_a_batch_runs_makes_up_the_next(
    squares: Squares, batches: QueryBatches[int, int]
) -> None:
    first = held(squares, batches)
    later = [batches.submit(number) for number in (2, 3, 4)]
    squares.gate.set()
    assert [one.result(SOON) for one in (first, *later)] == [1, 4, 9, 16]
    assert squares.batches == [[1], [2, 3, 4]]


def test_one_bad_query_fails_alone_in_few_passes(squares: Squares) -> None:
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(16, 64, 0.0))
    held(squares, batches)
    numbers = [*range(2, 9), -1, *range(9, 16)]
    futures = [batches.submit(number) for number in numbers]
    squares.gate.set()
    for number, future in zip(numbers, futures):
        if number > 0:
            assert future.result(SOON) == number * number
    with pytest.raises(BadQuery, match="-1"):
        futures[7].result(SOON)
    assert len(squares.batches) <= 2 + 2 * 4  # halves, not one by one
    batches.close()


def test_a_cancelled_query_is_never_computed(
    squares: Squares, batches: QueryBatches[int, int]
) -> None:
    held(squares, batches)
    gone, stays = batches.submit(7), batches.submit(8)
    assert gone.cancel()
    assert batches.waiting == 1
    squares.gate.set()
    assert stays.result(SOON) == 64
    with pytest.raises(CancelledError):
        gone.result(SOON)
    assert squares.batches == [[1], [8]]


def test_larger_items_count_by_their_size(
    squares: Squares, batches: QueryBatches[int, int]
) -> None:
    held(squares, batches)
    futures = [batches.submit(number, size) for number, size in ((2, 3), (3, 2), (4, 9), (5, 1))]
    squares.gate.set()
    assert [one.result(SOON) for one in futures] == [4, 9, 16, 25]
    assert squares.batches == [[1], [2], [3], [4], [5]]


def test_overload_says_when_to_come_again(squares: Squares) -> None:
    seen = Seen()
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(4, 8, 0.0), seen)
    with batches.admitted(3), batches.admitted(4), batches.admitted(1):
        with pytest.raises(Overloaded, match=r"8 queries are in progress.*max_queue is 8") as full:
            batches.admitted().__enter__()
        assert full.value.retry_after > 0
    with batches.admitted(10_000):  # takes no more places than a batch
        assert seen.refusals == 1
    batches.close()


def test_nobody_waits_while_the_model_is_idle(squares: Squares) -> None:
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(8, 64, 1.0))
    for number in range(5):
        began = time.monotonic()
        assert batches.submit(number).result(SOON) == number * number
        assert time.monotonic() - began < 0.5
    batches.close()


def test_after_a_batch_it_waits_for_those_who_ask_again(squares: Squares) -> None:
    """Of three clients one is in the model first; then they ask together."""
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(8, 64, 1.0))
    first = held(squares, batches)
    others = [batches.submit(number) for number in (2, 3)]
    squares.gate.set()
    first.result(SOON)
    began = time.monotonic()
    again = batches.submit(4)
    assert [one.result(SOON) for one in (*others, again)] == [4, 9, 16]
    last = [batches.submit(number) for number in (5, 6, 7)]
    assert [one.result(SOON) for one in last] == [25, 36, 49]
    assert time.monotonic() - began < 0.5  # nobody else was expected
    assert squares.batches == [[1], [2, 3, 4], [5, 6, 7]]
    batches.close()


def test_the_wait_ends_where_nobody_comes(squares: Squares) -> None:
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(8, 64, 0.05))
    held(squares, batches)
    others = [batches.submit(number) for number in (2, 3, 4)]
    squares.gate.set()
    for one in others:
        one.result(SOON)
    began = time.monotonic()
    assert batches.submit(5).result(SOON) == 25
    assert time.monotonic() - began < 0.5
    batches.close()


def test_the_observer_sees_batches_queue_and_waits(squares: Squares) -> None:
    seen = Seen()
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(2, 8, 0.0), seen)
    held(squares, batches)
    futures = [batches.submit(number) for number in (2, 3, 4)]
    squares.gate.set()
    for one in futures:
        one.result(SOON)
    batches.close()
    assert seen.batches == [(1, 3), (2, 1), (1, 0)]
    assert seen.stages == ["wait"] * 4


def test_an_observer_that_fails_stops_nothing(squares: Squares) -> None:
    class Broken(Seen):
        def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
            raise OSError("no metrics today")

    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(2, 8, 0.0), Broken())
    assert [batches.submit(number).result(SOON) for number in (2, 3)] == [4, 9]
    batches.close()


def test_a_function_of_the_wrong_length_hangs_nobody() -> None:
    batches: QueryBatches[int, int] = QueryBatches(lambda items: [], BatchLimits())
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        batches.submit(1).result(SOON)
    batches.close()


def test_closing_ends_the_running_batch_and_fails_the_rest(squares: Squares) -> None:
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits(1, 8, 0.0))
    first = held(squares, batches)
    second = batches.submit(2)
    closing = threading.Thread(target=batches.close)
    closing.start()
    with pytest.raises(GalleryUnavailable, match="is closed"):
        second.result(SOON)
    squares.gate.set()
    closing.join(SOON)
    assert first.result(0) == 1
    with pytest.raises(GalleryUnavailable, match="is closed"):
        batches.submit(3)
    batches.close()


def test_the_thread_ends_with_the_object(squares: Squares) -> None:
    batches: QueryBatches[int, int] = QueryBatches(squares, BatchLimits())
    assert batches.submit(3).result(SOON) == 9
    [thread] = [one for one in threading.enumerate() if one.ident in squares.threads]
    del batches
    gc.collect()
    thread.join(SOON)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "act", [lambda one: one.submit(2), lambda one: one.admitted().__enter__()], ids=["submit", "in"]
)
def test_a_forked_child_is_refused_at_once(
    squares: Squares,
    batches: QueryBatches[int, int],
    act: Callable[[QueryBatches[int, int]], object],
) -> None:
    assert batches.submit(1).result(SOON) == 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act(batches)
        except GalleryUnavailable as error:
            code = 0 if "before a fork" in str(error) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_interpreter_that_ends_in_the_middle_ends_well() -> None:
    """The thread is in a batch, and one more waits."""
    code = """
import time
from fti_qdrant.query_batches import QueryBatches
def slow(items):
    time.sleep(0.2)
    print("done", len(items), flush=True)
    return items
batches = QueryBatches(slow)
batches.submit(1)
time.sleep(0.05)
batches.submit(2)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done 1\n", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 0},
        {"max_batch": 1.5},
        {"max_queue": True},
        {"max_queue": -1},
        {"max_wait": -0.1},
        {"max_wait": float("nan")},
        {"max_wait": 60},
        {"max_wait": "1"},
    ],
    ids=str,
)
def test_limits_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(BadQuery, match=next(iter(wrong))):
        BatchLimits(**wrong)  # type: ignore[arg-type]
