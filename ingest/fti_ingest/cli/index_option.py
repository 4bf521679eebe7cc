"""``--index brand:keyword,price:float``: payload indexes as the user wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import click

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery, IndexType

KINDS: tuple[str, ...] = get_args(IndexType)


HELD_BY: dict[IndexType, tuple[IndexType, ...]] = {
    "float": ("float", "integer"),
    "keyword": ("keyword", "datetime"),
    "datetime": ("datetime", "keyword"),
}
"""Types of values that an index of another type takes; a date is a text, as stored."""


class FieldTypes(click.ParamType):
    """``field:type`` pairs, with commas between them."""

    name = "FIELD:TYPE"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, IndexType]:
        found: dict[str, IndexType] = {}
        for pair in str(value).replace(",", " ").split():
            field, _, kind = pair.rpartition(":")
            if not field or kind not in KINDS:
                self.fail(f"{pair!r} is not FIELD:TYPE with a type of {', '.join(KINDS)}")
            found[field] = cast(IndexType, kind)
        return found


def _joined(
    context: click.Context, parameter: click.Parameter, given: tuple[dict[str, IndexType], ...]
) -> dict[str, IndexType]:
    return {field: kind for one in given for field, kind in one.items()}


index_option = click.option(
    "--index",
    "indexes",
    type=FieldTypes(),
    multiple=True,
    callback=_joined,
    help="Payload fields to index, brand:keyword,price:float; by default by their values.",
)


def check_values(found: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Raises BadManifest where a source has values that the gallery's indexes would leave out."""
    there = gallery.spec.indexes
    for field, kind in found.items():
        if field in there and kind not in HELD_BY.get(there[field], (there[field],)):
            raise BadManifest(
                f"gallery {gallery.name} has {there[field]} index on {field!r}, and this source "
                f"has {kind} values there, which filters would miss; mend the source, or ingest "
                f"all into a new gallery with --index {field}:{kind}"
            )


def tell_new_fields(found: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Tells which fields of a source the gallery was made without an index on."""
    new = sorted(set(found) - set(gallery.spec.indexes))
    if new:
        click.echo(
            f"note: {gallery.name} has no index on {', '.join(new)}: filters on that are slow; "
            "indexes are made with a gallery",
            err=True,
        )


def check_indexes(wanted: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Raises BadManifest where a gallery was made without an index that is asked for."""
    there = gallery.spec.indexes
    for field, kind in wanted.items():
        if there.get(field) != kind:
            raise BadManifest(
                f"gallery {gallery.name} has {there.get(field, 'no')} index on {field!r}, not "
                f"{kind}: indexes are made before the data goes in; ingest into a new gallery"
            )
