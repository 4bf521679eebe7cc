"""A search on event loops: its batches, its threads, and a view of it for each loop."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from fti_qdrant.awaiting import awaited, run_awaiting
from fti_qdrant.gallery import Gallery, ServerGallery
from fti_qdrant.gallery.async_gallery import AwaitedClient, WorkerGallery, in_worker, over_client
from fti_qdrant.gallery.clients import asynchronous_twin, is_local
from fti_qdrant.query_batches import BatchLimits, BatchObserver, QueryBatches
from fti_qdrant.query_model import ModelTask, QueryModel, Understood
from fti_qdrant.search import ComposedSearch

T = TypeVar("T")

READERS = 4
"""Threads that read and decode reference pictures."""

STORE_WORKERS = 8
"""Threads for a client that is no plain ``QdrantClient``; Edge and local mode have one."""


class OnLoop:
    """Who does what takes long in a query, while the event loop goes on."""

    def __init__(
        self, batches: QueryBatches[ModelTask, list[Understood]], readers: ThreadPoolExecutor
    ):
        """Args:
        batches: of the model.
        readers: for pictures.
        """
        self.batches = batches
        self.readers = readers

    def read(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        return awaited(self._read(tasks)) if tasks else []

    def understand(self, task: ModelTask) -> list[Understood]:
        """A large task goes in parts, so that others come in between."""
        made: list[Understood] = []
        size = self.batches.limits.max_batch
        for start in range(0, len(task.queries), size):
            part = ModelTask(task.queries[start : start + size], task.words)
            answer = asyncio.wrap_future(self.batches.submit(part, len(part.queries)))
            made.extend(awaited(answer))
        return made

    async def _read(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        began = time.perf_counter()
        reading = [in_worker(self.readers, task) for task in tasks]
        results = await asyncio.gather(*reading, return_exceptions=True)
        self.batches.observer.stage_done("read", time.perf_counter() - began)
        for one in results:
            if isinstance(one, BaseException):
                raise one
        return cast("list[T]", results)


class LoopSearches:
    """Views of one search whose methods ``run_awaiting`` runs, one for each event loop."""

    def __init__(
        self, search: ComposedSearch, limits: BatchLimits, observer: BatchObserver | None = None
    ):
        """``search`` stays as it is, and the caller's to close."""
        self.search = search
        self.batches: QueryBatches[ModelTask, list[Understood]] = QueryBatches(
            QueryModel(search.composer, search.gallery).run, limits, observer
        )
        self._readers = ThreadPoolExecutor(READERS, "fti-qdrant reader")
        self._store_workers = _store_workers(search.gallery)
        self._store = ThreadPoolExecutor(self._store_workers, "fti-qdrant store")
        self._views: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ComposedSearch] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> ComposedSearch:
        """The view for the running event loop: connections belong to one loop.

        Raises GalleryUnavailable where the search is closed, or was opened before a fork.
        """
        self.search.gallery.check_open()
        loop = asyncio.get_running_loop()
        if loop not in self._views:
            runner = OnLoop(self.batches, self._readers)
            self._views[loop] = self.search._running(self._gallery(), runner)
        return self._views[loop]

    async def close(self) -> None:
        """Waits for the batch in the model; all other queries fail."""
        await asyncio.to_thread(self.batches.close)
        view = self._views.pop(asyncio.get_running_loop(), None)
        if view is not None and isinstance(view.gallery, ServerGallery):
            await run_awaiting(view.gallery.close)
        for workers in (self._readers, self._store):
            workers.shutdown(wait=False)

    def _gallery(self) -> Gallery:
        gallery = self.search.gallery
        if isinstance(gallery, ServerGallery):
            if isinstance(gallery.client, AwaitedClient):  # the user's own
                return over_client(gallery, gallery.client.client, self._asked)
            twin = asynchronous_twin(gallery.client)
            if twin is not None:
                made = over_client(gallery, twin, self._asked)
                made.owns_client = True
                return made
        return cast(Gallery, WorkerGallery(gallery, self._store, self._store_workers, self._asked))

    def _asked(self, seconds: float) -> None:
        self.batches.observer.stage_done("store", seconds)


def _store_workers(gallery: Gallery) -> int:
    """Edge and local mode answer one call at a time."""
    if isinstance(gallery, ServerGallery) and not is_local(gallery.client):
        return STORE_WORKERS
    return 1
