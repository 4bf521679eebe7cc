"""``--index brand:keyword,price:float``: payload indexes as the user wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import click

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery, IndexType

KINDS: tuple[str, ...] = get_args(IndexType)


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


def check_indexes(wanted: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Raises BadManifest where a gallery was made without an index that is asked for."""
    there = gallery.spec.indexes
    for field, kind in wanted.items():
        if there.get(field) != kind:
            raise BadManifest(
                f"gallery {gallery.name} has {there.get(field, 'no')} index on {field!r}, not "
                f"{kind}: indexes are made before the data goes in; ingest into a new gallery"
            )
