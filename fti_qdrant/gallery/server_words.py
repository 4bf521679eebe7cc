"""Pseudo-words of a collection on a server that was made without them.

They become a named vector of its points where the server can add one, from Qdrant 1.18 on, and
else a collection beside it with the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadCollection, GalleryNotFound
from fti_qdrant.gallery.layout import CollectionLayout
from fti_qdrant.gallery.point_ids import StoredId, stored_form
from fti_qdrant.gallery.points import WordsSpec
from fti_qdrant.gallery.server_capabilities import ServerCapabilities

SUFFIX = "-pseudo-words"
"""Ends the name of the collection beside another one."""

BESIDE_KEY = "fti_qdrant_words_of"
"""In its metadata: the other one's name."""

MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)

Ask = Callable[..., Any]
"""Calls a method of the client, with retries and our errors."""


@dataclass(frozen=True)
class WordsPlace:
    """Where the pseudo-words of a collection are stored.

    Attributes:
        beside: the collection that stores them; None where it is the images' own.
    """

    client: QdrantClient
    collection: str
    layout: CollectionLayout
    read: Ask
    write: Ask

    @property
    def beside(self) -> str | None:
        return self.layout.words_collection

    def make(self, words: WordsSpec) -> CollectionLayout:
        """Makes a place, if there is none yet; returns the layout with it.

        May be called again after it was interrupted. Raises BadCollection where the place is taken.
        """
        info = self.read(self.client.get_collection, self.collection)
        if self._has_vector(info.config.params.vectors, words) or self._add_vector(words):
            self._keep_out_of_the_index()
            return self.layout
        name = f"{self.collection}{SUFFIX}"
        self._make_beside(name, words)
        return self.layout.model_copy(update={"words_collection": name})

    def store(self, words: Mapping[StoredId, np.ndarray]) -> None:
        """Stores those of some images; of images that were deleted meanwhile, none.

        Args:
            words: ``[rows, t]`` by id.
        """
        if not words:
            return
        named = {id: {self.layout.words_vector: rows.tolist()} for id, rows in words.items()}
        if self.beside is not None:
            beside = [models.PointStruct(id=id, vector=one) for id, one in named.items()]
            self.write(self.client.upsert, self.beside, points=beside, wait=True)
            return
        points = [models.PointVectors(id=id, vector=one) for id, one in named.items()]
        try:
            self.write(self.client.update_vectors, self.collection, points=points, wait=True)
        except (GalleryNotFound, KeyError):  # KeyError is local mode's
            # the server has stored all others before it says that one is not there
            if len(self._there(self.collection, list(words))) == len(words):
                raise

    def beside_images(self, ids: Sequence[StoredId]) -> dict[StoredId, np.ndarray]:
        """The pseudo-words of these images, from the collection beside; none for others."""
        if self.beside is None or not ids:
            return {}
        try:
            records = self.read(
                self.client.retrieve,
                self.beside,
                list(ids),
                with_payload=False,
                with_vectors=[self.layout.words_vector],
            )
        except GalleryNotFound:  # it was deleted: as if none had been made
            return {}
        return {
            stored_form(one.id): np.asarray(one.vector[self.layout.words_vector], np.float32)
            for one in records
        }

    def lacking(self, ids: Sequence[StoredId]) -> list[StoredId]:
        """Those of the images that have none in the collection beside."""
        assert self.beside is not None
        there = self._there(self.beside, ids)
        return [id for id in ids if id not in there]

    def delete(self, ids: Sequence[StoredId]) -> None:
        """Removes the pseudo-words of deleted images."""
        if self.beside is not None:
            selector = models.PointIdsList(points=list(ids))
            self.write(self.client.delete, self.beside, points_selector=selector, wait=True)

    def _there(self, collection: str, ids: Sequence[StoredId]) -> set[StoredId]:
        options = {"with_payload": False, "with_vectors": False}
        records = self.read(self.client.retrieve, collection, list(ids), **options)
        return {stored_form(one.id) for one in records}

    def _has_vector(self, vectors: Any, words: WordsSpec) -> bool:
        name = self.layout.words_vector
        there = vectors.get(name) if isinstance(vectors, Mapping) else None
        if there is not None and (there.size != words.token_dim or not there.multivector_config):
            raise BadCollection(
                f"collection {self.collection!r} has a vector {name!r} of another program "
                f"({there.size} dimensions); rename or remove it"
            )
        return there is not None

    def _add_vector(self, words: WordsSpec) -> bool:
        """False where the server cannot."""
        if not ServerCapabilities.of(self.client).supports("add_vector"):
            return False
        dense = models.DenseVectorConfig(
            size=words.token_dim,
            distance=models.Distance.DOT,
            multivector_config=MAX_SIM,
            datatype=models.VectorStorageDatatype.FLOAT16,
        )
        try:
            self.write(
                self.client.create_vector_name,
                self.collection,
                vector_name=self.layout.words_vector,
                vector_name_config=models.DenseVectorNameConfig(dense=dense),
                wait=True,
            )
        except (
            NotImplementedError,
            GalleryNotFound,
        ):  # local mode; a server that hides its version
            return False
        return True

    def _keep_out_of_the_index(self) -> None:
        """A new vector would be in memory, and indexed; before anything is in it, that is undone.

        Nothing searches pseudo-words: they are read by id.
        """
        diff = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=0), on_disk=True)
        config = {self.layout.words_vector: diff}
        self.write(self.client.update_collection, self.collection, vectors_config=config)

    def _make_beside(self, name: str, words: WordsSpec) -> None:
        if self.read(self.client.collection_exists, name):
            metadata = self.read(self.client.get_collection, name).config.metadata or {}
            if metadata.get(BESIDE_KEY) != self.collection:
                raise BadCollection(
                    f"collection {name!r} exists, and does not hold the pseudo-words of "
                    f"{self.collection!r}; rename or remove it"
                )
            return
        params = models.VectorParams(
            size=words.token_dim,
            distance=models.Distance.DOT,
            on_disk=True,
            datatype=models.Datatype.FLOAT16,
            multivector_config=MAX_SIM,
            hnsw_config=models.HnswConfigDiff(m=0),
        )
        self.write(
            self.client.create_collection,
            name,
            vectors_config={self.layout.words_vector: params},
            metadata={BESIDE_KEY: self.collection},
        )
