"""``ComposedSearch``: reference images and a text in, filtered hits out."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fti_qdrant.adoption.attach import checked, find_candidate
from fti_qdrant.adoption.declaration import Declaration
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composition import ComposedQuery
from fti_qdrant.confidence import chances_of, within_confidence
from fti_qdrant.errors import BadQuery
from fti_qdrant.explanation import Explanation
from fti_qdrant.feedback import with_feedback
from fti_qdrant.filters.field_choices import facets
from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.filters.stored_fields import StoredFields, check_not_empty
from fti_qdrant.gallery import (
    EdgeGallery,
    FacetCount,
    Gallery,
    ScoredPoint,
)
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.client_options import ClientOptions
from fti_qdrant.gallery.clients import ClientSource, choose_client, open_collection
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess
from fti_qdrant.model.openvino_backend import Backend
from fti_qdrant.query import CutoffBy, Hits, Query, Reference, ReferencePictures
from fti_qdrant.query_model import (
    EXPLAINED_WORDS,
    InCaller,
    ModelTask,
    QueryModel,
    QueryRunner,
    Understood,
)
from fti_qdrant.references import (
    LoadedQuery,
    ReadingRules,
    answerable,
    load_references,
    stored_images,
    with_composer,
)
from fti_qdrant.refinements import OrderLike, SearchParamsLike
from fti_qdrant.vector_queries import as_hit, refined, without_references

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

CalibrationLike = Calibration | str | os.PathLike[str]


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
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
        calibration: CalibrationLike | None = None,
    ):
        """``calibration`` takes the place of the gallery's own; also a file of one.

        Raises ModelMismatch where another model made the gallery's vectors; CheckpointError where
        the file cannot be read.
        """
        gallery.spec.check_model(composer.backbone.fingerprint, gallery.name)
        self.composer = composer
        self.gallery = gallery
        self.allow_urls = allow_urls
        self.allow_paths = allow_paths
        self.limits = limits
        self._calibration = _as_calibration(calibration)
        self._opened = gallery
        self._fields = StoredFields(gallery)
        self._runner: QueryRunner = InCaller(QueryModel(composer, gallery))

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
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Opens an embedded gallery.

        Args:
            path: its folder.
            model: by default the model that the gallery was made with.
            inverter: as ``load_inverter`` takes it, such as ``fti4cir``, a folder, or ORG/REPO on
                the hub; ``mini`` comes with its own.
            device, precision: see ``Backbone.load``.
            preprocess: by default as the gallery was made; see ``Backbone.load``.
            backend: ``torch``, or ``openvino``, which is faster on a CPU (an extra).
            allow_urls: whether a reference may be an http(s) URL.
            allow_paths: whether a reference may be a path on this machine. Pass False where
                references come from others: every path is then refused, whether there is a file
                or not, and images are given as bytes or as ids.
            limits: of each reference image.

        Raises GalleryNotFound, GalleryUnavailable (open in another process), ModelMismatch.
        """
        return cls.over(
            EdgeGallery.open(path),
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

    @classmethod
    def connect(
        cls,
        url: ClientSource,
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
    ) -> Self:
        """Opens a collection on a Qdrant server.

        Args:
            url: such as ``http://localhost:6333``; or a ``QdrantClient`` of your own, which is
                used as it is and never closed; or the folder of qdrant-client's local mode.
            collection: its name.
            api_key: by default the environment's ``QDRANT_API_KEY``.
            grpc_port: sends data by gRPC, to this port (Qdrant's default is 6334).
            timeout: seconds for one request, 30 by default.
            headers: sent with every request.
            prefix: path of the server behind a proxy, where it is not in the URL.
            ca_file: PEM file of the authority that signed the server's certificate.
            model, inverter, device, precision, preprocess, backend, allow_urls, allow_paths,
                limits: as for ``open``.

        Raises GalleryUnavailable (no server, wrong key, options beside a client that has its own),
        GalleryNotFound, ModelMismatch.
        """
        options = ClientOptions.of(timeout, headers, prefix, ca_file)
        return cls.over(
            open_collection(url, collection, api_key=api_key, grpc_port=grpc_port, options=options),
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

    @classmethod
    def attach(
        cls,
        client: ClientSource,
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
    ) -> Self:
        """Searches a collection that another program made; writes nothing into it.

        The model that made its vectors is declared and checked: by their size, and by the images
        of some points, which are embedded again and compared with what is stored.

        Args:
            client: as for ``connect``.
            model: what made the vectors, also by the names of other tools, such as
                ``clip-ViT-B-32``; may be left out where the name of the vector or the collection's
                metadata says it.
            vector: name of the image vector, ``""`` for the unnamed one; may be left out where
                there is only one.
            uri_field: payload field that says where an image is: a path, a URL, ``s3://``, or the
                image itself in base64. Without it nothing is checked, and every answer says so.
            image_root: folder or URI that relative values of ``uri_field`` begin at.
            check: how many images to compare; 0 checks nothing.
            preprocess: how pictures were prepared; by default as other tools do for the model,
                ``center-crop`` for a CLIP.
            calibration: what gives hits a confidence: a ``Calibration``, or a file of one, from
                ``fti-eval calibrate --out FILE``. By default, what an adopted collection stores.
            inverter, api_key, grpc_port, timeout, headers, prefix, ca_file, device, precision,
                backend, allow_urls, allow_paths, limits: as for ``connect``.

        Raises:
            BadCollection: no vector that can be used, several and none named, or a wrong name.
            ModelMismatch: another model made the vectors; the message says what fits better.
            UnsupportedModel, GalleryNotFound, GalleryUnavailable, CheckpointError.
        """
        declared = Declaration(
            model, vector, uri_field, image_root, preprocess=preprocess, check=check
        )
        options = ClientOptions.of(timeout, headers, prefix, ca_file)
        calibration = _as_calibration(calibration)  # a bad file is refused before all else
        chosen = choose_client(client, api_key=api_key, grpc_port=grpc_port, options=options)
        try:
            candidate = find_candidate(chosen.client, collection, declared)
            composer, spec = checked(
                candidate,
                inverter=inverter,
                device=device,
                precision=precision,
                backend=backend,
                limits=limits,
            )
        except BaseException:
            chosen.close()
            raise
        gallery = candidate.gallery(chosen.client, spec, owns_client=chosen.ours)
        return cls(
            composer,
            gallery,
            allow_urls=allow_urls,
            allow_paths=allow_paths,
            limits=limits,
            calibration=calibration,
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
        preprocess: str | None = None,
        backend: Backend = "torch",
        allow_urls: bool = False,
        allow_paths: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Searches an open gallery, which is closed where the model cannot be loaded.

        Args:
            model, inverter, device, precision, preprocess, backend, allow_urls, allow_paths,
                limits: as for ``open``.

        Raises ModelMismatch.
        """
        try:
            made_by = gallery.spec.fingerprint
            chosen = preprocess or Preprocess.if_known(made_by.preprocess)
            composer = Composer.load(
                model or made_by.model,
                inverter,
                device=device,
                precision=precision,
                preprocess=chosen,
                backend=backend,
            )
            return cls(
                composer, gallery, allow_urls=allow_urls, allow_paths=allow_paths, limits=limits
            )
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
        """Images like the reference, changed as the text says, that pass the filter.

        Args:
            image: a picture (path, bytes, file, PIL image, array), the id of a stored image, a
                ``Cropped`` part of either, or a list of these. Without it, the text alone is
                searched.
            text: what should be different. Without it, images like the reference are searched.
            filter: on the payload; a mapping (see ``fti_qdrant.filters.grammar``) or a qdrant
                Filter.
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
            like, dislike: ids of stored images, such as a user's clicks. The query moves towards
                the mean of the first and away from that of the others (see ``feedback``); with
                ``exclude_reference`` they are not hits themselves.
            offset: hits (or groups) to skip; beyond the end there are none.
            cutoff: keep hits with at least this share of the best one's confidence, above 0 to 1;
                where the gallery is not calibrated for such a query, of its score.
                ``hits.query.cutoff_by`` says which.
            min_confidence: keep hits that are right with at least this chance, 0 to 1; the gallery
                must be calibrated for such queries (``fti-eval calibrate``).
            diversity: 0 to 1, by maximal marginal relevance: each next hit is the best by
                ``(1 - diversity) score - diversity (its greatest cosine with the hits before)``,
                of the 500 nearest images.
            order_by: a field of numbers or dates, ``"price"`` or ``"-price"`` (descending), for
                all that ``cutoff``, ``min_confidence`` or ``score_threshold`` leaves.
            group_by: a field of texts or whole numbers, such as a product's id: ``limit`` then
                counts groups. An image without the field is in none, one with a list in several.
            group_size: most hits of each group; they follow each other, see ``hits.groups``.
            with_payload: False, or the fields to put on the hits.
            exact: compare with every vector (True), or use the index where there is one (False);
                by default embedded galleries are exact, and servers use their index.
            search_params: of the index, such as ``{"hnsw_ef": 256}`` or ``{"acorn": {"enable":
                True}}``, as qdrant's ``SearchParams``; an exact search needs none.

        Returns:
            Hits, best first, or in the order asked for; ``hits.query`` says which composer
            answered, with any warnings.

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
            ]
        )[0]

    def query_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[Hits]:
        """Several queries: one batch through each tower of the model, one search request.

        Args:
            queries: ``Query`` objects, or mappings of ``query``'s arguments.

        Raises: as ``query``.
        """
        self.gallery.check_open()
        asked = [_as_query(query) for query in queries]
        if not asked:
            return []
        chosen = [with_composer(query, self.composer) for query in asked]
        for query in chosen:
            self._chances(query)  # what cannot be answered is refused before the model runs
        layout = self.gallery.spec.layout
        plans = [refined(query, self._fields) for query in chosen]
        loaded, understood = self._understand(asked, chosen)
        chances = [self._chances(one.query) for one in loaded]
        searches = [
            replace(
                within_confidence(plan, query.query, known),
                vector=one.composed.unit_vector,
                filter=without_references(plan.filter, query, layout),
            )
            for query, one, plan, known in zip(loaded, understood, plans, chances)
        ]
        answers = self.gallery.search_many(searches)
        if not any(answers):
            check_not_empty(self.gallery)
        return [
            self._hits(query, answer, one, known)
            for query, answer, one, known in zip(loaded, answers, understood, chances)
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
        like: Reference | Sequence[Reference] | None = None,
        dislike: Reference | Sequence[Reference] | None = None,
    ) -> ComposedQuery:
        """The query vector alone, for a Qdrant request of your own: see docs/recipes.md.

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
            like=like,
            dislike=dislike,
        )
        return self.compose_many([query])[0]

    def compose_many(self, queries: Sequence[Query | Mapping[str, Any]]) -> list[ComposedQuery]:
        """The vectors of several queries: one batch through each tower of the model.

        Args:
            queries: as for ``query_many``; what they say about the search does not matter.

        Raises BadQuery, BadImage, UnknownImageId.
        """
        asked = [_as_query(query) for query in queries]
        if not asked:
            return []
        chosen = [with_composer(query, self.composer) for query in asked]
        return [one.composed for one in self._understand(asked, chosen)[1]]

    def explain(
        self,
        image: Reference | Sequence[Reference],
        text: str | None = None,
        *,
        composer: str | None = None,
        words: int = EXPLAINED_WORDS,
    ) -> Explanation:
        """How the model understands a query: see ``Explanation``.

        ``query(..., explain=True)`` gives the same beside the hits, in one pass of the model.

        Args:
            words: how many words for each pseudo-word.

        Raises as ``query``.
        """
        query = Query(image=image, text=text, composer=composer, explain=True)
        chosen = [with_composer(query, self.composer)]
        (loaded,), (understood,) = self._understand([query], chosen, words)
        assert understood.explanation is not None
        return replace(understood.explanation, pictures=self._pictures(loaded))

    def _understand(
        self,
        asked: Sequence[Query],
        chosen: Sequence[Query],
        words: int = EXPLAINED_WORDS,
    ) -> tuple[list[LoadedQuery], list[Understood]]:
        """Reads and embeds the references, composes, and explains where a query asks for it.

        Args:
            asked: the queries as the user gave them.
            chosen: the same from ``with_composer``.
            words: of an explanation.
        """
        self.gallery.check_open()  # after a fork the model would wait for ever, too
        rated = stored_images(
            [one for query in chosen for one in (*query.liked, *query.disliked)], self.gallery
        )
        rules = ReadingRules(self.allow_urls, self.allow_paths, self.limits)
        read = load_references(chosen, self.gallery, rules, self.composer, self._runner.read)
        loaded = [answerable(query, original) for query, original in zip(read, asked)]
        understood = self._runner.understand(ModelTask(loaded, words))
        moved = with_feedback(chosen, [one.composed for one in understood], rated)
        return loaded, [replace(one, composed=new) for one, new in zip(understood, moved)]

    def facets(
        self, field: str, *, filter: FilterLike | None = None, limit: int = 10
    ) -> list[FacetCount]:
        """The values of a payload field with their numbers of images, the most frequent first.

        Args:
            field: with a payload index of texts, whole numbers, or true and false.
            filter: counts only images that pass it, as for ``query``.
            limit: most values.

        Returns:
            Pairs ``(value, count)``; values with equal counts are in their own order.

        Raises BadQuery (no such field, or no such index: the message says how to make it),
        BadFilter.
        """
        return facets(self._fields, field, filter, limit)

    def _hits(
        self,
        loaded: LoadedQuery,
        answer: Sequence[ScoredPoint],
        understood: Understood,
        chances: ChanceMap | None,
    ) -> Hits:
        spec = self.gallery.spec
        problem = self.calibration.problem
        warnings = (*understood.composed.warnings, *spec.warnings, *([problem] if problem else []))
        by: CutoffBy = "confidence" if chances else "score"
        cutoff_by = None if loaded.query.cutoff is None else by
        query = replace(loaded.query, warnings=warnings, cutoff_by=cutoff_by)
        pictures = self._pictures(loaded)
        explanation = understood.explanation
        if explanation is not None:
            explanation = replace(explanation, pictures=pictures)
        hits = [as_hit(point, query, spec.layout, chances) for point in answer]
        return Hits(hits, query, explanation, pictures)

    @property
    def calibration(self) -> Calibration:
        """What gives hits a confidence: the one that was passed, or the gallery's own."""
        return self._opened.calibration if self._calibration is None else self._calibration

    def _chances(self, query: Query) -> ChanceMap | None:
        return chances_of(query, self.composer, self.calibration)

    def _running(self, gallery: Gallery, runner: QueryRunner) -> Self:
        """The same search with another way to its gallery, and another runner."""
        other = copy.copy(self)
        other.gallery = gallery
        other._fields = StoredFields(gallery)
        other._runner = runner
        return other

    def _pictures(self, loaded: LoadedQuery) -> ReferencePictures:
        places = loaded.pictures(self.gallery.spec.layout)
        return ReferencePictures(places, self.allow_urls, self.limits)

    def close(self) -> None:
        """Closes the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_query(query: Query | Mapping[str, Any]) -> Query:
    if isinstance(query, Query):
        return query
    try:
        return Query(**query)
    except TypeError as error:
        raise BadQuery(
            f"{query!r} is not a query, nor a mapping of the arguments of query ({error})"
        ) from None


def _as_calibration(given: CalibrationLike | None) -> Calibration | None:
    """Raises CheckpointError."""
    if given is None or isinstance(given, Calibration):
        return given
    return Calibration.read(os.fspath(given))
