"""Reference images of a query: pictures, or ids of stored images."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from fti_qdrant.errors import BadQuery, UnknownImageId
from fti_qdrant.gallery.point_ids import StoredId, is_number, stored_form
from fti_qdrant.images import ImageSource
from fti_qdrant.images.crop import Cropped

Reference = ImageSource | uuid.UUID | int
"""A picture in any form, or the id of a stored image: a UUID, its text, or a whole number."""


def as_list(references: Any) -> list[Any]:
    """A list of references, also of one alone, or of none."""
    if references is None:
        return []
    return list(references) if isinstance(references, (list, tuple)) else [references]


def check_like(liked: Sequence[Reference], disliked: Sequence[Reference]) -> None:
    """Raises BadQuery where these are not ids of stored images, or one is in both."""
    ids = {}
    for name, references in (("like", liked), ("dislike", disliked)):
        ids[name] = [stored_id(one) for one in references]
        if None in ids[name]:
            odd = references[ids[name].index(None)]
            raise BadQuery(f"{name} takes the ids of stored images, got {odd!r}; pass a hit's id")
    twice = set(ids["like"]) & set(ids["dislike"])
    if twice:
        raise BadQuery(f"image {min(map(str, twice))} is in both like and dislike; keep one")


def named_id(reference: Reference) -> StoredId | None:
    """The point id that a reference names, of the whole image or of a part; None for a picture.

    Raises BadQuery as ``stored_id``.
    """
    return stored_id(reference.image if isinstance(reference, Cropped) else reference)


def stored_id(reference: Reference) -> StoredId | None:
    """The point id that a reference names, or None where it is a picture or a part of one.

    A number is always an id, and a text of digits always a path.

    Example:
        >>> stored_id(42), stored_id("42")
        (42, None)

    Raises BadQuery for a number that is no id.
    """
    try:
        if is_number(reference) or isinstance(reference, uuid.UUID):
            return stored_form(reference)
    except UnknownImageId as error:
        raise BadQuery(str(error)) from None
    if isinstance(reference, str) and len(reference) == 36:
        try:
            return stored_form(reference)
        except UnknownImageId:
            return None
    return None
