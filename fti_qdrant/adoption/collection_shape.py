"""What vectors a collection has, and which of them can be searched by an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadCollection, GalleryNotFound
from fti_qdrant.gallery import IndexType
from fti_qdrant.gallery.layout import UNNAMED, Payload
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_connection import collection_of, gallery_name
from fti_qdrant.gallery.server_errors import translated
from fti_qdrant.model.pretrained import mentioned_model

COSINES = (models.Distance.COSINE, models.Distance.DOT)
"""Distances whose scores are cosines; Dot only of vectors of unit length."""


@dataclass(frozen=True)
class CollectionShape:
    """A collection's configuration.

    Attributes:
        collection: its own name, also where it was asked for by an alias.
        name: for messages.
        vectors: dense vectors by name, also multivectors; the unnamed one is ``""``.
        sparse: names of sparse vectors.
        indexes: payload fields with an index of a type that we know.
        metadata: that its owners store with it.
        config: as the server describes it.
    """

    collection: str
    name: str
    vectors: Mapping[str, models.VectorParams]
    sparse: tuple[str, ...]
    indexes: Mapping[str, IndexType]
    metadata: Payload
    config: models.CollectionConfig

    def chosen(self, wanted: str | None) -> str:
        """The name of the image vector: the one that is asked for, or the only one.

        Raises BadCollection: there is none, there are several, or it cannot be searched by cosine.
        """
        name = self._only() if wanted is None else wanted
        if name in self.sparse:
            raise BadCollection(f"{self.name}: {_vector(name)} is sparse, and {NEEDED}")
        if name not in self.vectors:
            raise BadCollection(f"{self.name} has no {_vector(name)}; it has {self._described()}")
        self._check(name)
        return name

    def proposed_model(self, vector: str) -> str | None:
        """The model that the vector's name or the collection's metadata mentions."""
        texts = (vector, *_texts(self.metadata))
        for text in texts:
            if (found := mentioned_model(text)) is not None:
                return found
        from fti_qdrant.model.loading import names_weights  # loads torch

        return next((text for text in texts if names_weights(text)), None)

    def _only(self) -> str:
        single = [name for name, params in self.vectors.items() if not params.multivector_config]
        if len(single) == 1:
            return single[0]
        named = [name for name in single if mentioned_model(name)]
        if len(named) == 1:
            return named[0]
        if single:
            raise BadCollection(
                f"{self.name} has {self._described()}; which one is of the images? Pass vector=..."
            )
        if self.vectors:
            self._check(next(iter(self.vectors)))
        there = (
            f"has sparse vectors alone ({', '.join(self.sparse)})" if self.sparse else "has none"
        )
        raise BadCollection(f"{self.name} {there}, and {NEEDED}")

    def _check(self, name: str) -> None:
        params = self.vectors[name]
        if params.multivector_config:
            raise BadCollection(
                f"{self.name}: {_vector(name)} holds several vectors for each point, and {NEEDED}; "
                "see docs/recipes.md for a query of your own with search.compose"
            )
        if params.distance not in COSINES:
            raise BadCollection(
                f"{self.name}: {_vector(name)} has the distance {params.distance.value}, whose "
                "scores are smaller for nearer images, and composed search ranks by cosines; make "
                "a collection with the distance Cosine, and copy the points"
            )
        if params.datatype == models.Datatype.UINT8:
            raise BadCollection(
                f"{self.name}: {_vector(name)} stores bytes (uint8), and {NEEDED} in floats"
            )

    def _described(self) -> str:
        parts = [
            f"{_vector(name)} ({params.size} dimensions)" for name, params in self.vectors.items()
        ]
        parts += [f"the sparse vector {name!r}" for name in self.sparse]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts) or "none"


NEEDED = "composed search needs one dense vector for each image, by a CLIP model"


def read_shape(client: QdrantClient, collection: str) -> CollectionShape:
    """Reads a collection's configuration. Raises GalleryNotFound, GalleryUnavailable."""
    collection = collection_of(client, collection)
    name = gallery_name(client, collection)
    ServerCapabilities.of(client).require("queries", name)
    with translated(name):
        if not client.collection_exists(collection):
            there = ", ".join(one.name for one in client.get_collections().collections)
            raise GalleryNotFound(f"no {name}; the server has: {there or 'no collections'}")
        info = client.get_collection(collection)
    params = info.config.params
    known = get_args(IndexType)
    indexes = {
        field: index.data_type.value
        for field, index in info.payload_schema.items()
        if index.data_type.value in known
    }
    return CollectionShape(
        collection,
        name,
        _by_name(params.vectors),
        tuple(params.sparse_vectors or ()),
        indexes,  # type: ignore[arg-type]
        info.config.metadata or {},
        info.config,
    )


def _by_name(vectors: Any) -> dict[str, models.VectorParams]:
    if vectors is None or isinstance(vectors, Mapping):
        return dict(vectors or {})
    return {UNNAMED: vectors}


def _vector(name: str) -> str:
    return f"vector {name!r}" if name else "unnamed vector"


def _texts(metadata: Any) -> Iterator[str]:
    """All texts of the metadata, however deep."""
    if isinstance(metadata, str):
        yield metadata
    elif isinstance(metadata, Mapping):
        for value in metadata.values():
            yield from _texts(value)
    elif isinstance(metadata, list):
        for value in metadata:
            yield from _texts(value)
