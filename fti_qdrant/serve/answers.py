"""What the API answers, made of the library's types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, Field

from fti_qdrant.composition import ComposedQuery
from fti_qdrant.explanation import Explanation
from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.gallery import FacetCount
from fti_qdrant.gallery.layout import CollectionLayout, Payload
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.query import CutoffBy, Hit, Hits
from fti_qdrant.stored_pictures import image_place


class ShownImage(BaseModel):
    """An image of the gallery, as others may see it."""

    id: StoredId
    uri: str | None = Field(
        description="Where the image was ingested from; of a file of this machine, its name."
    )
    payload: dict[str, Any]
    image: str = Field(description="Path of the picture, below this API's root.")
    thumbnail: str = Field(description="Path of a small picture; `size` sets its longer side.")


class FoundImage(ShownImage):
    """One hit."""

    score: float = Field(description="Cosine of the query and the image, -1 to 1.")
    confidence: float | None = Field(
        default=None,
        description="Chance that the hit is right, 0 to 1, where the gallery is calibrated for "
        "such queries.",
    )
    group: str | int | None = Field(default=None, description="Value of the field of `group_by`.")
    vector: list[float] | None = Field(default=None, description="With `with_vectors`.")


class ItemsAnswer(BaseModel):
    """Some images of the gallery."""

    items: list[ShownImage]


class NearestWord(BaseModel):
    """A word of the model's vocabulary, and its cosine with a pseudo-word."""

    word: str
    cosine: float


class PseudoWord(BaseModel):
    """A pseudo-word of a reference image, and the real words that are nearest to it."""

    token: str
    words: list[NearestWord]


class Explained(BaseModel):
    """How the model understood a query: see ``fti_qdrant.explanation.Explanation``."""

    prompt: str | None = Field(description="As it was encoded, a star for each pseudo-word.")
    prompt_in_words: str | None = Field(description="With the nearest words in brackets instead.")
    cosines: dict[str, float] = Field(description="Of the query with each part of it.")
    references: list[list[PseudoWord]] = Field(description="Of each reference image.")


class AnsweredQuery(BaseModel):
    """The query as it was answered."""

    composer: str
    warnings: list[str] = Field(description="What to know about the result.")
    text: str | None
    avoid: str | None
    filter: dict[str, Any] | None
    limit: int
    offset: int
    group_by: str | None
    cutoff_by: CutoffBy | None = Field(
        default=None, description="What `cutoff` was a share of, where there was one."
    )
    references: int = Field(description="How many reference images there were.")
    explanation: Explained | None = Field(default=None, description="With `explain`.")


class SearchAnswer(BaseModel):
    """Hits, best first, and the query that found them."""

    hits: list[FoundImage]
    query: AnsweredQuery


class BatchAnswer(BaseModel):
    """One answer for each query, in their order."""

    answers: list[SearchAnswer]


class ComposeAnswer(BaseModel):
    """A query vector for a Qdrant request of your own."""

    vector: list[float] = Field(description="Of unit length; `raw-sum` leaves its own.")
    composer: str
    warnings: list[str]
    prompt: str | None


class FacetValue(BaseModel):
    """A value of a field, and how many images have it."""

    value: str | bool | int
    count: int


class FacetsAnswer(BaseModel):
    """The values of a field, the most frequent first."""

    field: str
    facets: list[FacetValue]


class ItemAnswer(BaseModel):
    """What became of an image."""

    id: StoredId
    outcome: Literal["stored", "updated", "unchanged"] = Field(
        description="`updated`: the picture was there, and its payload is new."
    )


class DeletedAnswer(BaseModel):
    """The image that is no longer in the gallery."""

    id: StoredId


def search_answer(hits: Hits) -> SearchAnswer:
    """The hits of one query."""
    return SearchAnswer(hits=list(map(found_image, hits)), query=_answered(hits))


def found_image(hit: Hit) -> FoundImage:
    """One hit, with paths of its picture."""
    return FoundImage(
        **dict(shown_image(hit.id, hit.uri, hit.payload)),
        score=hit.score,
        confidence=hit.confidence,
        group=hit.group,
        vector=None if hit.vector is None else hit.vector.tolist(),
    )


def stored_image(id: StoredId, payload: Payload, layout: CollectionLayout) -> ShownImage:
    """An image as the gallery stores it: the user's own fields, and paths of its picture."""
    return shown_image(id, image_place(payload, layout), layout.users_fields(payload))


def shown_image(id: StoredId, uri: str | None, payload: Payload) -> ShownImage:
    """An image with paths of its picture."""
    return ShownImage(
        id=id,
        uri=public_uri(uri),
        payload=payload,
        image=f"images/{id}",
        thumbnail=f"images/{id}/thumbnail",
    )


def compose_answer(composed: ComposedQuery) -> ComposeAnswer:
    return ComposeAnswer(
        vector=composed.vector.tolist(),
        composer=composed.composer,
        warnings=list(composed.warnings),
        prompt=composed.prompt,
    )


def facets_answer(field: str, counts: Sequence[FacetCount]) -> FacetsAnswer:
    values = [FacetValue(value=one.value, count=one.count) for one in counts]
    return FacetsAnswer(field=field, facets=values)


def public_uri(uri: str | None) -> str | None:
    """A URI as others may see it: of a path on this machine, the name alone.

    Example:
        >>> public_uri("/srv/shop/pictures/dress.jpg"), public_uri("s3://shop/dress.jpg")
        ('dress.jpg', 's3://shop/dress.jpg')
        >>> public_uri("zip://a/dress.jpg::/srv/shop.zip")
        'dress.jpg'
    """
    if uri is None:
        return None
    member, chain, place = uri.partition("::")
    if "://" in (place if chain else uri):
        return uri
    return PurePath(member.replace("\\", "/")).name


def _answered(hits: Hits) -> AnsweredQuery:
    query = hits.query
    return AnsweredQuery(
        composer=hits.composer,
        warnings=list(query.warnings),
        text=query.text,
        avoid=query.avoid,
        filter=_filter(query.filter),
        limit=query.limit,
        offset=query.offset,
        group_by=query.group_by,
        cutoff_by=query.cutoff_by,
        references=len(query.references),
        explanation=_explained(hits.explanation) if hits.explanation else None,
    )


def _filter(filter: FilterLike | None) -> dict[str, Any] | None:
    return dict(filter) if isinstance(filter, dict) else None


def _explained(explanation: Explanation) -> Explained:
    return Explained(
        prompt=explanation.prompt,
        prompt_in_words=explanation.prompt_in_words,
        cosines=explanation.cosines,
        references=[
            [
                PseudoWord(
                    token=token.token,
                    words=[NearestWord(word=word, cosine=cosine) for word, cosine in token.words],
                )
                for token in image
            ]
            for image in explanation.references
        ],
    )
