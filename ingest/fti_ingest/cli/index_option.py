"""``--index brand:keyword,price:float``: payload indexes as the user wants them."""

from __future__ import annotations

from typing import Any, cast, get_args

import click

from fti_ingest.cli.name_and_type import NameAndType
from fti_qdrant.gallery.points import IndexType

KINDS: tuple[str, ...] = get_args(IndexType)


class FieldTypes(NameAndType):
    """``field:type`` pairs, with commas between them."""

    name = "FIELD:TYPE"
    types = KINDS

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, IndexType]:
        found: dict[str, IndexType] = {}
        for pair in str(value).replace(",", " ").split():
            field, kind = self.pair(pair)
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
