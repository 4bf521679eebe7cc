"""The embedded gallery: Qdrant's engine inside this process, in a folder."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import qdrant_edge as edge
from filelock import FileLock

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import GalleryExists, GalleryUnavailable
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.edge_engine import (
    check_version,
    engine_config,
    engine_errors,
    index_type,
    with_words,
)
from fti_qdrant.gallery.edge_folder import (
    CALIBRATION_FILE,
    SHARD_FOLDER,
    SPEC_FILE,
    UNFINISHED_SPEC,
    check_free,
    check_space,
    followed,
    locked,
    not_found,
    read_calibration,
)
from fti_qdrant.gallery.edge_requests import engine_filter, search_request
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
from fti_qdrant.gallery.protocol import GalleryState, VectorQuery, after_fork, indexed_images
from fti_qdrant.gallery.read_only import PrivateCopy, is_read_only
from fti_qdrant.gallery.search_steps import answer_all, in_order

if TYPE_CHECKING:
    from qdrant_client import models
    from typing_extensions import Self


class EdgeGallery:
    """A gallery in a folder: ``gallery.json`` describes it, ``shard/`` is Qdrant Edge's.

    Only one process at a time can have it open, by a lock of our own: Edge's would let a second
    process damage the gallery. Searches are exact: below about 200,000 images no index is needed.
    Safe to use from several threads; after a ``fork`` the child must open its own. A gallery in a
    folder that cannot be written is searched in a temporary copy.
    """

    exact_by_default = True

    def __init__(
        self,
        path: Path,
        shard: edge.EdgeShard,
        spec: GallerySpec,
        held: FileLock | PrivateCopy,
    ):
        """Use ``create`` or ``open``."""
        self.path = path
        self.spec = spec
        self.calibration = read_calibration(path)
        self._shard: edge.EdgeShard | None = shard
        self._held = held
        self._write_lock = threading.RLock()
        self._pid = os.getpid()
        self._fields: set[str] = set()

    @classmethod
    def create(cls, path: str | os.PathLike[str], spec: GallerySpec) -> Self:
        """Creates an empty gallery.

        Raises GalleryExists; GalleryUnavailable: the folder contains other things or cannot be
        written, or the engine's version is not supported.
        """
        check_version()
        folder = Path(path)
        check_free(folder)
        with locked(folder, make=True) as lock:
            if (folder / SPEC_FILE).exists():
                raise GalleryExists(f"{str(folder)!r} is a gallery already; open it")
            unfinished, shard_folder = folder / UNFINISHED_SPEC, folder / SHARD_FOLDER
            with engine_errors(folder):
                if unfinished.exists():
                    shutil.rmtree(shard_folder, ignore_errors=True)
                unfinished.write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
                shard_folder.mkdir(parents=True)
                shard = edge.EdgeShard.create(str(shard_folder), engine_config(spec))
                for field, kind in spec.payload_indexes.items():
                    shard.update(edge.UpdateOperation.create_field_index(field, index_type(kind)))
                shard.flush()
                unfinished.replace(folder / SPEC_FILE)
            return cls(folder, shard, spec, lock)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Opens an existing gallery; of a link, the folder that it stands for now.

        Raises GalleryNotFound: no gallery there; GalleryUnavailable: damaged, open already, or the
        engine's version is not supported.
        """
        check_version()
        folder = followed(Path(path))
        if not (folder / SPEC_FILE).is_file():
            raise not_found(folder)
        if is_read_only(folder):
            return cls._open_copy(folder)
        with locked(folder, make=False) as lock:
            spec = GallerySpec.read((folder / SPEC_FILE).read_bytes(), str(folder / SPEC_FILE))
            with engine_errors(folder):
                shard = edge.EdgeShard.load(str(folder / SHARD_FOLDER))
            return cls(folder, shard, spec, lock)

    @classmethod
    def _open_copy(cls, folder: Path) -> Self:
        spec = GallerySpec.read((folder / SPEC_FILE).read_bytes(), str(folder / SPEC_FILE))
        copy = PrivateCopy(folder)
        try:
            with engine_errors(folder):
                shard = edge.EdgeShard.load(str(copy.path / SHARD_FOLDER))
        except BaseException:
            copy.remove()
            raise
        return cls(folder, shard, spec, copy)

    @property
    def name(self) -> str:
        return repr(self.address)

    @property
    def address(self) -> str:
        return str(self.path)

    def upsert(self, points: Sequence[GalleryPoint]) -> None:
        points = list(points)
        if not points:
            return
        check_points(points, self.spec)
        self._check_writable()
        check_space(self.path)
        with self._write_lock, engine_errors(self.path):
            converted = [self._point(point) for point in points]
            self._open_shard().update(edge.UpdateOperation.upsert_points(converted))

    def search(self, query: VectorQuery) -> list[ScoredPoint]:
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        return answer_all(queries, self._ask, self.count, makes_groups=False)

    def retrieve(self, ids: Sequence[PointId]) -> list[StoredImage]:
        wanted = [stored_form(one) for one in ids]
        names = vector_names(self.spec, words=True)
        with engine_errors(self.path):
            records = self._open_shard().retrieve(list(wanted), True, names)
        found = stored_images(records, self.spec.layout)
        return [found[one] for one in wanted if one in found]

    def count(self, filter: models.Filter | None = None) -> int:
        with engine_errors(self.path):
            return int(self._open_shard().count(edge.CountRequest(filter=engine_filter(filter))))

    def scroll(
        self, page: int = 1000, filter: models.Filter | None = None
    ) -> Iterator[tuple[StoredId, Payload]]:
        offset, wanted = None, engine_filter(filter)
        while True:
            request = edge.ScrollRequest(
                offset=offset, limit=page, filter=wanted, with_payload=True
            )
            with engine_errors(self.path):
                records, offset = self._open_shard().scroll(request)
            for record in records:
                yield stored_form(record.id), record.payload or {}
            if offset is None:
                return

    def sample(self, filter: models.Filter | None = None, most: int = 100) -> list[Payload]:
        with engine_errors(self.path):
            request = edge.ScrollRequest(
                limit=most, filter=engine_filter(filter), with_payload=True
            )
            records, _ = self._open_shard().scroll(request)
        return [record.payload or {} for record in records]

    def random_vectors(self, count: int) -> dict[StoredId, np.ndarray]:
        request = edge.QueryRequest(
            limit=count, query=edge.Sample.Random, with_vector=vector_names(self.spec)
        )
        with engine_errors(self.path):
            drawn = self._open_shard().query(request)
        found = stored_images(drawn, self.spec.layout)
        return {id: image.vector for id, image in found.items()}

    def has_field(self, key: str) -> bool:
        if key not in self._fields:
            filled = edge.Filter(must_not=[edge.IsEmptyCondition(key)])
            request = edge.ScrollRequest(limit=1, filter=filled)
            with engine_errors(self.path):
                records, _ = self._open_shard().scroll(request)
            if records:
                self._fields.add(key)
        return key in self._fields

    def facets(
        self, field: str, filter: models.Filter | None = None, limit: int = 10
    ) -> list[FacetCount]:
        request = edge.FacetRequest(field, limit, exact=True, filter=engine_filter(filter))
        with engine_errors(self.path):
            hits = self._open_shard().facet(request).hits
        return [FacetCount(hit.value, hit.count) for hit in hits]

    def indexes(self) -> Mapping[str, str]:
        return self.spec.payload_indexes

    def index_command(self, field: str, kind: str) -> str:
        return f"fti-ingest IMAGES --gallery NEW --index '{field}:{kind}'"

    def delete(self, ids: Sequence[PointId]) -> None:
        unwanted: list[int | uuid.UUID | str] = [stored_form(one) for one in ids]
        if unwanted:
            self._check_writable()
            with self._write_lock, engine_errors(self.path):
                self._open_shard().update(edge.UpdateOperation.delete_points(unwanted))

    def add_words(self, words: WordsSpec) -> None:
        self._check_writable()
        spec = self.spec.model_copy(update={"words": words})
        with self._write_lock, engine_errors(self.path):
            self._shard = with_words(self._open_shard(), self.path / SHARD_FOLDER, spec)
            write_text(self.path / SPEC_FILE, spec.model_dump_json(indent=2) + "\n")
            self.spec = spec

    def lacking_words(self, ids: Sequence[StoredId]) -> list[StoredId]:
        """Embedded galleries have them beside the image vectors, never elsewhere."""
        return []

    def store_words(self, words: Mapping[StoredId, np.ndarray]) -> None:
        self._check_writable()
        check_space(self.path)
        name = self.spec.layout.words_vector
        with self._write_lock, engine_errors(self.path):
            shard = self._open_shard()
            there = [record.id for record in shard.retrieve(list(words), False, False)]
            vectors = [
                edge.PointVectors(id, {name: words[stored_form(id)].tolist()}) for id in there
            ]
            if vectors:
                shard.update(edge.UpdateOperation.update_vectors(vectors))

    def store_calibration(self, calibration: Calibration) -> None:
        self._check_writable()
        with self._write_lock, engine_errors(self.path):
            calibration.write(self.path / CALIBRATION_FILE)
            self.calibration = calibration

    def build_index(self) -> int:
        self._check_writable()
        with self._write_lock, engine_errors(self.path):
            self._open_shard().optimize()
        return self.state().indexed

    def storage(self) -> CollectionConfig:
        return CollectionConfig()

    def state(self) -> GalleryState:
        with engine_errors(self.path):
            info = self._open_shard().info()
        points = int(info.points_count)
        return GalleryState(
            points=points,
            indexed=indexed_images(
                int(info.indexed_vectors_count), 2 if self.spec.words else 1, points
            ),
            segments=int(info.segments_count),
            optimizer="idle; an embedded gallery is optimized on request only",
        )

    def flush(self) -> None:
        self.check_open()
        with self._write_lock, engine_errors(self.path):
            self._open_shard().flush()

    def close(self) -> None:
        if os.getpid() != self._pid:  # of a fork: engine, locks and copy are the parent's
            return
        with self._write_lock:
            shard, self._shard = self._shard, None
            if shard is not None:
                with engine_errors(self.path):
                    shard.flush()
                    shard.close()
                if isinstance(self._held, PrivateCopy):
                    self._held.remove()
                else:
                    self._held.release()

    def check_open(self) -> None:
        self._open_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_writable(self) -> None:
        self.check_open()
        if isinstance(self._held, PrivateCopy):
            raise GalleryUnavailable(
                f"gallery {self.name} is read-only: its folder cannot be written; it can only be "
                "searched"
            )

    def _open_shard(self) -> edge.EdgeShard:
        if os.getpid() != self._pid:
            raise after_fork(f"gallery {self.name}")
        if self._shard is None:
            raise GalleryUnavailable(f"gallery {self.name} is closed; open it again")
        return self._shard

    def _ask(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        with engine_errors(self.path):
            requests = [search_request(query, self.spec) for query in queries]
            answers = self._open_shard().query_batch(edge.QueryBatchRequest(requests))
        return [
            in_order([scored_point(hit, self.spec.layout) for hit in answer], query)
            for query, answer in zip(queries, answers)
        ]

    def _point(self, point: GalleryPoint) -> edge.Point:
        return edge.Point(point.id, point_vectors(point, self.spec.layout), point.payload)
