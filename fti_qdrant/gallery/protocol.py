"""What every gallery can do; ``EdgeGallery`` and ``ServerGallery`` behave the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.gallery.points import (
    FacetCount,
    GalleryPoint,
    GallerySpec,
    Payload,
    PointId,
    ScoredPoint,
    StoredImage,
    WordsSpec,
)

if TYPE_CHECKING:
    from qdrant_client import models


MOST_HITS = 100_000
"""Results of one search: all of them are in memory at once, with their payloads."""

DIVERSE_CANDIDATES = 500
"""Nearest images that MMR chooses from: always as many, so that one page continues another. Its
time grows with their cube: 500 take some 10 ms, 1,000 could take seconds."""


@dataclass(frozen=True)
class FieldOrder:
    """Results in the order of a payload field, the path ``key``."""

    key: str
    descending: bool = False


@dataclass(frozen=True)
class VectorQuery:
    """One search.

    Images that pass ``filter``, ``score_threshold`` and ``cutoff`` are put in order: by score, by
    ``diversity`` or by ``order_by``. ``group_by`` then keeps the first ``group_size`` of each
    group, the groups in the order of their first image. ``offset`` and ``limit`` come last.

    Attributes:
        vector: ``[d]``.
        limit: maximum number of results (of groups, with ``group_by``), at least 1.
        score_threshold: minimum cosine of a result, itself included.
        exact: True compares with every vector, False uses the index where there is one, None
            leaves the choice to the gallery (embedded: exact; server: its index).
        offset: results (or groups) to skip.
        cutoff: minimum score of a result, as a share of the best one's, above 0 to 1; with
            ``chances``, a share of the best one's chance.
        chances: that hits are right, by their cosines.
        diversity: 0 to 1; maximal marginal relevance among the ``DIVERSE_CANDIDATES`` nearest.
        group_by: path of a payload field of texts or whole numbers. An image with a list belongs
            to several groups, one without the field to none.
        order_by: by a field of numbers or dates; equal values by score, images without it last.
        payload_fields: paths of the fields to return; None returns the whole payload.
        params: how the approximate index is searched.
    """

    vector: np.ndarray
    filter: models.Filter | None = None
    limit: int = 10
    score_threshold: float | None = None
    with_vectors: bool = False
    exact: bool | None = None
    offset: int = 0
    cutoff: float | None = None
    diversity: float | None = None
    group_by: str | None = None
    group_size: int = 1
    order_by: FieldOrder | None = None
    payload_fields: tuple[str, ...] | None = None
    params: models.SearchParams | None = None
    chances: ChanceMap | None = None

    @property
    def score_above(self) -> float | None:
        """The threshold as Qdrant takes it: it leaves out hits that are equal to it."""
        if self.score_threshold is None:
            return None
        least = np.float32(min(max(self.score_threshold, -2), 2))  # no cosine is beyond
        return float(np.nextafter(least, np.float32(-np.inf)))


@dataclass(frozen=True)
class GalleryState:
    """What the store reports about itself.

    Attributes:
        points: images.
        indexed: images in the approximate index; all others are compared one by one. See
            ``indexed_images``.
        segments: parts that the store divides them into.
        optimizer: what the store's optimizer is doing, as text.
        bulk: a bulk load has started and not ended; no index is built, and searches are exact.
    """

    points: int
    indexed: int
    segments: int
    optimizer: str
    bulk: bool = False


def indexed_images(indexed_vectors: int, vectors: int, images: int) -> int:
    """Images in the approximate index, of an engine's number of vectors.

    Qdrant adds up all vectors of the segments that it has indexed, also those that have no index of
    their own, as pseudo-words. Where every image has every vector, as in our galleries, that is so
    many times the images; elsewhere the figure is an estimate. While the optimizer rewrites a
    segment, images may be counted twice.

    Args:
        indexed_vectors: what the engine reports.
        vectors: of each image.
        images: in the gallery.

    Example:
        >>> indexed_images(21_376, vectors=2, images=12_000)
        10688
    """
    return min(indexed_vectors // max(vectors, 1), images)


def after_fork(name: str) -> GalleryUnavailable:
    """The error for a gallery that a forked process has inherited: its threads and connections
    stayed with the parent, so a call would wait for ever."""
    return GalleryUnavailable(
        f"{name} was opened before a fork; open it in each process after the fork (gunicorn: "
        "without --preload, or in post_fork), or start processes with spawn"
    )


class Described(Protocol):
    """What is known of a gallery without opening it."""

    @property
    def spec(self) -> GallerySpec: ...

    @property
    def name(self) -> str: ...


class Gallery(Protocol):
    """Where image vectors live.

    All methods raise GalleryUnavailable where the store is closed or cannot be reached, or was
    opened before a fork.
    """

    exact_by_default: bool
    """Whether searches compare with every vector unless they ask for the approximate index."""

    calibration: Calibration
    """The chances that hits are right, as it stored them when it was opened."""

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

    def check_open(self) -> None:
        """Raises GalleryUnavailable where it is closed, or was opened before a fork."""
        ...

    def upsert(self, points: Sequence[GalleryPoint]) -> None:
        """Adds or replaces points; returns when they are stored.

        Raises ModelMismatch, and stores none, where a vector or its pseudo-words do not fit.
        """
        ...

    def search(self, query: VectorQuery) -> list[ScoredPoint]:
        """The nearest images by cosine, best first; equal scores are ordered by id.

        With ``group_by``, the images of one group follow each other. See ``VectorQuery``.
        """
        ...

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        """Several searches in one request."""
        ...

    def retrieve(self, ids: Sequence[PointId]) -> list[StoredImage]:
        """The stored images of those ids that exist, in the order of the ids."""
        ...

    def count(self, filter: models.Filter | None = None) -> int:
        """Exact number of images."""
        ...

    def scroll(
        self, page: int = 1000, filter: models.Filter | None = None
    ) -> Iterator[tuple[StoredId, Payload]]:
        """Every id with its payload, ordered by id, read one page at a time.

        Args:
            filter: only images that pass it.

        Images that it has yielded may be deleted while it runs.
        """
        ...

    def sample(self, filter: models.Filter | None = None, most: int = 100) -> list[Payload]:
        """Payloads of up to ``most`` images that pass the filter, the first by id."""
        ...

    def random_vectors(self, count: int) -> dict[StoredId, np.ndarray]:
        """Ids and vectors (``[d]``, L2-normalized) of up to so many images, drawn at random."""
        ...

    def has_field(self, key: str) -> bool:
        """Whether any image has a value under this payload key."""
        ...

    def facets(
        self, field: str, filter: models.Filter | None = None, limit: int = 10
    ) -> list[FacetCount]:
        """The values of an indexed field with their numbers of images, the most frequent first.

        Equal numbers are ordered by value.
        """
        ...

    def indexes(self) -> Mapping[str, str]:
        """Fields with a payload index, and its type, such as ``keyword``."""
        ...

    def index_command(self, field: str, kind: str) -> str:
        """The command that makes a payload index, for messages."""
        ...

    def delete(self, ids: Sequence[PointId]) -> None:
        """Removes images; unknown ids are ignored."""
        ...

    def add_words(self, words: WordsSpec) -> None:
        """Makes a place for the pseudo-words of a gallery that was made without them.

        Says so in its description. An interrupted call is finished by the next one.
        Raises BadCollection where the place is taken.
        """
        ...

    def lacking_words(self, ids: Sequence[StoredId]) -> list[StoredId]:
        """Those of the images without stored pseudo-words, where another collection has these."""
        ...

    def store_words(self, words: Mapping[StoredId, np.ndarray]) -> None:
        """Stores the pseudo-words of images, ``[1 + r, t]`` each; see ``pseudo_words.used_rows``.

        Of images that were deleted meanwhile, none.
        """
        ...

    def store_calibration(self, calibration: Calibration) -> None:
        """Stores what the chances are from now on, in place of what it has.

        Raises GalleryUnavailable where nothing can be written into it, and BadCollection in a
        collection of another program that was only attached.
        """
        ...

    def build_index(self) -> int:
        """Waits until the approximate index is built; returns how many images are in it.

        Small galleries have none (0): Qdrant searches them exactly.
        """
        ...

    def storage(self) -> CollectionConfig:
        """How its vectors are stored; embedded, always as they are."""
        ...

    def state(self) -> GalleryState:
        """Images, how many are indexed, segments, and what the optimizer is doing."""
        ...

    def flush(self) -> None:
        """Writes all stored points to disk, so that they survive a power loss."""
        ...

    def close(self) -> None:
        """Releases the gallery; closing twice does nothing."""
        ...
