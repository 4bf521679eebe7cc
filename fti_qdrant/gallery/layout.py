"""Where a gallery keeps what: the names of its vectors and payload fields, and how ids are made.

Our own galleries have one layout, the default. A collection that another program made has its own.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

IMAGE_VECTOR = "image"
WORDS_VECTOR = "pseudo_words"
OURS = "_fti"
"""Payload key of our own fields, beside the user's."""

SHA256_KEY = f"{OURS}.sha256"

UNNAMED = ""
"""The name of a vector without a name, as Qdrant has it beside named ones."""

IdScheme = Literal["uuid5", "integer", "uuid"]
"""How a new point gets its id: uuid5 of the image's key, or the key itself, which is one."""

Payload = dict[str, Any]


class CollectionLayout(BaseModel):
    """The names that a collection has, and what is in it.

    Attributes:
        image_vector: name of the vector that is searched; empty for the unnamed one.
        words_vector: name of the stored pseudo-words.
        words_collection: the collection beside it that stores them; None where they are in it.
        uri_field: path of the payload field that says where an image can be read; None where
            nothing does.
        image_root: folder or URI that relative values of ``uri_field`` begin at.
        key_field: payload field that a new point's id is made of; None for the image's path.
        ids: how it is made.
        ours: fti-ingest made all of its points: they have our facts under ``_fti``, with an index
            on their content hashes.
    """

    model_config = ConfigDict(frozen=True)

    image_vector: str = IMAGE_VECTOR
    words_vector: str = WORDS_VECTOR
    words_collection: str | None = None
    uri_field: str | None = f"{OURS}.uri"
    image_root: str | None = None
    key_field: str | None = None
    ids: IdScheme = "uuid5"
    ours: bool = True

    @property
    def using(self) -> str | None:
        """The searched vector as a query names it."""
        return self.image_vector or None

    def stored_uri(self, payload: Payload) -> str | None:
        """Where an image can be read, as its payload says it; None where it does not."""
        found = None if self.uri_field is None else field_value(payload, self.uri_field)
        if isinstance(found, list):
            found = next(iter(found), None)
        return found if isinstance(found, str) and found else None

    def users_fields(self, payload: Payload) -> Payload:
        """A payload without our own fields."""
        return {name: value for name, value in payload.items() if name != OURS}

    def facts(self, payload: Payload) -> Payload:
        """Our own fields; empty for a point that fti-ingest did not make."""
        found = payload.get(OURS)
        return found if isinstance(found, dict) else {}


OUR_LAYOUT = CollectionLayout()


def field_value(payload: Payload, path: str) -> Any:
    """The value of a payload field; dots lead into nested ones. None where there is none.

    Example:
        >>> field_value({"image": {"url": "a.jpg"}}, "image.url"), field_value({}, "image")
        ('a.jpg', None)
    """
    if path in payload:
        return payload[path]
    value: Any = payload
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
