"""``ComposedSearch``: reference images and a text in, filtered hits out."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from qdrant_client import models
from torch import Tensor

from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.errors import BadFilter, BadQuery
from fti_qdrant.filters import FilterLike, as_filter, both, check_ranges, field_keys
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    ScoredPoint,
    ServerGallery,
    VectorQuery,
    connect,
)
from fti_qdrant.gallery.points import OURS, SHA256_KEY
from fti_qdrant.images import LoadedImage
from fti_qdrant.model.explain import Explainer, Explanation
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.query import Hit, Hits, Query, Reference
from fti_qdrant.references import ReadQuery, invert, read


class ComposedSearch:
    """Composed image search over one gallery. Safe to use from several threads.

    Example:
        >>> search = ComposedSearch.open("gallery")                        # doctest: +SKIP
        >>> search.query("dress.jpg", "in red", filter={"price": {"lt": 50}})  # doctest: +SKIP
    """

    def __init__(self, composer: Composer, gallery: Gallery, *, allow_urls: bool = False):
        """Raises ModelMismatch where another model made the gallery's vectors."""
        gallery.spec.check_model(composer.backbone.fingerprint, gallery.name)
        self.composer = composer
        self.gallery = gallery
        self.allow_urls = allow_urls
        self._explainer = Explainer(composer.backbone)

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        inverter: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        allow_urls: bool = False,
    ) -> ComposedSearch:
        """Opens an embedded gallery, with the model that it was made with unless told otherwise.

        Raises GalleryNotFound, GalleryUnavailable (open elsewhere), ModelMismatch.
        """
        gallery = EdgeGallery.open(path)
        options = {"device": device, "precision": precision}
        return _search(gallery, model, inverter, options, allow_urls)

    @staticmethod
    def connect(
        url: str,
        collection: str,
        *,
        api_key: str | None = None,
        grpc_port: int | None = None,
        model: str | None = None,
        inverter: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        allow_urls: bool = False,
    ) -> ComposedSearch:
        """Opens a collection on a Qdrant server; the key may come from ``QDRANT_API_KEY``.

        With ``grpc_port`` (Qdrant's own is 6334) data travels by gRPC.

        Raises GalleryUnavailable (no server, wrong key), GalleryNotFound, ModelMismatch.
        """
        gallery = ServerGallery.open(connect(url, api_key, grpc_port=grpc_port), collection)
        options = {"device": device, "precision": precision}
        return _search(gallery, model, inverter, options, allow_urls)

    def query(
        self,
        image: Reference | Sequence[Reference] | None = None,
        text: str | None = None,
        *,
        filter: FilterLike | None = None,
        limit: int = 10,
        composer: str = "fti",
        exclude_reference: bool = True,
        score_threshold: float | None = None,
        with_vectors: bool = False,
    ) -> Hits:
        """Images like the reference, changed as the text says, that pass the filter.

        Args:
            image: a picture (path, bytes, file, PIL image, array), the id of a stored image, or
                a list of either. Without it, the text alone is searched.
            text: what should be different. Without it, images like the reference are searched.
            filter: on the payload; a mapping (see ``fti_qdrant.filters``) or a qdrant Filter.
            limit: most hits.
            composer: fti, subject, image, text, sum or slerp.
            exclude_reference: leave the reference itself out of the hits, recognized by its id,
                or by the content hash of its file.
            score_threshold: least cosine of a hit.
            with_vectors: put image vectors on the hits.

        Returns:
            Hits, best first; ``hits.query`` tells which composer answered, and any warnings.

        Raises:
            BadQuery, BadImage, BadFilter, UnknownImageId: what was asked cannot be answered.
            GalleryUnavailable: the gallery does not answer.
        """
        return self.query_many(
            [
                Query(
                    image=image,
                    text=text,
                    filter=filter,
                    limit=limit,
                    composer=composer,
                    exclude_reference=exclude_reference,
                    score_threshold=score_threshold,
                    with_vectors=with_vectors,
                )
            ]
        )[0]

    def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """Several queries: one batch through each tower of the model, one search request.

        Args:
            queries: ``Query`` objects, or mappings of ``query``'s arguments.

        Raises: as ``query``.
        """
        asked = [_as_query(one) for one in queries]
        if not asked:
            return []
        filters = [self._checked_filter(query.filter) for query in asked]
        reads = read(asked, self.gallery, self.allow_urls)
        vectors, warnings = self._compose(reads)
        searches = [
            VectorQuery(
                vector=vector.cpu().numpy(),
                filter=both(filter, _not_the_reference(one)),
                limit=one.query.limit,
                score_threshold=one.query.score_threshold,
                with_vectors=one.query.with_vectors,
            )
            for one, vector, filter in zip(reads, vectors, filters)
        ]
        answers = self.gallery.search_many(searches)
        if not any(answers):
            self._check_filled()
        return [
            Hits(map(_hit, answer), replace(one.query, composer=one.method, warnings=told))
            for one, answer, told in zip(reads, answers, warnings)
        ]

    def explain(self, image: Reference, *, words: int = 5) -> Explanation:
        """For the subject and each attribute token, the nearest vocabulary words with cosines.

        Raises BadQuery where no inverter is loaded; otherwise as ``query``.
        """
        asked = Query(image=image, text="?")
        references = invert(
            read([asked], self.gallery, self.allow_urls), self.composer, self.gallery
        )
        found = references[0].words
        if found is None:
            raise BadQuery("explain needs an inverter; pass inverter=... when opening the gallery")
        return self._explainer.explain(found, words)

    def close(self) -> None:
        """Closes the gallery."""
        self.gallery.close()

    def __enter__(self) -> ComposedSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compose(self, reads: list[ReadQuery]) -> tuple[list[Tensor], list[tuple[str, ...]]]:
        """Composed vectors in the order of the queries; queries of one method go as one batch."""
        with_images = [one for one in reads if one.sources]
        references = iter(invert(with_images, self.composer, self.gallery))
        of_query = [next(references) if one.sources else None for one in reads]
        vectors: dict[int, Tensor] = {}
        warnings: dict[int, tuple[str, ...]] = {}
        for method in {one.method for one in reads}:
            rows = [row for row, one in enumerate(reads) if one.method == method]
            texts = [reads[row].query.words for row in rows]
            if method == "text":
                made = self.composer.texts(texts)
            else:
                batch = _join([of_query[row] for row in rows])  # type: ignore[misc]
                made = self.composer.compose_references(batch, texts, method)
            for row, vector, truncated in zip(rows, made.vectors, made.truncated):
                vectors[row] = vector
                warnings[row] = (_TRUNCATED,) if truncated else ()
        order = range(len(reads))
        return [vectors[row] for row in order], [warnings[row] for row in order]

    def _check_filled(self) -> None:
        if self.gallery.count() == 0:
            raise BadQuery(f"gallery {self.gallery.name} is empty; fill it with fti-ingest")

    def _checked_filter(self, spec: FilterLike | None) -> models.Filter | None:
        """Raises BadFilter for a field that no image has, or that holds other things.

        A typing error would find nothing.
        """
        filter = as_filter(spec)
        for key in field_keys(filter):
            if not self.gallery.has_field(key):
                self._check_filled()
                known = {name for _, payload in _some(self.gallery) for name in payload}
                fields = ", ".join(sorted(known - {OURS})) or "none"
                raise BadFilter(f"{key}: no image has this field; fields are: {fields}")
        check_ranges(filter, self.gallery.spec.indexes)
        return filter


class AsyncComposedSearch:
    """The same for asyncio: each call runs in a worker thread, the event loop stays free.

    Make one from a ComposedSearch: ``AsyncComposedSearch(ComposedSearch.open(path))``.
    """

    def __init__(self, search: ComposedSearch):
        self.search = search

    async def query(self, *args: Any, **options: Any) -> Hits:
        """See ``ComposedSearch.query``."""
        return await asyncio.to_thread(self.search.query, *args, **options)

    async def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """See ``ComposedSearch.query_many``."""
        return await asyncio.to_thread(self.search.query_many, queries)

    async def explain(self, image: Reference, *, words: int = 5) -> Explanation:
        """See ``ComposedSearch.explain``."""
        return await asyncio.to_thread(self.search.explain, image, words=words)

    async def close(self) -> None:
        await asyncio.to_thread(self.search.close)

    async def __aenter__(self) -> AsyncComposedSearch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_TRUNCATED = "the text is longer than the model's context; its end was cut off"


def _search(
    gallery: Gallery,
    model: str | None,
    inverter: str | None,
    options: dict[str, str | None],
    allow_urls: bool,
) -> ComposedSearch:
    """Loads the model and checks it; the gallery is let go where that fails."""
    try:
        name = model or gallery.spec.fingerprint.model
        composer = Composer.load(name, inverter, **options)
        return ComposedSearch(composer, gallery, allow_urls=allow_urls)
    except BaseException:
        gallery.close()
        raise


def _as_query(query: Query | Mapping[str, Any]) -> Query:
    if isinstance(query, Query):
        return query
    try:
        return Query(**query)
    except TypeError as error:
        raise BadQuery(
            f"{query!r} is not a query, nor a mapping of the arguments of query ({error})"
        ) from None


def _not_the_reference(read: ReadQuery) -> models.Filter | None:
    if not read.query.exclude_reference or not read.sources:
        return None
    hashes = [source.sha256 for source in read.sources if isinstance(source, LoadedImage)]
    ids: list[int | str | uuid.UUID] = [
        source.id for source in read.sources if not isinstance(source, LoadedImage)
    ]
    unwanted: list[Any] = []
    if hashes:
        match = models.MatchAny(any=hashes)
        unwanted.append(models.FieldCondition(key=SHA256_KEY, match=match))
    if ids:
        unwanted.append(models.HasIdCondition(has_id=ids))
    return models.Filter(must_not=unwanted)


def _join(parts: Sequence[References]) -> References:
    words = [part.words for part in parts if part.words is not None]
    joined = PseudoWords.join(words) if len(words) == len(parts) else None
    sizes = tuple(size for part in parts for size in part.sizes)
    return References(torch.cat([part.pooled for part in parts]), joined, sizes)


def _hit(point: ScoredPoint) -> Hit:
    ours = point.payload.get(OURS, {})
    payload = {name: value for name, value in point.payload.items() if name != OURS}
    return Hit(point.id, point.score, ours.get("uri"), payload, point.vector)


def _some(gallery: Gallery, most: int = 100) -> list[tuple[str, dict[str, Any]]]:
    """The first images with their payloads: enough to name the fields."""
    return [pair for pair, _ in zip(gallery.scroll(page=most), range(most))]
