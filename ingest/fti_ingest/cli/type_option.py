"""``--type price:float``: what the values of a payload column are, whatever they look like."""

from __future__ import annotations

from typing import Any, cast

import click

from fti_ingest.cli.name_and_type import NameAndType
from fti_ingest.sources.value_kinds import COLUMN_TYPES, ColumnType

IMAGE_COLUMN = "image"


class ColumnAndType(NameAndType):
    """A ``column:type`` pair; the column's name may hold anything."""

    name = "COLUMN:TYPE"
    types = COLUMN_TYPES

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ColumnType]:
        column, type = self.pair(str(value))
        if column == IMAGE_COLUMN:
            self.fail(f"{IMAGE_COLUMN!r} names the images, and is no payload column")
        return column, cast(ColumnType, type)


def _joined(
    context: click.Context, parameter: click.Parameter, given: tuple[tuple[str, ColumnType], ...]
) -> dict[str, ColumnType]:
    types: dict[str, ColumnType] = {}
    for column, type in given:
        if types.setdefault(column, type) != type:
            raise click.BadParameter(f"{column!r} is to be {types[column]} and {type}")
    return types


type_option = click.option(
    "--type",
    "types",
    type=ColumnAndType(),
    multiple=True,
    callback=_joined,
    help="The type of a payload column, sku:keyword; may be repeated. Rows with other values are "
    "rejected.  [default: by the values]",
)
