"""``AsyncComposedSearch``: ``ComposedSearch`` for asyncio, and many queries in one model pass."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from qdrant_client import AsyncQdrantClient

from fti_qdrant.adoption.attach import checked, find_candidate
from fti_qdrant.adoption.declaration import Declaration
from fti_qdrant.awaiting import run_awaiting
from fti_qdrant.composition import ComposedQuery
from fti_qdrant.explanation import Explanation
from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.gallery import FacetCount, Gallery, ServerGallery
from fti_qdrant.gallery.async_gallery import AsyncGallery, AwaitedClient
from fti_qdrant.gallery.clients import ClientSource, check_no_options
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.loop_searches import LoopSearches
from fti_qdrant.model.openvino_backend import Backend
from fti_qdrant.query import Hits, Query, Reference
from fti_qdrant.query_batches import BatchLimits, BatchObserver
from fti_qdrant.query_model import EXPLAINED_WORDS
from fti_qdrant.refinements import OrderLike, SearchParamsLike
from fti_qdrant.search import CalibrationLike, ComposedSearch

if TYPE_CHECKING:
    import torch
    from qdrant_client import QdrantClient
    from typing_extensions import Self

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH, MAX_QUEUE, MAX_WAIT = BatchLimits.max_batch, BatchLimits.max_queue, BatchLimits.max_wait


class AsyncComposedSearch:
    """The same for asyncio, for services that answer many at one time.

    Queries that come while the model runs make up its next batch, in the one thread that it has.
    Pictures are read in a few threads; a server is asked by an ``AsyncQdrantClient``. More queries
    than ``max_queue`` at one time raise ``Overloaded``. A query whose await is cancelled before the
    model takes it is never computed.

    Example:
        >>> async def main() -> None:                                     # doctest: +SKIP
        ...     async with await AsyncComposedSearch.open("gallery") as search:
        ...         hits = await search.query("dress.jpg", "in red")
    """

    def __init__(
        self,
        search: ComposedSearch,
        *,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
        observer: BatchObserver | None = None,
    ):
        """Wraps a ``ComposedSearch``, which may be used beside it.

        Args:
            max_batch, max_queue, max_wait: see ``BatchLimits``.
            observer: is told batch sizes and the seconds of each stage, for metrics.

        Raises BadQuery: a limit out of range.
        """
        self.search = search
        limits = BatchLimits(max_batch, max_queue, max_wait)
        self._loops = LoopSearches(search, limits, observer)

    @property
    def gallery(self) -> AsyncGallery:
        """The gallery's own methods, to be awaited."""
        return AsyncGallery(self.search.gallery, lambda: self._loops.here().gallery)

    @property
    def observer(self) -> BatchObserver:
        """Is told batch sizes and the seconds of each stage; may be replaced at any time."""
        return self._loops.batches.observer

    @observer.setter
    def observer(self, observer: BatchObserver) -> None:
        self._loops.batches.observer = observer

    @property
    def waiting(self) -> int:
        """Queries that wait for the model now."""
        return self._loops.batches.waiting

    @property
    def limits(self) -> BatchLimits:
        """How queries are gathered."""
        return self._loops.batches.limits

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
        observer: BatchObserver | None = None,
    ) -> Self:
        """See ``ComposedSearch.open`` and ``AsyncComposedSearch``."""
        search = await asyncio.to_thread(
            ComposedSearch.open,
            path,
            model=model,
            inverter=inverter,
            device=device,
            precision=precision,
            preprocess=preprocess,
            backend=backend,
            allow_urls=allow_urls,
            allow_paths=allow_paths,
            limits=limits,
        )
        return cls(
            search,
            max_batch=max_batch,
            max_queue=max_queue,
            max_wait=max_wait,
            observer=observer,
        )

    @classmethod
    async def connect(
        cls,
        url: ClientSource | AsyncQdrantClient,
        collection: str,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
        observer: BatchObserver | None = None,
    ) -> Self:
        """See ``ComposedSearch.connect`` and ``AsyncComposedSearch``.

        Args:
            url: also an ``AsyncQdrantClient``, which is used as it is and never closed. Of a
                ``QdrantClient`` an asynchronous one with the same options is made.
        """
        loading: dict[str, Any] = {
            "model": model,
            "inverter": inverter,
            "device": device,
            "precision": precision,
            "preprocess": preprocess,
            "backend": backend,
            "allow_urls": allow_urls,
            "allow_paths": allow_paths,
            "limits": limits,
        }
        connection: dict[str, Any] = {
            "api_key": api_key,
            "grpc_port": grpc_port,
            "timeout": timeout,
            "headers": headers,
            "prefix": prefix,
            "ca_file": ca_file,
        }
        if isinstance(url, AsyncQdrantClient):
            check_no_options(url, [name for name, value in connection.items() if value])
            gallery = await _opened(url, collection)
            search = await asyncio.to_thread(ComposedSearch.over, gallery, **loading)
        else:
            search = await asyncio.to_thread(
                ComposedSearch.connect, url, collection, **connection, **loading
            )
        return cls(
            search,
            max_batch=max_batch,
            max_queue=max_queue,
            max_wait=max_wait,
            observer=observer,
        )

    @classmethod
    async def attach(
        cls,
        client: ClientSource | AsyncQdrantClient,
        collection: str,
        *,
        model: str | None = None,
        vector: str | None = None,
        uri_field: str | None = None,
        image_root: str | None = None,
        inverter: str | None = None,
        check: int = 32,
        api_key: str | None = None,
        grpc_port: int | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
        calibration: CalibrationLike | None = None,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
        observer: BatchObserver | None = None,
    ) -> Self:
        """See ``ComposedSearch.attach`` and ``AsyncComposedSearch``.

        Args:
            client: as for ``connect``.
        """
        reading: dict[str, Any] = {
            "allow_urls": allow_urls,
            "allow_paths": allow_paths,
            "limits": limits,
            "calibration": calibration,
        }
        loading: dict[str, Any] = {
            "inverter": inverter,
            "device": device,
            "precision": precision,
            "backend": backend,
        }
        connection: dict[str, Any] = {
            "api_key": api_key,
            "grpc_port": grpc_port,
            "timeout": timeout,
            "headers": headers,
            "prefix": prefix,
            "ca_file": ca_file,
        }
        if isinstance(client, AsyncQdrantClient):
            check_no_options(client, [name for name, value in connection.items() if value])
            declared = Declaration(
                model, vector, uri_field, image_root, preprocess=preprocess, check=check
            )
            awaiting = cast("QdrantClient", AwaitedClient(client))
            candidate = await run_awaiting(find_candidate, awaiting, collection, declared)
            composer, spec = await asyncio.to_thread(checked, candidate, **loading, limits=limits)
            gallery = candidate.gallery(awaiting, spec, owns_client=False)
            search = ComposedSearch(composer, gallery, **reading)
        else:
            search = await asyncio.to_thread(
                ComposedSearch.attach,
                client,
                collection,
                model=model,
                vector=vector,
                uri_field=uri_field,
                image_root=image_root,
                check=check,
                preprocess=preprocess,
                **connection,
                **loading,
                **reading,
            )
        return cls(
            search,
            max_batch=max_batch,
            max_queue=max_queue,
            max_wait=max_wait,
            observer=observer,
        )

    @classmethod
    async def over(
        cls,
        gallery: Gallery,
        *,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT,
        observer: BatchObserver | None = None,
    ) -> Self:
        """See ``ComposedSearch.over`` and ``AsyncComposedSearch``."""
        search = await asyncio.to_thread(
            ComposedSearch.over,
            gallery,
            model=model,
            inverter=inverter,
            device=device,
            precision=precision,
            preprocess=preprocess,
            backend=backend,
            allow_urls=allow_urls,
            allow_paths=allow_paths,
            limits=limits,
        )
        return cls(
            search,
            max_batch=max_batch,
            max_queue=max_queue,
            max_wait=max_wait,
            observer=observer,
        )

    async def query(
        self,
        image: Reference | Sequence[Reference] | None = None,
        text: str | None = None,
        *,
        filter: FilterLike | None = None,
        limit: int = 10,
        composer: str | None = None,
        exclude_reference: bool = True,
        score_threshold: float | None = None,
        with_vectors: bool = False,
        explain: bool = False,
        text_weight: float | None = None,
        avoid: str | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
        like: Reference | Sequence[Reference] | None = None,
        dislike: Reference | Sequence[Reference] | None = None,
        offset: int = 0,
        cutoff: float | None = None,
        min_confidence: float | None = None,
        diversity: float | None = None,
        order_by: OrderLike | None = None,
        group_by: str | None = None,
        group_size: int = 1,
        with_payload: bool | Sequence[str] = True,
        exact: bool | None = None,
        search_params: SearchParamsLike | None = None,
    ) -> Hits:
        """See ``ComposedSearch.query``."""
        return await self._run(
            1,
            self._loops.here().query,
            image,
            text,
            filter=filter,
            limit=limit,
            composer=composer,
            exclude_reference=exclude_reference,
            score_threshold=score_threshold,
            with_vectors=with_vectors,
            explain=explain,
            text_weight=text_weight,
            avoid=avoid,
            weights=weights,
            options=options,
            like=like,
            dislike=dislike,
            offset=offset,
            cutoff=cutoff,
            min_confidence=min_confidence,
            diversity=diversity,
            order_by=order_by,
            group_by=group_by,
            group_size=group_size,
            with_payload=with_payload,
            exact=exact,
            search_params=search_params,
        )

    async def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """See ``ComposedSearch.query_many``."""
        asked = list(queries)
        return await self._run(len(asked), self._loops.here().query_many, asked)

    async def compose(
        self,
        image: Reference | Sequence[Reference] | None = None,
        text: str | None = None,
        *,
        composer: str | None = None,
        text_weight: float | None = None,
        avoid: str | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
        like: Reference | Sequence[Reference] | None = None,
        dislike: Reference | Sequence[Reference] | None = None,
    ) -> ComposedQuery:
        """See ``ComposedSearch.compose``."""
        return await self._run(
            1,
            self._loops.here().compose,
            image,
            text,
            composer=composer,
            text_weight=text_weight,
            avoid=avoid,
            weights=weights,
            options=options,
            like=like,
            dislike=dislike,
        )

    async def compose_many(
        self, queries: Sequence[Query | Mapping[str, Any]]
    ) -> list[ComposedQuery]:
        """See ``ComposedSearch.compose_many``."""
        asked = list(queries)
        return await self._run(len(asked), self._loops.here().compose_many, asked)

    async def facets(
        self, field: str, *, filter: FilterLike | None = None, limit: int = 10
    ) -> list[FacetCount]:
        """See ``ComposedSearch.facets``."""
        return await self._run(1, self._loops.here().facets, field, filter=filter, limit=limit)

    async def explain(
        self,
        image: Reference | Sequence[Reference],
        text: str | None = None,
        *,
        composer: str | None = None,
        words: int = EXPLAINED_WORDS,
    ) -> Explanation:
        """See ``ComposedSearch.explain``."""
        return await self._run(
            1, self._loops.here().explain, image, text, composer=composer, words=words
        )

    async def close(self) -> None:
        """Waits for the batch in the model, and closes the gallery; other queries fail."""
        await self._loops.close()
        await asyncio.to_thread(self.search.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(
        self, queries: int, method: Callable[P, T], *args: P.args, **options: P.kwargs
    ) -> T:
        with self._loops.batches.admitted(max(1, queries)):
            return await run_awaiting(method, *args, **options)


async def _opened(client: AsyncQdrantClient, collection: str) -> ServerGallery:
    """A collection by the user's client, which stays his."""
    awaiting = cast("QdrantClient", AwaitedClient(client))
    gallery = await run_awaiting(ServerGallery.open, awaiting, collection)
    gallery.owns_client = False
    return gallery
