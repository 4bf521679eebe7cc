"""What requests hold: the arguments of ``ComposedSearch.query`` by the same names, as JSON."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from fti_qdrant.errors import UnknownImageId
from fti_qdrant.gallery.point_ids import parsed_id, stored_form

MOST_REFERENCES = 16
MOST_RATED = 100
"""Liked images, and disliked ones, of one query."""

MOST_QUERIES = 64
"""Queries of one batch."""

MOST_HITS = 1000
"""Hits of one answer; more are read page by page."""

MOST_BATCH_HITS = 5000
"""Of all queries of a batch."""

MOST_OFFSET = 10_000
MOST_CHARACTERS = 2000
"""Of a text; a model reads some 70 words."""

SOURCES = ("id", "url", "base64", "file")
"""The ways to give a reference image."""

EXAMPLE_ID = "2f1f1b5c-7f0e-5f6e-9d3a-0d6c1a2b3c4d"


def image_id(id: object) -> uuid.UUID | int:
    """An id as JSON has it. It is no text any more: no reader can take it for a path.

    Raises ValueError.
    """
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise ValueError("must be the UUID of an image, or its number")
    try:
        found = stored_form(id)
    except UnknownImageId as error:
        raise ValueError(str(error)) from None
    return found if isinstance(found, int) else uuid.UUID(found)


def id_in_path(id: object) -> uuid.UUID | int:
    """The same of a URL, where numbers are digits. Raises ValueError."""
    try:
        return image_id(parsed_id(str(id)))
    except UnknownImageId as error:
        raise ValueError(str(error)) from None


LARGEST_ID = 2**64 - 1
ID_SCHEMA = {
    "anyOf": [
        {"type": "string", "format": "uuid"},
        {"type": "integer", "minimum": 0, "maximum": LARGEST_ID},
    ],
    "description": "Id of an image of this gallery: a UUID, or a number.",
}

ImageId = Annotated[uuid.UUID | int, PlainValidator(image_id), WithJsonSchema(ID_SCHEMA)]
IdInPath = Annotated[uuid.UUID | int, PlainValidator(id_in_path), WithJsonSchema(ID_SCHEMA)]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
FieldName = Annotated[str, Field(min_length=1, max_length=500)]
JsonObject = dict[str, Any]


class Request(BaseModel):
    """A request: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CropBox(Request):
    """A rectangle of a picture: its edges as fractions of the upright picture's width and height.

    Upright means after the EXIF orientation was applied, as browsers show it.
    """

    left: Annotated[float, Field(ge=0, le=1)]
    top: Annotated[float, Field(ge=0, le=1)]
    right: Annotated[float, Field(ge=0, le=1)]
    bottom: Annotated[float, Field(ge=0, le=1)]


class ReferenceImage(Request):
    """One reference image, by exactly one of ``id``, ``url``, ``base64`` and ``file``."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [one]} for one in SOURCES]})

    id: ImageId | None = None
    url: Annotated[str, Field(max_length=MOST_CHARACTERS, pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://")] | (
        None
    ) = Field(default=None, description="Where the service allows URLs: of a public server.")
    base64: str | None = Field(
        default=None, description="The file's bytes as base64, with or without a `data:` prefix."
    )
    file: str | None = Field(
        default=None,
        description="In a multipart request: the name of the form field with the picture.",
    )
    crop: CropBox | None = Field(default=None, description="The part of the picture that counts.")
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Its weight among several; 0 leaves it out. Default: 1."
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> ReferenceImage:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"needs exactly one of {', '.join(SOURCES)}, and has {found}")
        return self


class ComposeRequest(Request):
    """What makes a query vector: reference images, texts, and how they are combined."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"references": [{"id": EXAMPLE_ID}], "text": "in red", "composer": "sum"},
            ]
        }
    )

    references: Annotated[list[ReferenceImage], Field(max_length=MOST_REFERENCES)] | None = Field(
        default=None,
        description="In a multipart request, it may be left out: then every file is a reference.",
    )
    text: Text | None = Field(
        default=None, description="What should be different; without references: what to look for."
    )
    avoid: Text | None = Field(default=None, description="What results should not have.")
    composer: str | None = Field(
        default=None, description="A name from `/info`; by default the best that the model can do."
    )
    text_weight: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Share of the text, for composers that have this option."
    )
    options: JsonObject | None = Field(default=None, description="Further options of the composer.")
    like: Annotated[list[ImageId], Field(max_length=MOST_RATED)] | None = Field(
        default=None, description="Ids of images that results should resemble."
    )
    dislike: Annotated[list[ImageId], Field(max_length=MOST_RATED)] | None = Field(
        default=None, description="Ids of images that they should not resemble."
    )


class SearchRequest(ComposeRequest):
    """One composed query. At least one of ``references`` and ``text`` is needed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"references": [{"id": EXAMPLE_ID}], "text": "in red, with long sleeves"},
                {
                    "references": [
                        {
                            "url": "https://images.example/street.jpg",
                            "crop": {"left": 0.5, "top": 0.25, "right": 0.75, "bottom": 0.5},
                        }
                    ],
                    "text": "in leather",
                    "avoid": "stripes",
                    "filter": {"price": {"lt": 50}},
                    "limit": 20,
                    "cutoff": 0.8,
                },
                {"text": "a red dress", "group_by": "product", "diversity": 0.3},
            ]
        }
    )

    filter: JsonObject | None = Field(
        default=None,
        description='On the payload, such as `{"brand": "Acme", "price": {"lt": 50}}`: '
        "see the grammar in the documentation.",
    )
    limit: Annotated[int, Field(ge=1, le=MOST_HITS)] = Field(
        default=10, description="Most hits; with `group_by`, most groups."
    )
    offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)] = Field(
        default=0, description="Hits to skip."
    )
    cutoff: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Keep hits with at least this share of the best one's confidence; of its score "
        "where the gallery is not calibrated for such queries.",
    )
    min_confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Keep hits that are right with at least this chance, in a calibrated gallery.",
    )
    score_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="Least cosine of a hit."
    )
    diversity: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="0: by score alone; higher avoids hits that are alike."
    )
    order_by: FieldName | None = Field(
        default=None,
        description="A field of numbers or dates; `-price` is descending. Needs `cutoff`.",
    )
    group_by: FieldName | None = Field(default=None, description="A field, such as the product's.")
    group_size: Annotated[int, Field(ge=1, le=MOST_HITS)] = Field(
        default=1, description="Most hits of each group."
    )
    exclude_reference: bool = Field(
        default=True, description="Leave the references out of the hits."
    )
    with_payload: bool | list[FieldName] = Field(
        default=True, description="Whether hits have their payload, or which fields of it."
    )
    with_vectors: bool = Field(default=False, description="Whether hits have their vectors.")
    exact: bool | None = Field(
        default=None, description="Compare with every image, or use the index."
    )
    search_params: JsonObject | None = Field(default=None, description="Of the index, as Qdrant's.")
    explain: bool = Field(
        default=False, description="Say how the model understands the references."
    )

    @property
    def most_hits(self) -> int:
        """Hits that it may have at most."""
        return self.limit * self.group_size

    @model_validator(mode="after")
    def _asks_for_few_hits(self) -> SearchRequest:
        if self.most_hits > MOST_HITS:
            raise ValueError(
                f"asks for {self.limit} groups of {self.group_size}; the most is {MOST_HITS:,} hits"
            )
        return self


class BatchRequest(Request):
    """Several queries, answered by one pass of the model; pictures by id, URL or base64."""

    queries: Annotated[list[SearchRequest], Field(min_length=1, max_length=MOST_QUERIES)]

    @model_validator(mode="after")
    def _asks_for_few_hits(self) -> BatchRequest:
        hits = sum(query.most_hits for query in self.queries)
        if hits > MOST_BATCH_HITS:
            raise ValueError(f"asks for {hits:,} hits; the most of a batch is {MOST_BATCH_HITS:,}")
        return self


class ItemRequest(Request):
    """An image to add to the gallery, or to replace in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"key": "shop/dress-17.jpg", "payload": {"brand": "Acme", "price": 45}}]
        }
    )

    key: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        description="Names the image: the id is made of it, and the same key replaces the image."
    )
    payload: JsonObject = Field(default_factory=dict, description="Its fields.")
    base64: str | None = Field(
        default=None, description="The picture, where the request is not multipart with a file."
    )
