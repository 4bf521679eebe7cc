"""Payload fields to group by, to order by, to count and to return, checked against the gallery.

A server answers nothing, in silence, where it cannot group by the values of a field.
"""

from __future__ import annotations

from fti_qdrant.errors import BadQuery
from fti_qdrant.filters.grammar import FilterLike, is_path
from fti_qdrant.filters.stored_fields import StoredFields
from fti_qdrant.filters.value_kinds import Kind, described
from fti_qdrant.gallery import FacetCount
from fti_qdrant.gallery.points import IndexType
from fti_qdrant.query import MAX_LIMIT
from fti_qdrant.refinements import is_whole

GROUPED: frozenset[Kind] = frozenset({"text", "date", "integer"})
ORDERED: tuple[frozenset[Kind], ...] = (frozenset({"integer", "float"}), frozenset({"date"}))
FACETED: dict[str, Kind] = {"keyword": "text", "uuid": "text", "integer": "integer", "bool": "bool"}
"""Types of indexes that values can be counted with."""


def group_field(fields: StoredFields, key: str) -> str:
    """The path of a field to group by. Raises BadQuery unless it holds texts or whole numbers."""
    path, kinds = _known(fields, key, "group_by")
    if not kinds <= GROUPED:
        raise BadQuery(
            f"group_by {key!r}: the field holds {_exactly(kinds)}, and groups are made of texts "
            "or whole numbers"
        )
    return path


def order_field(fields: StoredFields, key: str) -> str:
    """The path of a field to order by. Raises BadQuery unless it holds numbers or dates."""
    path, kinds = _known(fields, key, "order_by")
    if not any(kinds <= one for one in ORDERED):
        raise BadQuery(
            f"order_by {key!r}: the field holds {_exactly(kinds)}, and an order needs numbers or "
            "dates alone"
        )
    return path


def payload_field(fields: StoredFields, key: str) -> str:
    """The path of a field to return. Raises BadQuery where no image has it."""
    return _known(fields, key, "with_payload")[0]


def facets(
    fields: StoredFields, field: str, filter: FilterLike | None = None, limit: int = 10
) -> list[FacetCount]:
    """The values of a field with their numbers of images, the most frequent first.

    Args:
        filter: counts only images that pass it.
        limit: most values.

    Raises BadQuery (no such field, or no index that values are counted with), BadFilter.
    """
    if not is_whole(limit) or not 1 <= limit <= MAX_LIMIT:
        raise BadQuery(f"limit must be a whole number from 1 to {MAX_LIMIT:,}, got {limit!r}")
    path, kinds = _known(fields, field, "facets")
    gallery = fields.gallery
    index = gallery.indexes().get(path)
    if index not in FACETED:
        kind = _index_for(kinds)
        what = f"an index of type {index}" if index else "no index"
        if kind is None:
            raise BadQuery(
                f"facets of {field!r}: the field holds {_exactly(kinds)}, and an index counts "
                "either texts, or whole numbers, or true and false"
            )
        raise BadQuery(
            f"facets of {field!r}: the field has {what}, and values are counted with an index of "
            f"type {kind}; make it with: {gallery.index_command(path, kind)}"
        )
    return gallery.facets(path, fields.checked(filter), limit)


def _known(fields: StoredFields, key: str, asker: str) -> tuple[str, frozenset[Kind]]:
    """The path of a field, and the kinds of its values. Raises BadQuery where none has it."""
    if not isinstance(key, str) or not key.strip():
        raise BadQuery(f"{asker} takes the name of a payload field, got {key!r}")
    path = fields.path_of(key)
    if not is_path(path):
        raise BadQuery(
            f"{asker} {key!r}: Qdrant cannot name a field with quotes or backslashes; rename it"
        )
    kinds = fields.kinds(path)
    if not kinds:
        raise BadQuery(
            f"{asker} {key!r}: no image has a value in this field; fields are: {fields.names()}"
        )
    return path, kinds


def _index_for(kinds: frozenset[Kind]) -> IndexType | None:
    if kinds <= {"text", "date"}:
        return "keyword"
    if kinds <= {"integer"}:
        return "integer"
    return "bool" if kinds <= {"bool"} else None


def _exactly(kinds: frozenset[Kind]) -> str:
    """Kinds in words, numbers with fractions apart."""
    if "float" not in kinds:
        return described(kinds)
    others = described(kinds - {"float", "integer"})
    return "numbers with fractions" + (f" and {others}" if others else "")
