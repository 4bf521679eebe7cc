"""What goes into a search and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadQuery
from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.gallery.protocol import MOST_HITS
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, ImageSource
from fti_qdrant.reference_ids import Reference as Reference
from fti_qdrant.reference_ids import as_list, check_like
from fti_qdrant.refinements import (
    OrderLike,
    SearchParamsLike,
    check_refinements,
    is_number,
    is_whole,
)

if TYPE_CHECKING:  # the modules of explanations load torch
    import pandas

    from fti_qdrant.explanation import Explanation
    from fti_qdrant.model.explain import ImageWords

MAX_LIMIT = MOST_HITS
"""Hits of one query."""

CutoffBy = Literal["confidence", "score"]


@dataclass(frozen=True)
class Query:
    """One composed query; the arguments of ``ComposedSearch.query`` by the same names.

    On ``Hits.query``, ``composer`` is the one that answered, ``warnings`` says what the user should
    know about it, and ``cutoff_by`` whether the cutoff was a share of the best hit's confidence or
    of its score.

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
    text_weight: float | None = None
    avoid: str | None = None
    weights: Sequence[float] | None = None
    options: Mapping[str, Any] | None = None
    like: Reference | Sequence[Reference] | None = None
    dislike: Reference | Sequence[Reference] | None = None
    offset: int = 0
    cutoff: float | None = None
    diversity: float | None = None
    order_by: OrderLike | None = None
    group_by: str | None = None
    group_size: int = 1
    with_payload: bool | Sequence[str] = True
    exact: bool | None = None
    search_params: SearchParamsLike | None = None
    warnings: tuple[str, ...] = ()
    cutoff_by: CutoffBy | None = None
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        if self.text is not None and not isinstance(self.text, str):
            raise BadQuery(f"text must be a str, not {type(self.text).__name__} {self.text!r}")
        if _has_surrogates(self.words):
            raise BadQuery(f"text {self.text!r} is not valid Unicode; was it decoded wrongly?")
        if not is_whole(self.limit) or self.limit < 1:
            raise BadQuery(f"limit must be a whole number of at least 1, got {self.limit!r}")
        if self.limit > MAX_LIMIT:
            raise BadQuery(
                f"limit must be at most {MAX_LIMIT:,}, got {self.limit}; to read all images, use "
                "gallery.scroll()"
            )
        least = self.score_threshold
        if least is not None and not is_number(least):
            raise BadQuery(f"score_threshold must be a number from -1 to 1, got {least!r}")
        weight = self.text_weight
        if weight is not None and not (_is_weight(weight) and weight <= 1):
            raise BadQuery(f"text_weight must be a number from 0 to 1, got {weight!r}")
        if self.composer is not None:
            find_composer(self.composer).check_options(self.composer_options)
        if not self.references and not self.words:
            raise BadQuery("nothing to search for: pass an image, a text, or both")
        if self.explain and not self.references:
            raise BadQuery("explain needs a reference image; pass one, or leave explain out")
        self._check_avoid()
        self._check_weights()
        check_like(self.liked, self.disliked)
        check_refinements(self)

    def _check_avoid(self) -> None:
        if self.avoid is None:
            return
        if not isinstance(self.avoid, str) or not self.avoid.strip():
            raise BadQuery(
                f"avoid must be a text that says what results should not have, got {self.avoid!r}"
            )
        if _has_surrogates(self.avoid):
            raise BadQuery(f"avoid {self.avoid!r} is not valid Unicode; was it decoded wrongly?")

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        weights = list(self.weights) if isinstance(self.weights, (list, tuple)) else self.weights
        if not isinstance(weights, list) or not all(map(_is_weight, weights)) or not any(weights):
            raise BadQuery(f"weights must be numbers from 0 on, not all 0, got {self.weights!r}")
        if len(weights) != len(self.references):
            raise BadQuery(
                f"{len(weights)} weights for {len(self.references)} reference images; pass one for "
                "each"
            )

    @property
    def composer_options(self) -> dict[str, Any]:
        """``options``, with ``text_weight`` among them."""
        weight = {} if self.text_weight is None else {"text_weight": self.text_weight}
        return {**(self.options or {}), **weight}

    @property
    def references(self) -> list[Reference]:
        """The reference images, none to many."""
        return as_list(self.image)

    @property
    def liked(self) -> list[Reference]:
        """``like`` as a list."""
        return as_list(self.like)

    @property
    def disliked(self) -> list[Reference]:
        """``dislike`` as a list."""
        return as_list(self.dislike)

    @property
    def words(self) -> str:
        """The modification text without surrounding spaces; empty where there is none."""
        return (self.text or "").strip()


@dataclass(frozen=True)
class Hit:
    """One result.

    Attributes:
        id: of the stored image, a number or the text of a UUID; may be passed as the image of the
            next query.
        score: cosine of the query vector and the image, -1 to 1.
        uri: path or URI of the image when it was ingested.
        payload: the user's own fields, or those that ``with_payload`` names.
        vector: ``[d]``, only with ``with_vectors=True``.
        group: the value of the field that ``group_by`` names.
        confidence: the chance that the hit is right, 0 to 1, by its score; None where the gallery
            is not calibrated for such queries (see ``gallery.calibration.ComposerCalibration``).
    """

    id: StoredId
    score: float
    uri: str | None
    payload: dict[str, Any]
    vector: np.ndarray | None = None
    group: str | int | None = None
    confidence: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``vector`` as a list.

        ``vector``, ``group`` and ``confidence`` only where there is one.

        Example:
            >>> Hit("7c1f", 0.5, "a.jpg", {"price": 3}).as_dict()
            {'id': '7c1f', 'score': 0.5, 'uri': 'a.jpg', 'payload': {'price': 3}}
        """
        values = {"id": self.id, "score": self.score, "uri": self.uri, "payload": self.payload}
        for name in ("group", "confidence"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        return values if self.vector is None else {**values, "vector": self.vector.tolist()}


@dataclass(frozen=True)
class ReferencePictures:
    """Where the reference images of a query can be read again, to show them.

    Attributes:
        sources: one for each reference; None for a stored image whose place is not known, and for
            a file object, which has been read.
        allow_urls, limits: of the search, for its hits too.
    """

    sources: tuple[ImageSource | None, ...] = ()
    allow_urls: bool = False
    limits: ImageLimits = DEFAULT_LIMITS


PRINTED = 20
"""Hits in the text of a ``Hits`` object."""


class Hits(list[Hit]):
    """A list of hits, best first, that knows its query.

    A notebook shows it as a grid of thumbnails; elsewhere it is printed as ranks, scores,
    confidences where there are any, and URIs.

    Attributes:
        query: as it was answered: ``query.composer`` names the composer, ``query.warnings`` says
            what to know about the result.
        explanation: what the query was, with ``explain=True``; else None.
        pictures: the reference images.

    Example:
        >>> Hits([Hit("7c1f", 0.5, "a.jpg", {"price": 3})], Query(text="red", composer="text"))
        Hits(1, composer='text')
          1  0.500  'a.jpg'
    """

    def __init__(
        self,
        hits: Iterable[Hit],
        query: Query,
        explanation: Explanation | None = None,
        pictures: ReferencePictures | None = None,
    ):
        super().__init__(hits)
        self.query = query
        self.explanation = explanation
        self.pictures = pictures or ReferencePictures()

    @property
    def groups(self) -> dict[str | int, list[Hit]]:
        """The hits by group, in their order; empty without ``group_by``."""
        groups: dict[str | int, list[Hit]] = {}
        for hit in self:
            if hit.group is not None:
                groups.setdefault(hit.group, []).append(hit)
        return groups

    @property
    def explanations(self) -> tuple[ImageWords, ...]:
        """The words of each reference image, in their order; empty without an explanation."""
        return self.explanation.references if self.explanation else ()

    @property
    def composer(self) -> str:
        """The composer that answered."""
        return self.query.composer or ""

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each hit, best first.

        Columns: ``id``, ``score``, ``uri``, the payload's fields, and ``confidence`` and ``vector``
        where the hits have one. A payload field with one of these names is called ``payload.id``
        and so on.

        Raises FtiError where pandas is not installed.
        """
        from fti_qdrant.report.data_frame import data_frame

        return data_frame(self)

    def __repr__(self) -> str:
        lines = [f"Hits({len(self)}, composer={self.composer!r})"]
        for rank, hit in enumerate(self[:PRINTED], 1):
            chance = "" if hit.confidence is None else f"  {hit.confidence:4.0%}"
            lines.append(f"{rank:3}  {hit.score:.3f}{chance}  {hit.uri or hit.id!r}")
        if len(self) > PRINTED:
            lines.append(f"and {len(self) - PRINTED} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from fti_qdrant.report.notebook import hits_html  # Jinja is loaded when it is shown

        return hits_html(self)


def _is_weight(value: object) -> bool:
    return is_number(value) and value >= 0  # type: ignore[operator]


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
