"""Queries of many callers, gathered into batches for the one thread that runs the model.

A batch passes a tower of the model in little more time than a single query. So the queries that
come while one batch runs make up the next. Nobody waits for company while the model is idle; after
a batch, the thread waits ``max_wait`` at most for those callers whose queries it has just answered,
because they are the ones that ask again.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from fti_qdrant.errors import BadQuery, GalleryUnavailable, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

SMOOTHING = 0.2
"""Weight of the last batch in the time of a query, which ``retry_after`` is made of."""

WAITING_SHARE = 0.1
"""Of a batch's time: how long those that it has answered may take to ask again, if that is longer
than ``max_wait``. A slow model would else fall into two groups that wait for each other."""

LEAST_PAUSE = 0.1
"""Seconds; the least ``retry_after``."""


class BatchObserver(Protocol):
    """Is told what happens, for metrics. Calls come from any thread, and must return quickly."""

    def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
        """A batch has passed the model: its size, how many wait behind it, and its time."""

    def stage_done(self, stage: str, seconds: float) -> None:
        """A part of one request is done: ``read``, ``wait``, ``model`` or ``store``."""

    def refused(self) -> None:
        """A request was turned away by ``Overloaded``."""


class NoObserver:
    """Ignores everything."""

    def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
        pass

    def stage_done(self, stage: str, seconds: float) -> None:
        pass

    def refused(self) -> None:
        pass


@dataclass(frozen=True)
class BatchLimits:
    """How queries are gathered.

    Attributes:
        max_batch: most queries in one pass of the model.
        max_queue: most queries that wait or run at one time; one more raises ``Overloaded``.
        max_wait: most seconds that a query waits for others after a batch (or a tenth of what the
            batch took, if that is longer); none when the model is idle.

    Raises BadQuery: a value out of range.
    """

    max_batch: int = 32
    max_queue: int = 256
    max_wait: float = 0.005

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadQuery(f"{name} must be a whole number of at least 1, got {value!r}")
        wait = self.max_wait
        number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
        if not number or not 0 <= wait <= 1:
            raise BadQuery(f"max_wait must be seconds from 0 to 1, got {wait!r}")


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    size: int
    came: float
    future: Future[Result] = field(default_factory=Future)


class QueryBatches(Generic[Item, Result]):
    """One thread that runs a function on batches of items.

    The thread starts with the first item, and ends with ``close``, with the interpreter, or when
    nobody holds this object any more.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        limits: BatchLimits = BatchLimits(),
        observer: BatchObserver | None = None,
    ):
        """Args:
        run: items -> their results, in the same order. Where it raises, it is called again with
            each half, so that one bad item fails alone.
        """
        self.limits = limits
        self._shared: _Queue[Item, Result] = _Queue(run, limits, observer or NoObserver())
        weakref.finalize(self, self._shared.stop, wait=False).atexit = False

    @property
    def observer(self) -> BatchObserver:
        """Is told what happens; may be replaced at any time."""
        return self._shared.observer

    @observer.setter
    def observer(self, observer: BatchObserver) -> None:
        self._shared.observer = observer

    @contextmanager
    def admitted(self, queries: int = 1) -> Iterator[None]:
        """Holds places for the queries of one request, from its first step to its last.

        A request never takes more than ``max_batch`` places: a larger one goes through in parts.

        Raises Overloaded where ``max_queue`` is reached.
        """
        places = min(queries, self.limits.max_batch, self.limits.max_queue)
        try:
            self._shared.enter(places)
        except Overloaded:
            self.observer.refused()
            raise
        try:
            yield
        finally:
            self._shared.leave(places)

    def submit(self, item: Item, size: int = 1) -> Future[Result]:
        """Queues an item of ``size`` queries; a future that is cancelled in time is never computed.

        Raises GalleryUnavailable after ``close``, or in a forked child.
        """
        return self._shared.put(_Waiting(item, size, time.perf_counter()))

    @property
    def waiting(self) -> int:
        """Queries in the queue."""
        return self._shared.queued()

    def close(self) -> None:
        """Ends the thread after the batch that it runs; what waits fails by GalleryUnavailable."""
        self._shared.stop()


class _Queue(Generic[Item, Result]):
    """What the thread and its callers share. The thread holds this alone, not the outer object."""

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        limits: BatchLimits,
        observer: BatchObserver,
    ):
        self.run = run
        self.limits = limits
        self.observer = observer
        self.changed = threading.Condition()
        self.items: deque[_Waiting[Item, Result]] = deque()
        self.inside = 0
        self.seconds_each = 0.0
        self.closed = False
        self.pid = os.getpid()
        self.thread: threading.Thread | None = None

    def enter(self, places: int) -> None:
        self._check_fork()
        with self.changed:
            if self.inside + places > self.limits.max_queue:
                raise self._overloaded()
            self.inside += places

    def leave(self, places: int) -> None:
        with self.changed:
            self.inside -= places

    def put(self, one: _Waiting[Item, Result]) -> Future[Result]:
        self._check_fork()
        with self.changed:
            if self.closed:
                raise _closed()
            if self.thread is None:
                self.thread = threading.Thread(
                    target=self._work, name="fti-qdrant model", daemon=True
                )
                self.thread.start()
                _RUNNING.add(self)
            self.items.append(one)
            self.changed.notify_all()
        return one.future

    def queued(self) -> int:
        with self.changed:
            return self._size()

    def stop(self, wait: bool = True) -> None:
        """Safe to call from any thread, the model's own too.

        Args:
            wait: for the thread's last batch. The garbage collector, which may run anywhere, must
                not.
        """
        if os.getpid() != self.pid:
            return
        with self.changed:
            self.closed = True
            left, self.items = list(self.items), deque()
            self.changed.notify_all()
        for one in left:
            if one.future.set_running_or_notify_cancel():
                one.future.set_exception(_closed())
        if wait and self.thread not in (None, threading.current_thread()):
            self.thread.join()

    def _work(self) -> None:
        answered, began, ended = 0, 0.0, 0.0
        while True:
            patience = max(self.limits.max_wait, WAITING_SHARE * (ended - began))
            batch = self._next(answered, ended + patience)
            if batch is None:
                return
            began = time.perf_counter()
            self._answer(batch)
            ended = time.perf_counter()
            answered = sum(one.size for one in batch)
            self._tell(batch, answered, began, ended)

    def _next(self, answered: int, until: float) -> list[_Waiting[Item, Result]] | None:
        """The next batch; None after ``stop``.

        Args:
            answered: queries of the batch before.
            until: how long those who got its answers may take to ask again.
        """
        with self.changed:
            expected = min(answered + self._size(), self.limits.max_batch)
            while not self.closed:
                left = until - time.perf_counter()
                enough = self._size() >= expected or left <= 0
                if enough and (batch := self._take()):
                    return batch
                self.changed.wait(left if expected and left > 0 else None)
            return None

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        size = 0
        while self.items:
            if batch and size + self.items[0].size > self.limits.max_batch:
                break
            one = self.items.popleft()
            if one.future.set_running_or_notify_cancel():
                batch.append(one)
                size += one.size
        return batch

    def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = self.run([one.item for one in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            middle = len(batch) // 2
            self._answer(batch[:middle])
            self._answer(batch[middle:])
            return
        for one, result in zip(batch, results):
            one.future.set_result(result)

    def _tell(
        self, batch: list[_Waiting[Item, Result]], queries: int, began: float, ended: float
    ) -> None:
        each = (ended - began) / max(1, queries)
        with self.changed:
            weight = SMOOTHING if self.seconds_each else 1.0
            self.seconds_each += weight * (each - self.seconds_each)
            waiting = self._size()
        with suppress(Exception):  # metrics that fail must not end the thread
            self.observer.batch_done(queries, waiting, ended - began)
            for one in batch:
                self.observer.stage_done("wait", began - one.came)

    def _check_fork(self) -> None:
        """Before any lock, which the parent may have held when it forked."""
        if os.getpid() != self.pid:
            raise GalleryUnavailable(
                "this search was opened before a fork, and its model's thread stayed with the "
                "parent; open it in each process after the fork"
            )

    def _size(self) -> int:
        return sum(one.size for one in self.items if not one.future.cancelled())

    def _overloaded(self) -> Overloaded:
        pause = max(LEAST_PAUSE, round(self.inside * self.seconds_each, 1))
        return Overloaded(
            f"{self.inside} queries are in progress, and max_queue is {self.limits.max_queue}; try "
            f"again in {pause:g} s",
            pause,
        )


_RUNNING: weakref.WeakSet[_Queue[Any, Any]] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread that is inside of torch when the interpreter ends would crash it."""
    for queue in list(_RUNNING):
        queue.stop()


def _closed() -> GalleryUnavailable:
    return GalleryUnavailable("the search is closed; open it again")
