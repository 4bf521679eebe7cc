"""What every gallery can do; ``EdgeGallery`` and ``ServerGallery`` do it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from qdrant_client import models

from fti_qdrant.gallery.points import (
    GalleryPoint,
    GallerySpec,
    Payload,
    PointId,
    ScoredPoint,
    StoredImage,
)


@dataclass(frozen=True)
class VectorQuery:
    """One search.

    Attributes:
        vector: ``[d]``.
        limit: most results, at least 1.
        score_threshold: least cosine of a result.
        exact: True scans every vector, False trusts an index where there is one, None leaves
            the choice to the gallery (embedded: exact; server: its index).
    """

    vector: np.ndarray
    filter: models.Filter | None = None
    limit: int = 10
    score_threshold: float | None = None
    with_vectors: bool = False
    exact: bool | None = None


@dataclass(frozen=True)
class GalleryState:
    """What the store says of itself.

    Attributes:
        points: images.
        indexed: vectors in the approximate index; the others are scanned.
        segments: parts that the store keeps them in.
        optimizer: what it is doing about them, in its own words.
        bulk: a bulk load has begun and not ended: no index is built, searches scan.
    """

    points: int
    indexed: int
    segments: int
    optimizer: str
    bulk: bool = False


class Gallery(Protocol):
    """Where image vectors live.

    All methods raise GalleryUnavailable where the store cannot be reached or is closed.
    """

    @property
    def spec(self) -> GallerySpec: ...

    @property
    def name(self) -> str:
        """For messages, ``'shop'`` or ``collection 'shop' at http://...``."""
        ...

    @property
    def address(self) -> str:
        """For programs: the path, or the collection's URL."""
        ...

    def upsert(self, points: Sequence[GalleryPoint]) -> None:
        """Adds or replaces points; returns when they are stored.

        Raises ModelMismatch where a vector or its pseudo-words do not fit; none is stored then.
        """
        ...

    def search(self, query: VectorQuery) -> list[ScoredPoint]:
        """The nearest images by cosine, best first, equal scores in order of id."""
        ...

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """Several searches in one request."""
        ...

    def retrieve(self, ids: Sequence[PointId]) -> list[StoredImage]:
        """The stored images of those ids that exist, in the order asked for."""
        ...

    def count(self, filter: models.Filter | None = None) -> int:
        """Exact number of images."""
        ...

    def scroll(self, page: int = 1000) -> Iterator[tuple[str, Payload]]:
        """Every id with its payload, in order of id, read a page at a time.

        What it has yielded may be deleted meanwhile.
        """
        ...

    def has_field(self, key: str) -> bool:
        """Whether any image has a value under this payload key."""
        ...

    def delete(self, ids: Sequence[PointId]) -> None:
        """Removes images; unknown ids are ignored."""
        ...

    def build_index(self) -> int:
        """Waits until the approximate index is built; returns how many vectors are in it.

        Small galleries have none (0): Qdrant scans them whole.
        """
        ...

    def state(self) -> GalleryState:
        """Points, indexed vectors, segments, and what the optimizer is doing."""
        ...

    def flush(self) -> None:
        """Makes all acknowledged points safe against a power loss."""
        ...

    def close(self) -> None:
        """Releases the gallery; closing twice does nothing."""
        ...
