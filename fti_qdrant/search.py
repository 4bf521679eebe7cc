"""``ComposedSearch``: reference images and a text in, filtered hits out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.inputs import References
from fti_qdrant.composition import ComposedQuery, compose_queries
from fti_qdrant.errors import BadFilter, BadQuery
from fti_qdrant.explanation import Explanation, QueryExplainer
from fti_qdrant.filters import FilterLike, as_filter, both, check_ranges, field_keys
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    ScoredPoint,
    ServerGallery,
    StoredImage,
    VectorQuery,
    connect,
)
from fti_qdrant.gallery.points import OURS, SHA256_KEY
from fti_qdrant.images import Preprocess
from fti_qdrant.model.openvino_backend import Backend
from fti_qdrant.query import Hit, Hits, Query, Reference
from fti_qdrant.references import (
    LoadedQuery,
    answerable,
    embed_references,
    load_references,
    with_composer,
)

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


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
        self._explainer = QueryExplainer(composer.backbone)

    @classmethod
    def open(
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
    ) -> Self:
        """Opens an embedded gallery.

        Args:
            path: its folder.
            model: by default the model that the gallery was made with.
            inverter: folder or hub repository of an inverter; ``mini`` comes with its own.
            device, precision: see ``Backbone.load``.
            preprocess: by default as the gallery was made; see ``Backbone.load``.
            backend: ``torch``, or ``openvino``, which is faster on a CPU (an extra).
            allow_urls: whether a reference may be an http(s) URL.

        Raises GalleryNotFound, GalleryUnavailable (open in another process), ModelMismatch.
        """
        gallery = EdgeGallery.open(path)
        return cls._over(
            gallery, model, inverter, device, precision, preprocess, backend, allow_urls
        )

    @classmethod
    def connect(
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
    ) -> Self:
        """Opens a collection on a Qdrant server.

        Args:
            url: such as ``http://localhost:6333``.
            collection: its name.
            api_key: by default the environment's ``QDRANT_API_KEY``.
            grpc_port: sends data by gRPC, to this port (Qdrant's default is 6334).
            model, inverter, device, precision, preprocess, backend, allow_urls: as for ``open``.

        Raises GalleryUnavailable (no server, wrong key), GalleryNotFound, ModelMismatch.
        """
        gallery = ServerGallery.open(connect(url, api_key, grpc_port=grpc_port), collection)
        return cls._over(
            gallery, model, inverter, device, precision, preprocess, backend, allow_urls
        )

    @classmethod
    def _over(
        cls,
        gallery: Gallery,
        model: str | None,
        inverter: str | None,
        device: str | torch.device | None,
        precision: str | None,
        preprocess: str | None,
        backend: Backend,
        allow_urls: bool,
    ) -> Self:
        """Loads the model and checks it; closes the gallery where that fails."""
        try:
            made_by = gallery.spec.fingerprint
            composer = Composer.load(
                model or made_by.model,
                inverter,
                device=device,
                precision=precision,
                preprocess=preprocess or Preprocess.if_known(made_by.preprocess),
                backend=backend,
            )
            return cls(composer, gallery, allow_urls=allow_urls)
        except BaseException:
            gallery.close()
            raise

    def query(
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
    ) -> Hits:
        """Images like the reference, changed as the text says, that pass the filter.

        Args:
            image: a picture (path, bytes, file, PIL image, array), the id of a stored image, or
                a list of either. Without it, the text alone is searched.
            text: what should be different. Without it, images like the reference are searched.
            filter: on the payload; a mapping (see ``fti_qdrant.filters``) or a qdrant Filter.
            limit: most hits.
            composer: a name of ``fti_qdrant.composers.registry``; by default the best that the
                loaded model can do, named by ``hits.query.composer``.
            exclude_reference: leave the reference itself out of the hits, recognized by its id,
                or by the content hash of its file.
            score_threshold: least cosine of a hit.
            with_vectors: put image vectors on the hits.
            explain: put an ``Explanation`` on ``hits.explanation``.
            text_weight: share of the text, 0 to 1, for a composer that has this option.
            avoid: what results should not have, such as "stripes".
            weights: one for each reference image; 0 leaves an image out.
            options: further options of the composer; ``fti-search composers`` lists them.

        Returns:
            Hits, best first; ``hits.query`` says which composer answered, with any warnings.

        Raises:
            BadQuery, BadImage, BadFilter, UnknownImageId: the query cannot be answered.
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
                    explain=explain,
                    text_weight=text_weight,
                    avoid=avoid,
                    weights=weights,
                    options=options,
                )
            ]
        )[0]

    def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """Several queries: one batch through each tower of the model, one search request.

        Args:
            queries: ``Query`` objects, or mappings of ``query``'s arguments.

        Raises: as ``query``.
        """
        asked = [_as_query(query) for query in queries]
        if not asked:
            return []
        chosen = [with_composer(query, self.composer) for query in asked]
        filters = [self._checked_filter(query.filter) for query in chosen]
        loaded, references, composed = self._compose(asked, chosen)
        searches = [
            VectorQuery(
                vector=one.unit_vector,
                filter=both(filter, _not_the_reference(query)),
                limit=query.query.limit,
                score_threshold=query.query.score_threshold,
                with_vectors=query.query.with_vectors,
            )
            for query, one, filter in zip(loaded, composed, filters)
        ]
        answers = self.gallery.search_many(searches)
        if not any(answers):
            self._check_not_empty()
        return [
            Hits(
                map(_hit, answer),
                replace(query.query, warnings=one.warnings),
                self._explainer.explain(one, used) if query.query.explain else None,
            )
            for query, answer, one, used in zip(loaded, answers, composed, references)
        ]

    def compose(
        self,
        image: Reference | Sequence[Reference] | None = None,
        text: str | None = None,
        *,
        composer: str | None = None,
        text_weight: float | None = None,
        avoid: str | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ComposedQuery:
        """The query vector alone, for a Qdrant request of your own.

        Args: as for ``query``.

        Raises BadQuery, BadImage, UnknownImageId.
        """
        query = Query(
            image=image,
            text=text,
            composer=composer,
            text_weight=text_weight,
            avoid=avoid,
            weights=weights,
            options=options,
        )
        _, _, (composed,) = self._compose([query], [with_composer(query, self.composer)])
        return composed

    def explain(
        self,
        image: Reference | Sequence[Reference],
        text: str | None = None,
        *,
        composer: str | None = None,
        words: int = 5,
    ) -> Explanation:
        """How the model understands a query: see ``Explanation``.

        ``query(..., explain=True)`` gives the same beside the hits, in one pass of the model.

        Args:
            words: how many words for each pseudo-word.

        Raises as ``query``.
        """
        query = Query(image=image, text=text, composer=composer, explain=True)
        chosen = [with_composer(query, self.composer)]
        _, (references,), (composed,) = self._compose([query], chosen)
        return self._explainer.explain(composed, references, words)

    def _compose(
        self, asked: Sequence[Query], chosen: Sequence[Query]
    ) -> tuple[list[LoadedQuery], list[References | None], list[ComposedQuery]]:
        """Reads and embeds the references, and composes.

        Args:
            asked: the queries as the user gave them.
            chosen: the same from ``with_composer``.
        """
        loaded = [
            answerable(query, original)
            for query, original in zip(
                load_references(chosen, self.gallery, self.allow_urls), asked
            )
        ]
        references = embed_references(loaded, self.composer, self.gallery)
        return loaded, references, compose_queries(loaded, references, self.composer)

    def close(self) -> None:
        """Closes the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_not_empty(self) -> None:
        if self.gallery.count() == 0:
            raise BadQuery(f"gallery {self.gallery.name} is empty; fill it with fti-ingest")

    def _checked_filter(self, spec: FilterLike | None) -> models.Filter | None:
        """Raises BadFilter for a field that no image has, or that has values of another type.

        A misspelled field would match nothing, in silence.
        """
        filter = as_filter(spec)
        for key in field_keys(filter):
            if not self.gallery.has_field(key):
                self._check_not_empty()
                names = {name for _, payload in _sample(self.gallery) for name in payload}
                fields = ", ".join(sorted(names - {OURS})) or "none"
                raise BadFilter(f"{key}: no image has this field; fields are: {fields}")
        check_ranges(filter, self.gallery.spec.indexes)
        return filter


def _as_query(query: Query | Mapping[str, Any]) -> Query:
    if isinstance(query, Query):
        return query
    try:
        return Query(**query)
    except TypeError as error:
        raise BadQuery(
            f"{query!r} is not a query, nor a mapping of the arguments of query ({error})"
        ) from None


def _not_the_reference(query: LoadedQuery) -> models.Filter | None:
    if not query.query.exclude_reference or not query.sources:
        return None
    ids: list[int | str | uuid.UUID] = []
    hashes = []
    for source in query.sources:
        if isinstance(source, StoredImage):
            ids.append(source.id)
        else:
            hashes.append(source.sha256)
    excluded: list[Any] = []
    if hashes:
        match = models.MatchAny(any=hashes)
        excluded.append(models.FieldCondition(key=SHA256_KEY, match=match))
    if ids:
        excluded.append(models.HasIdCondition(has_id=ids))
    return models.Filter(must_not=excluded)


def _hit(point: ScoredPoint) -> Hit:
    ours = point.payload.get(OURS, {})
    payload = {name: value for name, value in point.payload.items() if name != OURS}
    return Hit(point.id, point.score, ours.get("uri"), payload, point.vector)


def _sample(gallery: Gallery, most: int = 100) -> list[tuple[str, dict[str, Any]]]:
    """The first images with their payloads: enough to name the fields."""
    return [pair for pair, _ in zip(gallery.scroll(page=most), range(most))]
