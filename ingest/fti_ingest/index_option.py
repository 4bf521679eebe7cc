"""``--index brand:keyword,price:float``: payload indexes as the user wants them."""

from __future__ import annotations

from typing import Any, cast, get_args

import click

from fti_qdrant.gallery import IndexType

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


index_option = click.option(
    "--index",
    "indexes",
    type=FieldTypes(),
    multiple=True,
    help="Payload fields to index, brand:keyword,price:float; by default by their values.",
)


def chosen(indexes: tuple[dict[str, IndexType], ...]) -> dict[str, IndexType]:
    """All that were given; none leaves the choice to the values."""
    return {field: kind for one in indexes for field, kind in one.items()}
