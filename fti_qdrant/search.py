"""``ComposedSearch``: reference images and a text in, filtered hits out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composition import compose_queries
from fti_qdrant.errors import BadQuery
from fti_qdrant.filters import FilterLike, both
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
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.model.explain import Explainer, Explanation
from fti_qdrant.query import Hit, Hits, Query, Reference
from fti_qdrant.references import (
    LoadedQuery,
    embed_references,
    load_references,
    with_composer,
)
from fti_qdrant.stored_fields import StoredFields, check_not_empty

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


class ComposedSearch:
    """Composed image search over one gallery. Safe to use from several threads.

    Example:
        >>> search = ComposedSearch.open("gallery")                        # doctest: +SKIP
        >>> search.query("dress.jpg", "in red", filter={"price": {"lt": 50}})  # doctest: +SKIP
    """

    def __init__(
        self,
        composer: Composer,
        gallery: Gallery,
        *,
        allow_urls: bool = False,
        limits: ImageLimits = DEFAULT_LIMITS,
    ):
        """Raises ModelMismatch where another model made the gallery's vectors."""
        gallery.spec.check_model(composer.backbone.fingerprint, gallery.name)
        self.composer = composer
        self.gallery = gallery
        self.allow_urls = allow_urls
        self.limits = limits
        self._fields = StoredFields(gallery)
        self._explainer = Explainer(composer.backbone)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        allow_urls: bool = False,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Opens an embedded gallery.

        Args:
            path: its folder.
            model: by default the model that the gallery was made with.
            inverter: folder or hub repository of an inverter; ``mini`` comes with its own.
            device, precision: see ``Backbone.load``.
            allow_urls: whether a reference may be an http(s) URL.
            limits: of each reference image.

        Raises GalleryNotFound, GalleryUnavailable (open in another process), ModelMismatch.
        """
        return cls.over(
            EdgeGallery.open(path),
            model=model,
            inverter=inverter,
            device=device,
            precision=precision,
            allow_urls=allow_urls,
            limits=limits,
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
        allow_urls: bool = False,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Opens a collection on a Qdrant server.

        Args:
            url: such as ``http://localhost:6333``.
            collection: its name.
            api_key: by default the environment's ``QDRANT_API_KEY``.
            grpc_port: sends data by gRPC, to this port (Qdrant's default is 6334).
            model, inverter, device, precision, allow_urls, limits: as for ``open``.

        Raises GalleryUnavailable (no server, wrong key), GalleryNotFound, ModelMismatch.
        """
        return cls.over(
            ServerGallery.open(connect(url, api_key, grpc_port=grpc_port), collection),
            model=model,
            inverter=inverter,
            device=device,
            precision=precision,
            allow_urls=allow_urls,
            limits=limits,
        )

    @classmethod
    def over(
        cls,
        gallery: Gallery,
        *,
        model: str | None = None,
        inverter: str | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        allow_urls: bool = False,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Searches an open gallery, which is closed where the model cannot be loaded.

        Args:
            model, inverter, device, precision, allow_urls, limits: as for ``open``.

        Raises ModelMismatch.
        """
        try:
            name = model or gallery.spec.fingerprint.model
            composer = Composer.load(name, inverter, device=device, precision=precision)
            return cls(composer, gallery, allow_urls=allow_urls, limits=limits)
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
    ) -> Hits:
        """Images like the reference, changed as the text says, that pass the filter.

        Args:
            image: a picture (path, bytes, file, PIL image, array), the id of a stored image, or
                a list of either. Without it, the text alone is searched.
            text: what should be different. Without it, images like the reference are searched.
            filter: on the payload; a mapping (see ``fti_qdrant.filters``) or a qdrant Filter.
            limit: most hits.
            composer: a name of ``fti_qdrant.composers.registry``; by default ``fti`` with an
                inverter, else ``sum``.
            exclude_reference: leave the reference itself out of the hits, recognized by its id,
                or by the content hash of its file.
            score_threshold: least cosine of a hit.
            with_vectors: put image vectors on the hits.
            explain: put an explanation of each reference image on ``hits.explanations``.

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
                )
            ]
        )[0]

    def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """Several queries: one batch through each tower of the model, one search request.

        Args:
            queries: ``Query`` objects, or mappings of ``query``'s arguments.

        Raises: as ``query``.
        """
        self.gallery.check_open()  # after a fork the model would wait for ever, too
        asked = [with_composer(_as_query(query), self.composer) for query in queries]
        if not asked:
            return []
        filters = [self._fields.checked(query.filter) for query in asked]
        loaded = load_references(asked, self.gallery, self.allow_urls, self.limits)
        references = embed_references(loaded, self.composer, self.gallery)
        composed = compose_queries(loaded, references, self.composer)
        searches = [
            VectorQuery(
                vector=one.vector.cpu().numpy(),
                filter=both(filter, _not_the_reference(query)),
                limit=query.query.limit,
                score_threshold=query.query.score_threshold,
                with_vectors=query.query.with_vectors,
            )
            for query, one, filter in zip(loaded, composed, filters)
        ]
        answers = self.gallery.search_many(searches)
        if not any(answers):
            check_not_empty(self.gallery)
        return [
            Hits(
                map(_hit, answer),
                replace(query.query, warnings=(*query.query.warnings, *one.warnings)),
                self._explanations(used) if query.query.explain else (),
            )
            for query, answer, one, used in zip(loaded, answers, composed, references)
        ]

    def explain(self, image: Reference, *, words: int = 5) -> Explanation:
        """For the subject and each attribute token, the nearest vocabulary words with cosines.

        ``query(..., explain=True)`` gives the same beside the hits, in one pass of the model.

        Args:
            words: how many words for each token.

        Raises BadQuery where no inverter is loaded; otherwise as ``query``.
        """
        self.gallery.check_open()
        query = with_composer(Query(image=image, explain=True), self.composer)
        loaded = load_references([query], self.gallery, self.allow_urls, self.limits)
        (references,) = embed_references(loaded, self.composer, self.gallery)
        return self._explanations(references, words)[0]

    def close(self) -> None:
        """Closes the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _explanations(
        self, references: References | None, words: int = 5
    ) -> tuple[Explanation, ...]:
        tokens = references.words if references else None
        if tokens is None:
            return ()
        return tuple(
            self._explainer.explain(tokens.take([row]), words) for row in range(len(tokens))
        )


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
