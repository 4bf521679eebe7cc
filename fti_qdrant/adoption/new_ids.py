"""How new points of a collection get their ids, as its own points tell."""

from __future__ import annotations

from collections.abc import Sequence

from fti_qdrant.errors import BadCollection
from fti_qdrant.gallery import StoredImage, point_id
from fti_qdrant.gallery.layout import IdScheme, field_value


def id_scheme(images: Sequence[StoredImage], key_field: str | None, name: str) -> IdScheme:
    """The scheme by which the ids of some points were made.

    Args:
        key_field: payload field that they were made of; None where it is not said.

    Raises BadCollection where the ids are not made of this field.
    """
    scheme: IdScheme = "integer" if isinstance(images[0].id, int) else "uuid5"
    if key_field is None:
        return scheme
    keyed = [(image.id, field_value(image.payload, key_field)) for image in images]
    keyed = [(id, key) for id, key in keyed if key is not None]
    if all(str(id) == str(key).strip().lower() for id, key in keyed):
        return "integer" if scheme == "integer" else ("uuid" if keyed else scheme)
    odd = next((id, key) for id, key in keyed if str(id) != str(key).strip().lower())
    if all(id == point_id(str(key)) for id, key in keyed):
        return "uuid5"
    raise BadCollection(
        f"{name}: ids are not made of the field {key_field!r}: a point with {odd[1]!r} there has "
        f"the id {odd[0]!r}; name another field, or none"
    )
