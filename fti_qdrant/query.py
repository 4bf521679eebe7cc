"""What goes into a search and what comes out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from fti_qdrant.composers.composer import METHODS
from fti_qdrant.errors import BadQuery
from fti_qdrant.filters import FilterLike
from fti_qdrant.images import ImageSource

Reference = ImageSource | uuid.UUID
"""A picture in any form, or the id of a stored image (a UUID, or its text)."""


@dataclass(frozen=True)
class Query:
    """One composed query; the arguments of ``ComposedSearch.query`` by the same names.

    On ``Hits.query``, ``composer`` is the one that answered and ``warnings`` what happened.
    """

    image: Reference | Sequence[Reference] | None = None
    text: str | None = None
    filter: FilterLike | None = None
    limit: int = 10
    composer: str = "fti"
    exclude_reference: bool = True
    score_threshold: float | None = None
    with_vectors: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.text is not None and not isinstance(self.text, str):
            raise BadQuery(f"text must be a str, not {type(self.text).__name__} {self.text!r}")
        if _has_surrogates(self.words):
            raise BadQuery(f"text {self.text!r} is not Unicode; was it decoded wrongly?")
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 1:
            raise BadQuery(f"limit must be a whole number of at least 1, got {self.limit!r}")
        if self.limit >= 2**32:
            raise BadQuery(f"limit {self.limit} is more than any gallery holds")
        least = self.score_threshold
        if least is not None and (
            not isinstance(least, (int, float)) or isinstance(least, bool) or not isfinite(least)
        ):
            raise BadQuery(f"score_threshold must be a number from -1 to 1, got {least!r}")
        if self.composer not in METHODS:
            raise BadQuery(f"unknown composer {self.composer!r}; use one of {', '.join(METHODS)}")
        if not self.references and not self.words:
            raise BadQuery("nothing to search for: pass an image, a text, or both")

    @property
    def references(self) -> list[Reference]:
        """The reference images, none to many."""
        if self.image is None:
            return []
        return list(self.image) if isinstance(self.image, (list, tuple)) else [self.image]  # type: ignore[list-item]

    @property
    def words(self) -> str:
        """The modification text without surrounding blanks; empty where there is none."""
        return (self.text or "").strip()


@dataclass(frozen=True)
class Hit:
    """One answer.

    Attributes:
        id: of the stored image; may be passed as the image of the next query.
        score: cosine of the composed query and the image, -1 to 1.
        uri: where the picture was when it was ingested.
        payload: the user's own fields.
        vector: ``[d]``, only where ``with_vectors=True`` asked for it.
    """

    id: str
    score: float
    uri: str | None
    payload: dict[str, Any]
    vector: np.ndarray | None = None


class Hits(list[Hit]):
    """A list of hits, best first, that knows its query."""

    def __init__(self, hits: Iterable[Hit], query: Query):
        super().__init__(hits)
        self.query = query


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
