"""A gallery on a Qdrant server, by qdrant-client."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from qdrant_client import QdrantClient, models
from tenacity import Retrying, retry_if_result, wait_fixed

from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
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
    check_points,
)
from fti_qdrant.gallery.protocol import GalleryState, VectorQuery, after_fork
from fti_qdrant.gallery.search_steps import answer_all, in_order
from fti_qdrant.gallery.server_collection import (
    SEARCH_LINKS,
    creation_options,
    read_config,
)
from fti_qdrant.gallery.server_connection import gallery_name, url_of
from fti_qdrant.gallery.server_errors import retrying, translated
from fti_qdrant.gallery.server_requests import group_options, search_request

if TYPE_CHECKING:
    from typing_extensions import Self

SPEC_KEY = "fti_qdrant"
"""Our key in the collection's own metadata."""

REQUEST_POINTS = 64
"""Points per upsert request: under 5 MB with the pseudo-words of a ViT-L."""

BUSY = "busy"
STATES = {
    models.CollectionStatus.GREEN: "idle; everything is optimized",
    models.CollectionStatus.YELLOW: f"{BUSY} optimizing",
    models.CollectionStatus.GREY: "waiting; it starts with the next update",
    models.CollectionStatus.RED: "failed; see the server's log",
}
"""The colors of a collection, in words."""

T = TypeVar("T")


class ServerGallery:
    """A collection on a Qdrant server. Safe to use from several threads."""

    def __init__(self, client: QdrantClient, collection: str, spec: GallerySpec, name: str):
        """Use ``create`` or ``open``; ``name`` is for messages."""
        self.client = client
        self.collection = collection
        self.spec = spec
        self.name = name
        self.patience: float | None = None
        """Seconds to wait for a server that does not answer; None retries uploads a few times."""
        self.owns_client = True
        """Whether ``close`` closes the client; False for one that belongs to the user."""
        self._closed = False
        self._pid = os.getpid()
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

        Raises GalleryUnavailable: it exists already, or the server refuses.
        """
        name = gallery_name(client, collection)
        storage = storage or CollectionConfig()

        tries = count(1)

        def make() -> None:
            if next(tries) > 1 and client.collection_exists(collection):
                return  # created by an earlier attempt whose answer was lost
            client.create_collection(
                collection,
                metadata={SPEC_KEY: spec.model_dump(mode="json")},
                **creation_options(storage, spec),
            )

        with translated(name):
            if retrying(client.collection_exists, patience)(collection):
                raise GalleryUnavailable(f"{name} exists already; open it, or choose another name")
            retrying(make, patience)()
        made = cls(client, collection, spec, name)
        made.patience = patience
        made.index_fields()
        return made

    @classmethod
    def open(cls, client: QdrantClient, collection: str, patience: float | None = None) -> Self:
        """Opens an existing collection; ``patience`` as the attribute.

        Raises:
            GalleryNotFound: the server has no such collection.
            GalleryUnavailable: no server, access refused, or a collection that is not ours.
        """
        name = gallery_name(client, collection)
        with translated(name):
            if not retrying(client.collection_exists, patience)(collection):
                there = retrying(client.get_collections, patience)().collections
                names = ", ".join(one.name for one in there)
                raise GalleryNotFound(
                    f"no {name}; the server has: {names or 'no collections'}. Create one with: "
                    f"fti-ingest IMAGES --url URL --collection {collection}"
                )
            info = retrying(client.get_collection, patience)(collection)
            metadata = info.config.metadata or {}
        if SPEC_KEY not in metadata:
            raise GalleryUnavailable(
                f"{name} was not made by fti-qdrant (no {SPEC_KEY!r} in its metadata), so its "
                "model is unknown; declare it once with fti-ingest adopt, or at each start with "
                "ComposedSearch.attach; or ingest into a new collection"
            )
        spec = GallerySpec.read(json.dumps(metadata[SPEC_KEY]), name)
        opened = cls(client, collection, spec, name)
        opened.patience = patience
        return opened

    def index_fields(self) -> None:
        """Creates missing payload indexes: an earlier creation may have been interrupted.

        None in a collection that another program made.
        """
        for field, kind in self.spec.payload_indexes.items() if self.spec.layout.ours else ():
            schema = models.PayloadSchemaType(kind)
            self._call(self.client.create_payload_index, self.collection, field, schema, wait=True)

    def storage(self) -> CollectionConfig:
        """How the collection stores its vectors."""
        info = self._call(self.client.get_collection, self.collection)
        return read_config(info.config.params, self.spec.layout)

    def upsert(self, points: Sequence[GalleryPoint]) -> None:
        points = list(points)
        check_points(points, self.spec)
        for start in range(0, len(points), REQUEST_POINTS):
            structs = [self._struct(point) for point in points[start : start + REQUEST_POINTS]]
            upsert = retrying(self.client.upsert) if self.patience is None else self.client.upsert
            self._call(upsert, self.collection, points=structs, wait=True)

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
        return [found[one] for one in wanted if one in found]

    def count(self, filter: models.Filter | None = None) -> int:
        call = self._call(self.client.count, self.collection, count_filter=filter, exact=True)
        return int(call.count)

    def scroll(self, page: int = 1000) -> Iterator[tuple[StoredId, Payload]]:
        offset = None
        while True:
            records, offset = self._call(
                self.client.scroll, self.collection, limit=page, offset=offset, with_payload=True
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
            limit=most,
            with_payload=True,
        )
        return [record.payload or {} for record in records]

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
        options = {"facet_filter": filter, "limit": limit, "exact": True}
        found = self._call(self.client.facet, self.collection, field, **options)
        return [FacetCount(hit.value, hit.count) for hit in found.hits]

    def indexes(self) -> Mapping[str, str]:
        """Those made with the collection, and those that were added on the server."""
        info = self._call(self.client.get_collection, self.collection)
        there = {name: one.data_type.value for name, one in info.payload_schema.items()}
        return {**self.spec.payload_indexes, **there}

    def index_command(self, field: str, kind: str) -> str:
        return f"QdrantClient(URL).create_payload_index({self.collection!r}, {field!r}, {kind!r})"

    def delete(self, ids: Sequence[PointId]) -> None:
        unwanted: list[Any] = [stored_form(one) for one in ids]
        if unwanted:
            selector = models.PointIdsList(points=unwanted)
            self._call(self.client.delete, self.collection, points_selector=selector, wait=True)

    def begin_bulk(self) -> None:
        """Turns index building off during a bulk load: it saves memory and repeated work."""
        self._set_links(0)

    def end_bulk(self) -> None:
        """Turns index building on again, as after ``create``."""
        self._set_links(SEARCH_LINKS)

    def _set_links(self, links: int) -> None:
        config = models.HnswConfigDiff(m=links)
        self._call(self.client.update_collection, self.collection, hnsw_config=config)

    def build_index(self) -> int:
        """Waits: a server builds its index by itself."""
        settled = Retrying(
            retry=retry_if_result(lambda state: state.optimizer.startswith(BUSY)),
            wait=wait_fixed(1),
        )
        return settled(self.state).indexed

    def state(self) -> GalleryState:
        info = self._call(self.client.get_collection, self.collection)
        problem = getattr(info.optimizer_status, "error", None)
        return GalleryState(
            points=self.count(),
            indexed=int(info.indexed_vectors_count or 0),
            segments=int(info.segments_count or 0),
            optimizer=f"failed: {problem}" if problem else STATES[info.status],
            bulk=self.spec.layout.ours and info.config.hnsw_config.m == 0,
        )

    def flush(self) -> None:
        """Does nothing: a server flushes by itself, and ``upsert`` has waited for it."""

    def close(self) -> None:
        if not self._closed and os.getpid() == self._pid:  # of a fork, it is the parent's
            self._closed = True
            if self.owns_client:
                self.client.close()

    def check_open(self) -> None:
        if os.getpid() != self._pid:
            raise after_fork(self.name)
        if self._closed:
            raise GalleryUnavailable(f"{self.name} is closed; connect again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        self.check_open()
        with translated(self.name):
            if self.patience is not None:  # every call of a gallery may safely be repeated
                function = retrying(function, self.patience)
            return function(*args, **options)

    def _ask(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """One request for all queries, and one for each that makes groups."""
        requests = [search_request(query, self.spec) for query in queries if not query.group_by]
        batch = self.client.query_batch_points
        answers = iter(self._call(batch, self.collection, requests=requests) if requests else ())
        return [
            self._groups(query)
            if query.group_by
            else in_order(self._scored(next(answers).points), query)
            for query in queries
        ]

    def _groups(self, query: VectorQuery) -> list[ScoredPoint]:
        options = group_options(query, self.spec)
        found = self._call(self.client.query_points_groups, self.collection, **options)
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
