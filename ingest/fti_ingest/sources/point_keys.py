"""How the images of a source get their point ids: by their paths, or by a column of the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fti_ingest.sources.value_kinds import shortened
from fti_qdrant.errors import UnknownImageId
from fti_qdrant.gallery import CollectionLayout, point_id
from fti_qdrant.gallery.layout import IdScheme, Payload, field_value
from fti_qdrant.gallery.point_ids import parsed_id


@dataclass(frozen=True)
class PointKeys:
    """What ids are made of.

    Attributes:
        ids: how they are made of it.
        field: of the payload; None for the image's path or URI relative to the source.

    Example:
        >>> PointKeys("integer", "sku").id_of("a.jpg", {"sku": "42"})
        '42'
    """

    ids: IdScheme = "uuid5"
    field: str | None = None

    @classmethod
    def of(cls, layout: CollectionLayout) -> PointKeys:
        """Those of a gallery."""
        return cls(layout.ids, layout.key_field)

    def id_of(self, path: str, payload: Payload) -> str:
        """An image's id, as a text. Raises ValueError where its row has none."""
        if self.field is None:
            return point_id(path)
        key = _as_text(field_value(payload, self.field))
        if not key:
            raise ValueError(f"no {self.field!r} value, which the id is made of")
        if self.ids == "uuid5":
            return point_id(key)
        try:
            id = parsed_id(key)
        except UnknownImageId:
            id = None
        if isinstance(id, int if self.ids == "integer" else str):
            return str(id)
        wanted = "a whole number" if self.ids == "integer" else "a UUID"
        raise ValueError(f"{self.field!r} is {shortened(key)}, and ids here are made of {wanted}")


BY_PATH = PointKeys()


def _as_text(key: Any) -> str:
    if isinstance(key, bool) or key is None:
        return ""
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    return str(key).strip()
