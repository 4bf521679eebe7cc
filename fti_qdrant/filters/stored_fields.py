"""Filters checked against what a gallery holds: a field by its name, and a value by its type.

Qdrant answers nothing, in silence, for a misspelled field, or a number asked of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from qdrant_client import models
from qdrant_client.local.payload_filters import check_condition
from qdrant_client.local.payload_value_extractor import value_by_key

from fti_qdrant.errors import BadFilter, BadQuery, GalleryUnavailable
from fti_qdrant.filters.conditions import FieldUse, field_uses, replaced
from fti_qdrant.filters.grammar import FilterLike, as_filter, is_name, is_path, is_quotable, quoted
from fti_qdrant.filters.integer_ranges import EXACT, large_bounds
from fti_qdrant.filters.value_kinds import (
    EXAMPLES,
    Asked,
    Kind,
    asked_of,
    described,
    kind_of,
    probe,
    shown,
)
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.gallery.points import OURS, Payload

MOST_READ = 100_000
"""Images. In larger galleries a field that Qdrant cannot name is not looked for one by one."""


class StoredFields:
    """The payload fields of one gallery. What it has found once it does not look up again."""

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self._kinds: dict[str, set[Kind]] = {}

    def checked(self, spec: FilterLike | None) -> models.Filter | None:
        """A mapping or a ready Filter -> a Filter that the gallery can answer.

        Raises:
            BadFilter: a field that no image has, a value that none of its values can match, or an
                integer that a ready Filter would compare as a float.
            BadQuery: the gallery is empty.
        """
        filter = as_filter(spec, self.path_of)
        if filter is None:
            return None
        ready = isinstance(spec, models.Filter)
        for use in field_uses(filter):
            if ready or is_path(use.key):
                self._check(use, ready)
        return filter if ready else replaced(filter, self._by_ids)

    def path_of(self, key: str) -> str:
        """The path of the field that a key means.

        A nested field comes first, then a field whose name is the key, whatever is in it.
        """
        if is_name(key):
            return key
        by_name = f'"{key}"'
        nested = quoted(key) if is_path(key) or all(map(is_quotable, key.split("."))) else None
        if nested is not None and self.gallery.has_field(nested):
            return nested
        if is_quotable(key):
            return by_name if nested is None or self.gallery.has_field(by_name) else nested
        if any(key in payload for _, payload in self._all(key)):
            return by_name
        return quoted(key)

    def kinds(self, path: str) -> frozenset[Kind]:
        """What the values of a field are, as far as the first images that have it tell."""
        if not self._kinds.get(path) and is_path(path):
            self._values(path)
        return frozenset(self._kinds.get(path, ()))

    def names(self) -> str:
        """The fields of the first images, for messages. Raises BadQuery: the gallery is empty."""
        check_not_empty(self.gallery)
        names = {name for payload in self.gallery.sample() for name in payload}
        return ", ".join(sorted(names - {OURS})) or "none"

    def _check(self, use: FieldUse, ready: bool) -> None:
        key, condition = use.key, use.condition
        values = [] if self._kinds.get(key) else self._values(key)
        if not self._kinds[key]:
            if isinstance(condition, models.FieldCondition) or _must_be_there(use):
                self._check_known(key)
            return
        asked = asked_of(condition, strict=ready and self._index(key) != "integer")
        if asked is None:
            return
        if not self._kinds[key] & asked.kinds:  # values of other kinds may have come since
            values = values or self._values(key)
            with suppress(
                BadFilter, GalleryUnavailable
            ):  # strict mode refuses to look without an index
                self._values(key, probe(key, asked.kinds))
        if not self._kinds[key] & asked.kinds:
            raise _mismatch(key, self._kinds[key], asked, values)
        if ready and isinstance(condition, models.FieldCondition):
            self._check_bounds(key, condition)

    def _check_known(self, key: str) -> None:
        if self.gallery.has_field(key):
            return
        raise BadFilter(f"{key}: no image has this field; fields are: {self.names()}")

    def _index(self, key: str) -> str | None:
        return self.gallery.spec.indexes.get(key)

    def _check_bounds(self, key: str, condition: models.FieldCondition) -> None:
        for name, bound in large_bounds(condition):
            values = self._values(key)
            if any(kind_of(value) == "integer" and abs(value) >= EXACT for value in values):
                raise BadFilter(
                    f"{key}: {name} {bound:.0f} is beyond 2**53, where a Range compares integers "
                    f"as floats; pass the filter as a mapping, {{'{key}': {{'{name}': ...}}}}"
                )

    def _values(self, key: str, filter: models.Filter | None = None) -> list[Any]:
        """Some values of a field, of images that pass the filter; remembers their kinds."""
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        filled = models.Filter(must=[filter] if filter else None, must_not=[empty])
        payloads = self.gallery.sample(filled)
        found = [one for payload in payloads for one in value_by_key(payload, key) or []]
        values = _plain_values(found)
        self._kinds.setdefault(key, set()).update(map(kind_of, values))
        return values

    def _by_ids(self, condition: Any) -> Any:
        """A condition on a field whose name cannot be in a path, as the images that fulfill it."""
        use = next(field_uses(condition), None)
        if use is None or is_path(use.key):
            return condition
        name = use.key[1:-1]
        renamed = _renamed(condition, "value")
        ids: list[Any] = []
        values: list[Any] = []
        for id, payload in self._all(name):
            values += _plain_values(value_by_key(_only(payload, name), "value") or [])
            if check_condition(renamed, _only(payload, name), id, {}):
                ids.append(id)
        asked = asked_of(condition, strict=False)
        kinds = set(map(kind_of, values))
        if asked is not None and not kinds & asked.kinds:
            raise _mismatch(name, kinds, asked, values)
        return models.HasIdCondition(has_id=ids)

    def _all(self, name: str) -> Iterator[tuple[StoredId, Payload]]:
        """Every image, where they are not too many."""
        if self.gallery.count() > MOST_READ:
            raise BadFilter(
                f"{name}: Qdrant cannot filter by a name with quotes or backslashes, and the "
                f"gallery holds more than {MOST_READ:,} images to read one by one; rename the field"
            )
        return self.gallery.scroll()


def check_not_empty(gallery: Gallery) -> None:
    """Raises BadQuery."""
    if gallery.count() == 0:
        raise BadQuery(f"gallery {gallery.name} is empty; fill it with fti-ingest")


def _must_be_there(use: FieldUse) -> bool:
    """Whether only images with a value pass: then a field that none has finds nothing."""
    return use.negated and isinstance(use.condition, models.IsEmptyCondition)


def _mismatch(key: str, kinds: set[Kind], asked: Asked, values: list[Any]) -> BadFilter:
    if "float" in kinds and asked.kinds == {"integer"}:
        return BadFilter(
            f"{key}: holds numbers with fractions, which a match by an integer does not find; use "
            "a Range with gte and lte, or pass the filter as a mapping"
        )
    examples = ", ".join(list(dict.fromkeys(map(shown, values)))[:EXAMPLES])
    names = sorted({name for value in values if isinstance(value, dict) for name in value})
    inner = f"; fields inside it are: {', '.join(names)}" if names else ""
    return BadFilter(
        f"{key}: holds {described(kinds)}, and cannot be compared with {asked.words}; its values "
        f"are like {examples}{inner}"
    )


def _plain_values(found: list[Any]) -> list[Any]:
    return [one for one in found if one is not None and not isinstance(one, list)]


def _renamed(condition: Any, key: str) -> Any:
    field = models.PayloadField(key=key)
    if isinstance(condition, models.IsEmptyCondition):
        return models.IsEmptyCondition(is_empty=field)
    if isinstance(condition, models.IsNullCondition):
        return models.IsNullCondition(is_null=field)
    return condition.model_copy(update={"key": key})


def _only(payload: dict[str, Any], name: str) -> dict[str, Any]:
    return {"value": payload[name]} if name in payload else {}
