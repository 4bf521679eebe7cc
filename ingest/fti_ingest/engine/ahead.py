"""Items that are made on a thread of their own, ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")


def made_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items in order; at most two are made before they are used.

    Ctrl-C interrupts the thread that uses them. It may leave the locks of ``queue.Queue`` and
    ``threading.Event`` taken, and never those of ``SimpleQueue``.
    """
    results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    permits: queue.SimpleQueue[None] = queue.SimpleQueue()
    stopped = False

    def produce() -> None:
        try:
            with closing(items) as opened:
                for item in opened:
                    results.put(("item", item))
                    permits.get()
                    if stopped:
                        return
            results.put(("end", None))
        except BaseException as error:  # raised again where the items are used
            results.put(("error", error))

    producer = threading.Thread(target=produce, name="stage", daemon=True)
    permits.put(None)  # for the item after the first
    producer.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            permits.put(None)
            yield value
    finally:
        stopped = True
        permits.put(None)
        producer.join()
