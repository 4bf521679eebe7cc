"""``AsyncComposedSearch``: ``ComposedSearch`` for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fti_qdrant.composition import ComposedQuery
from fti_qdrant.explanation import Explanation
from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.gallery import FacetCount, Gallery
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.model.openvino_backend import Backend
from fti_qdrant.query import Hits, Query, Reference
from fti_qdrant.refinements import OrderLike, SearchParamsLike
from fti_qdrant.search import ComposedSearch

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


class AsyncComposedSearch:
    """The same for asyncio: each call runs in a worker thread, so the event loop stays free.

    Example:
        >>> async def main() -> None:                                     # doctest: +SKIP
        ...     async with await AsyncComposedSearch.open("gallery") as search:
        ...         hits = await search.query("dress.jpg", "in red")
    """

    def __init__(self, search: ComposedSearch):
        """Wraps a ``ComposedSearch``, which may be used beside it."""
        self.search = search

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
    ) -> Self:
        """See ``ComposedSearch.open``."""
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
        return cls(search)

    @classmethod
    async def connect(
        cls,
        url: str,
        collection: str,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """See ``ComposedSearch.connect``."""
        search = await asyncio.to_thread(
            ComposedSearch.connect,
            url,
            collection,
            api_key=api_key,
            grpc_port=grpc_port,
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
        return cls(search)

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
    ) -> Self:
        """See ``ComposedSearch.over``."""
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
        return cls(search)

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
        diversity: float | None = None,
        order_by: OrderLike | None = None,
        group_by: str | None = None,
        group_size: int = 1,
        with_payload: bool | Sequence[str] = True,
        exact: bool | None = None,
        search_params: SearchParamsLike | None = None,
    ) -> Hits:
        """See ``ComposedSearch.query``."""
        return await asyncio.to_thread(
            self.search.query,
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
        return await asyncio.to_thread(self.search.query_many, queries)

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
        return await asyncio.to_thread(
            self.search.compose,
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

    async def facets(
        self, field: str, *, filter: FilterLike | None = None, limit: int = 10
    ) -> list[FacetCount]:
        """See ``ComposedSearch.facets``."""
        return await asyncio.to_thread(self.search.facets, field, filter=filter, limit=limit)

    async def explain(
        self,
        image: Reference | Sequence[Reference],
        text: str | None = None,
        *,
        composer: str | None = None,
        words: int = 5,
    ) -> Explanation:
        """See ``ComposedSearch.explain``."""
        return await asyncio.to_thread(
            self.search.explain, image, text, composer=composer, words=words
        )

    async def close(self) -> None:
        """Closes the gallery."""
        await asyncio.to_thread(self.search.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
