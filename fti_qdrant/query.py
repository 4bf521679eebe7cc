"""What goes into a search and what comes out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadQuery
from fti_qdrant.filters import FilterLike
from fti_qdrant.images import ImageSource

if TYPE_CHECKING:  # its module loads torch
    from fti_qdrant.model.explain import Explanation

MAX_LIMIT = 100_000
"""Hits of one query. All of them are in memory at once, with their payloads."""

Reference = ImageSource | uuid.UUID
"""A picture in any form, or the id of a stored image (a UUID, or its text)."""


@dataclass(frozen=True)
class Query:
    """One composed query; the arguments of ``ComposedSearch.query`` by the same names.

    On ``Hits.query``, ``composer`` is the one that answered, and ``warnings`` says what the user
    should know about it.

    Example:
        >>> Query(text="a red dress", limit=3).composer is None
        True
        >>> Query(text="a red dress", limit=0)
        Traceback (most recent call last):
        fti_qdrant.errors.BadQuery: limit must be a whole number of at least 1, got 0

    Raises BadQuery: wrong types, an unknown composer, or nothing to search for.
    """

    image: Reference | Sequence[Reference] | None = None
    text: str | None = None
    filter: FilterLike | None = None
    limit: int = 10
    composer: str | None = None
    exclude_reference: bool = True
    score_threshold: float | None = None
    with_vectors: bool = False
    explain: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.text is not None and not isinstance(self.text, str):
            raise BadQuery(f"text must be a str, not {type(self.text).__name__} {self.text!r}")
        if _has_surrogates(self.words):
            raise BadQuery(f"text {self.text!r} is not valid Unicode; was it decoded wrongly?")
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 1:
            raise BadQuery(f"limit must be a whole number of at least 1, got {self.limit!r}")
        if self.limit > MAX_LIMIT:
            raise BadQuery(
                f"limit must be at most {MAX_LIMIT:,}, got {self.limit}; to read all images, use "
                "gallery.scroll()"
            )
        least = self.score_threshold
        if least is not None and (
            not isinstance(least, (int, float)) or isinstance(least, bool) or not isfinite(least)
        ):
            raise BadQuery(f"score_threshold must be a number from -1 to 1, got {least!r}")
        if self.composer is not None:
            find_composer(self.composer)
        if not self.references and not self.words:
            raise BadQuery("nothing to search for: pass an image, a text, or both")
        if self.explain and not self.references:
            raise BadQuery("explain needs a reference image; pass one, or leave explain out")

    @property
    def references(self) -> list[Reference]:
        """The reference images, none to many."""
        if self.image is None:
            return []
        return list(self.image) if isinstance(self.image, (list, tuple)) else [self.image]  # type: ignore[list-item]

    @property
    def words(self) -> str:
        """The modification text without surrounding spaces; empty where there is none."""
        return (self.text or "").strip()


@dataclass(frozen=True)
class Hit:
    """One result.

    Attributes:
        id: of the stored image; may be passed as the image of the next query.
        score: cosine of the query vector and the image, -1 to 1.
        uri: path or URI of the image when it was ingested.
        payload: the user's own fields.
        vector: ``[d]``, only with ``with_vectors=True``.
    """

    id: str
    score: float
    uri: str | None
    payload: dict[str, Any]
    vector: np.ndarray | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``vector`` as a list, and only where there is one.

        Example:
            >>> Hit("7c1f", 0.5, "a.jpg", {"price": 3}).as_dict()
            {'id': '7c1f', 'score': 0.5, 'uri': 'a.jpg', 'payload': {'price': 3}}
        """
        values = {"id": self.id, "score": self.score, "uri": self.uri, "payload": self.payload}
        return values if self.vector is None else {**values, "vector": self.vector.tolist()}


class Hits(list[Hit]):
    """A list of hits, best first, that knows its query.

    Attributes:
        query: as it was answered: ``query.composer`` names the composer, ``query.warnings`` says
            what to know about the result.
        explanations: of each reference image, in their order, with ``explain=True``; else empty.
    """

    def __init__(
        self, hits: Iterable[Hit], query: Query, explanations: tuple[Explanation, ...] = ()
    ):
        super().__init__(hits)
        self.query = query
        self.explanations = explanations

    @property
    def composer(self) -> str:
        """The composer that answered."""
        return self.query.composer or ""


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def stored_id(reference: Reference) -> str | None:
    """The point id that a reference names, or None where it is a picture."""
    if isinstance(reference, uuid.UUID):
        return str(reference)
    if isinstance(reference, str) and len(reference) == 36:
        try:
            return str(uuid.UUID(reference))
        except ValueError:
            return None
    return None
