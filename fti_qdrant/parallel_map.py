"""A function on many items, several at a time, which Ctrl-C can end at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from multiprocessing.pool import ThreadPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_THREADS = 32


def parallel_map(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """The results in the order of the items, each as soon as it and those before it are there.

    Work that has not begun is dropped when the caller stops early, by an error or by Ctrl-C.
    ``ThreadPoolExecutor.map`` takes a lock for each item that it hands out, on the thread that
    Ctrl-C interrupts: a lock may then stay taken, and the program hangs, or ends with a
    RuntimeError. ``ThreadPool`` hands them out on a thread of its own.

    Example:
        >>> list(parallel_map(len, ["a", "bb", "ccc"]))
        [1, 2, 3]
    """
    pool = ThreadPool(min(MOST_THREADS, (os.cpu_count() or 1) + 4))
    try:
        yield from pool.imap(function, items)
    finally:
        pool.terminate()
        pool.join()  # work that has begun is finished
