"""A gallery on a Qdrant server, by qdrant-client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import QdrantClient, models
from tenacity import Retrying, retry_if_result, wait_fixed

from fti_qdrant.errors import BadCollection
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.point_conversion import (
    point_vectors,
    scored_point,
    stored_images,
    vector_names,
)
from fti_qdrant.gallery.point_ids import StoredId, stored_form
from fti_qdrant.gallery.points import (
    FacetCount,
    GalleryPoint,
    GallerySpec,
    Payload,
    PointId,
    ScoredPoint,
    StoredImage,
    WordsSpec,
    check_points,
)
from fti_qdrant.gallery.protocol import GalleryState, VectorQuery
from fti_qdrant.gallery.request_limits import RequestLimits
from fti_qdrant.gallery.search_steps import answer_all, in_order
from fti_qdrant.gallery.server_calls import ServerCalls
from fti_qdrant.gallery.server_collection import SEARCH_LINKS, read_config
from fti_qdrant.gallery.server_connection import gallery_name, url_of
from fti_qdrant.gallery.server_opening import (
    CALIBRATION_KEY,
    SPEC_KEY,
    create_collection,
    find_collection,
)
from fti_qdrant.gallery.server_requests import features_of, group_options, search_request
from fti_qdrant.gallery.server_state import gallery_state, is_busy
from fti_qdrant.gallery.server_words import WordsPlace

if TYPE_CHECKING:
    from typing_extensions import Self


class ServerGallery(ServerCalls):
    """A collection on a Qdrant server. Safe to use from several threads.

    Use ``create`` or ``open``.
    """

    exact_by_default = False

    def __init__(self, client: QdrantClient, collection: str, spec: GallerySpec, name: str):
        """``name`` is for messages."""
        super().__init__(client, collection, spec, name)
        self._fields: set[str] = set()

    @property
    def address(self) -> str:
        return f"{url_of(self.client)}/collections/{self.collection}"

    @classmethod
    def create(
        cls,
        client: QdrantClient,
        collection: str,
        spec: GallerySpec,
        storage: CollectionConfig | None = None,
        patience: float | None = None,
    ) -> Self:
        """Creates a collection with its payload indexes, which must exist before the data.

        ``patience`` as the attribute.

        Raises:
            GalleryExists: there is one already.
            GalleryUnavailable: the server refuses, or is too old.
        """
        create_collection(client, collection, spec, storage or CollectionConfig(), patience)
        made = cls(client, collection, spec, gallery_name(client, collection))
        made.patience = patience
        made.index_fields()
        return made

    @classmethod
    def open(cls, client: QdrantClient, collection: str, patience: float | None = None) -> Self:
        """Opens an existing collection; ``patience`` as the attribute.

        Args:
            collection: its name, or an alias; the gallery keeps to the collection that the alias
                stands for now.

        Raises:
            GalleryNotFound: the server has no such collection.
            NotAGallery: a collection of another program.
            GalleryUnavailable: no server, access refused, or a server that is too old.
        """
        found = find_collection(client, collection, patience)
        opened = cls(client, found.collection, found.spec, found.name)
        opened.patience = patience
        opened.alias = found.alias
        opened.calibration = found.calibration
        opened.limits = RequestLimits.of(found.config, found.spec.layout.image_vector)
        return opened

    def index_fields(self) -> None:
        """Creates missing payload indexes: an earlier creation may have been interrupted.

        None in a collection that another program made.
        """
        for field, kind in self.spec.payload_indexes.items() if self.spec.layout.ours else ():
            schema = models.PayloadSchemaType(kind)
            self._write(self.client.create_payload_index, self.collection, field, schema, wait=True)

    def storage(self) -> CollectionConfig:
        """How the collection stores its vectors."""
        return read_config(self._info().config, self.spec.layout.image_vector)

    def upsert(self, points: Sequence[GalleryPoint]) -> None:
        points = list(points)
        check_points(points, self.spec)
        size = self.limits.upload
        for start in range(0, len(points), size):
            part = points[start : start + size]
            if self._words.beside is not None:
                self.store_words({one.id: one.words for one in part if one.words is not None})
            structs = [self._struct(point) for point in part]
            upsert = self._repeated(self.client.upsert)
            self._write(upsert, self.collection, points=structs, wait=True)

    def search(self, query: VectorQuery) -> list[ScoredPoint]:
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        return answer_all(queries, self._ask, self.count, makes_groups=True)

    def retrieve(self, ids: Sequence[PointId]) -> list[StoredImage]:
        wanted = [stored_form(one) for one in ids]
        names = vector_names(self.spec, words=True)
        records = self._call(
            self.client.retrieve, self.collection, wanted, with_payload=True, with_vectors=names
        )
        found = stored_images(records, self.spec.layout)
        for id, words in self._words.beside_images(list(found)).items():
            found[id] = replace(found[id], words=words)
        return [found[one] for one in wanted if one in found]

    def count(self, filter: models.Filter | None = None) -> int:
        ask = self._call if filter is None else self._search
        return int(ask(self.client.count, self.collection, count_filter=filter, exact=True).count)

    def scroll(
        self, page: int = 1000, filter: models.Filter | None = None
    ) -> Iterator[tuple[StoredId, Payload]]:
        offset, page = None, self.limits.page(page)
        while True:
            records, offset = self._call(
                self.client.scroll,
                self.collection,
                scroll_filter=filter,
                limit=page,
                offset=offset,
                with_payload=True,
            )
            for record in records:
                yield stored_form(record.id), record.payload or {}
            if offset is None:
                return

    def sample(self, filter: models.Filter | None = None, most: int = 100) -> list[Payload]:
        records, _ = self._call(
            self.client.scroll,
            self.collection,
            scroll_filter=filter,
            limit=self.limits.page(most),
            with_payload=True,
        )
        return [record.payload or {} for record in records]

    def random_vectors(self, count: int) -> dict[StoredId, np.ndarray]:
        found = self._call(
            self.client.query_points,
            self.collection,
            query=models.SampleQuery(sample=models.Sample.RANDOM),
            limit=self.limits.page(count),
            with_payload=False,
            with_vectors=vector_names(self.spec),
        )
        drawn = stored_images(found.points, self.spec.layout)
        return {id: image.vector for id, image in drawn.items()}

    def has_field(self, key: str) -> bool:
        if key not in self._fields:
            empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
            records, _ = self._call(
                self.client.scroll,
                self.collection,
                scroll_filter=models.Filter(must_not=[empty]),
                limit=1,
                with_payload=False,
            )
            if records:
                self._fields.add(key)
        return key in self._fields

    def facets(
        self, field: str, filter: models.Filter | None = None, limit: int = 10
    ) -> list[FacetCount]:
        self.able.require("facets", self.name)
        options = {"facet_filter": filter, "limit": limit, "exact": True}
        found = self._search(self.client.facet, self.collection, field, **options)
        return [FacetCount(hit.value, hit.count) for hit in found.hits]

    def indexes(self) -> Mapping[str, str]:
        """Those made with the collection, and those that were added on the server."""
        info = self._info()
        there = {name: one.data_type.value for name, one in info.payload_schema.items()}
        return {**self.spec.payload_indexes, **there}

    def delete(self, ids: Sequence[PointId]) -> None:
        unwanted: list[Any] = [stored_form(one) for one in ids]
        if unwanted:
            selector = models.PointIdsList(points=unwanted)
            self._write(self.client.delete, self.collection, points_selector=selector, wait=True)
            self._words.delete(unwanted)

    def add_words(self, words: WordsSpec) -> None:
        layout = self._words.make(words)
        spec = self.spec.model_copy(update={"words": words, "layout": layout})
        ours = {SPEC_KEY: spec.model_dump(mode="json")}
        self._write(self.client.update_collection, self.collection, metadata=ours)
        self.spec = spec

    def lacking_words(self, ids: Sequence[StoredId]) -> list[StoredId]:
        return self._words.lacking(ids)

    def store_words(self, words: Mapping[StoredId, np.ndarray]) -> None:
        ids = list(words)
        for start in range(0, len(ids), self.limits.upload):
            part = ids[start : start + self.limits.upload]
            self._words.store({id: words[id] for id in part})

    def store_calibration(self, calibration: Calibration) -> None:
        if self.attached:
            raise BadCollection(
                f"{self.name} was attached, and nothing is written into it; write the calibration "
                "into a file and pass that to attach(calibration=...), or adopt the collection "
                "with fti-ingest adopt and connect to it"
            )
        ours = {CALIBRATION_KEY: calibration.model_dump(mode="json")}
        self._write(self.client.update_collection, self.collection, metadata=ours)
        self.calibration = calibration

    @property
    def _words(self) -> WordsPlace:
        ask = (self._call, self._write)
        return WordsPlace(self.client, self.collection, self.spec.layout, *ask)

    def begin_bulk(self) -> None:
        """Turns index building off during a bulk load: it saves memory and repeated work."""
        self._set_links(0)

    def end_bulk(self) -> None:
        """Turns index building on again, as after ``create``."""
        self._set_links(SEARCH_LINKS)

    def _set_links(self, links: int) -> None:
        config = models.HnswConfigDiff(m=links)
        self._write(self.client.update_collection, self.collection, hnsw_config=config)

    def build_index(self) -> int:
        """Waits: a server builds its index by itself."""
        settled = Retrying(retry=retry_if_result(is_busy), wait=wait_fixed(1))
        return settled(self.state).indexed

    def state(self) -> GalleryState:
        return gallery_state(self._info(), self.count(), self.spec.layout.ours)

    def flush(self) -> None:
        """Does nothing: a server flushes by itself, and ``upsert`` has waited for it."""

    def _ask(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """One request for all queries, and one for each that makes groups."""
        for feature in {feature for query in queries for feature in features_of(query)}:
            self.able.require(feature, self.name)
        requests = [
            search_request(query, self.spec, self.limits) for query in queries if not query.group_by
        ]
        answers = iter(self._batches(requests))
        return [
            self._groups(query)
            if query.group_by
            else in_order(self._scored(next(answers).points), query)
            for query in queries
        ]

    def _batches(self, requests: Sequence[models.QueryRequest]) -> list[models.QueryResponse]:
        """In one request, or in as many as strict mode wants."""
        size = self.limits.searches or max(len(requests), 1)
        batch = self.client.query_batch_points
        return [
            answer
            for start in range(0, len(requests), size)
            for answer in self._search(
                batch, self.collection, requests=requests[start : start + size]
            )
        ]

    def _groups(self, query: VectorQuery) -> list[ScoredPoint]:
        options = group_options(query, self.spec, self.limits)
        found = self._search(self.client.query_points_groups, self.collection, **options)
        return [
            replace(hit, group=group.id)
            for group in found.groups
            for hit in self._scored(group.hits)
        ]

    def _scored(self, hits: Sequence[Any]) -> list[ScoredPoint]:
        return [scored_point(hit, self.spec.layout) for hit in hits]

    def _struct(self, point: GalleryPoint) -> models.PointStruct:
        vectors = point_vectors(point, self.spec.layout)
        return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)
