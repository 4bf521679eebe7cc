"""Galleries on an event loop: the same code over an asynchronous client, or in a worker thread.

A gallery's methods are plain functions. Here they get a client, or a worker, whose calls are
awaited (see ``fti_qdrant.awaiting``); everything else in them stays as it is.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from fti_qdrant.awaiting import awaited, run_awaiting
from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.gallery.points import (
    FacetCount,
    GalleryPoint,
    GallerySpec,
    Payload,
    PointId,
    ScoredPoint,
    StoredImage,
)
from fti_qdrant.gallery.protocol import Gallery, GalleryState, VectorQuery

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    from fti_qdrant.gallery.server import ServerGallery

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")
T = TypeVar("T")
Timed = Callable[[float], None]
"""Is told the seconds of each request."""

PAGE = 1000
"""Images that a scroll fetches at a time."""

MOST_CALLS = 8
"""Searches of a server that are under way at one time; what comes meanwhile is one request."""

MOST_JOINED = 64
"""Searches in one request that joins those of several callers."""


@dataclass
class _Asked(Generic[A, B]):
    requests: list[A]
    answer: asyncio.Future[list[B]]


async def in_worker(
    workers: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **options: P.kwargs
) -> T:
    """Calls a function in a worker thread. Raises GalleryUnavailable where there is none left."""
    try:
        call = partial(function, *args, **options)
        working = asyncio.get_running_loop().run_in_executor(workers, call)
    except RuntimeError as error:
        raise GalleryUnavailable("the search is closed; open it again") from error
    return await working


class JoinedCalls(Generic[A, B]):
    """Lists of requests of several callers, answered by few calls.

    Those that come in one turn of the event loop, or while as many calls as allowed are under way,
    make up the next call. Where that fails, each list is sent by itself, so that one caller's error
    is not another's.
    """

    def __init__(self, call: Callable[[list[A]], Awaitable[list[B]]], most: int):
        """Args:
        call: answers requests in their order.
        most: calls under way at one time.
        """
        self._call = call
        self._most = most
        self._pending: deque[_Asked[A, B]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, requests: list[A]) -> list[B]:
        loop = asyncio.get_running_loop()
        asked: _Asked[A, B] = _Asked(requests, loop.create_future())
        self._pending.append(asked)
        loop.call_soon(self._start)
        return await asked.answer

    def _start(self) -> None:
        while self._pending and len(self._running) < self._most:
            task = asyncio.get_running_loop().create_task(self._answer(self._next()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _next(self) -> list[_Asked[A, B]]:
        """A call's share of what waits; whoever was cancelled is left out."""
        chosen: list[_Asked[A, B]] = []
        size = 0
        while self._pending:
            if chosen and size + len(self._pending[0].requests) > MOST_JOINED:
                break
            one = self._pending.popleft()
            if not one.answer.done():
                chosen.append(one)
                size += len(one.requests)
        return chosen

    async def _answer(self, chosen: list[_Asked[A, B]]) -> None:
        if not chosen:
            return
        try:
            found = iter(await self._call([one for asked in chosen for one in asked.requests]))
        except Exception as error:
            if len(chosen) > 1:
                await asyncio.gather(*(self._answer([one]) for one in chosen))
            elif not chosen[0].answer.done():
                chosen[0].answer.set_exception(error)
            return
        for asked in chosen:
            answers = list(islice(found, len(asked.requests)))
            if not asked.answer.done():
                asked.answer.set_result(answers)


class AwaitedClient:
    """An ``AsyncQdrantClient`` with the methods of a ``QdrantClient``, for ``run_awaiting``."""

    def __init__(self, client: AsyncQdrantClient, timed: Timed | None = None):
        self.client = client
        self._timed = timed
        self._joined: dict[str, JoinedCalls[Any, Any]] = {}

    @property
    def init_options(self) -> dict[str, Any]:
        return self.client.init_options

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*args: Any, **options: Any) -> Any:
            return awaited(method(*args, **options))

        return call

    def query_batch_points(self, collection_name: str, requests: Sequence[Any]) -> list[Any]:
        """Searches of several callers, in one request."""
        if collection_name not in self._joined:
            search = partial(self._search, collection_name)
            self._joined[collection_name] = JoinedCalls(search, MOST_CALLS)
        return awaited(self._joined[collection_name](list(requests)))

    async def _search(self, collection: str, requests: list[Any]) -> list[Any]:
        began = time.perf_counter()
        found = await self.client.query_batch_points(collection, requests=requests)
        if self._timed is not None:
            self._timed(time.perf_counter() - began)
        return list(found)


class WorkerGallery:
    """A gallery whose calls run in worker threads, for ``run_awaiting``.

    For Qdrant Edge, whose calls are short and hold the interpreter's lock, for qdrant-client's
    local mode, and for clients that are no plain ``QdrantClient``.
    """

    def __init__(
        self,
        gallery: Gallery,
        workers: ThreadPoolExecutor,
        most: int = 1,
        timed: Timed | None = None,
    ):
        """``most`` searches run at one time; others wait for them, and are then one call."""
        self.gallery = gallery
        self._workers = workers
        self._timed = timed
        self._joined: JoinedCalls[VectorQuery, list[ScoredPoint]] = JoinedCalls(self._search, most)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.gallery, name)
        return partial(self._in_worker, value) if callable(value) else value

    def search(self, query: VectorQuery) -> list[ScoredPoint]:
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        return awaited(self._joined(list(queries)))

    def scroll(self, page: int = PAGE) -> Iterator[tuple[StoredId, Payload]]:
        found = self.gallery.scroll(page)
        while part := self._in_worker(lambda: list(islice(found, page))):
            yield from part

    def check_open(self) -> None:
        """Waits for nothing, so it needs no worker."""
        self.gallery.check_open()

    async def _search(self, queries: list[VectorQuery]) -> list[list[ScoredPoint]]:
        began = time.perf_counter()
        found = await in_worker(self._workers, self.gallery.search_many, queries)
        if self._timed is not None:
            self._timed(time.perf_counter() - began)
        return found

    def _in_worker(self, function: Callable[..., B], *args: Any, **options: Any) -> B:
        return awaited(in_worker(self._workers, function, *args, **options))


def over_client(
    gallery: ServerGallery, client: AsyncQdrantClient, timed: Timed | None = None
) -> ServerGallery:
    """The same collection by an asynchronous client, for ``run_awaiting``."""
    twin = copy.copy(gallery)
    twin.client = cast("QdrantClient", AwaitedClient(client, timed))
    return twin


class AsyncGallery:
    """A gallery's methods, to be awaited; ``Gallery`` says what each does and raises."""

    def __init__(self, gallery: Gallery, on_loop: Callable[[], Gallery]):
        """Args:
        gallery: as it was opened.
        on_loop: the same on the running event loop, for ``run_awaiting``.
        """
        self._gallery = gallery
        self._on_loop = on_loop

    @property
    def spec(self) -> GallerySpec:
        return self._gallery.spec

    @property
    def name(self) -> str:
        return self._gallery.name

    @property
    def address(self) -> str:
        return self._gallery.address

    async def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        return await run_awaiting(self._on_loop().search_many, queries)

    async def retrieve(self, ids: Sequence[PointId]) -> list[StoredImage]:
        return await run_awaiting(self._on_loop().retrieve, ids)

    async def count(self, filter: models.Filter | None = None) -> int:
        return await run_awaiting(self._on_loop().count, filter)

    async def sample(self, filter: models.Filter | None = None, most: int = 100) -> list[Payload]:
        return await run_awaiting(self._on_loop().sample, filter, most)

    async def first(self, most: int) -> list[tuple[StoredId, Payload]]:
        """Up to ``most`` images with their payloads, the first by id."""
        gallery = self._on_loop()
        return await run_awaiting(lambda: list(islice(gallery.scroll(most), most)))

    async def facets(
        self, field: str, filter: models.Filter | None = None, limit: int = 10
    ) -> list[FacetCount]:
        return await run_awaiting(self._on_loop().facets, field, filter, limit)

    async def indexes(self) -> Mapping[str, str]:
        return await run_awaiting(self._on_loop().indexes)

    async def state(self) -> GalleryState:
        return await run_awaiting(self._on_loop().state)

    async def upsert(self, points: Sequence[GalleryPoint]) -> None:
        await run_awaiting(self._on_loop().upsert, points)

    async def delete(self, ids: Sequence[PointId]) -> None:
        await run_awaiting(self._on_loop().delete, ids)
