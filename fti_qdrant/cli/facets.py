"""``fti-search facets``: the values of a payload field, counted. No model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.filter_option import filter_option, parse_filter
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.user_text import as_text, print_json

if TYPE_CHECKING:
    from fti_qdrant.gallery.location import GalleryLocation

EPILOG = """\b
Examples:
  fti-search facets brand --gallery shop
  fti-search facets brand --gallery shop --filter '{"price": {"lt": 50}}' --json
"""


@click.command(epilog=EPILOG)
@click.argument("field")
@gallery_options
@filter_option
@click.option("--limit", type=int, default=20, show_default=True, help="Maximum number of values.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@one_line_errors(after_stop="nothing was changed")
def facets(
    location: GalleryLocation, field: str, filter_json: str | None, limit: int, as_json: bool
) -> None:
    """Count the images with each value of FIELD, the most frequent first."""
    from fti_qdrant.filters.field_choices import facets as counted
    from fti_qdrant.filters.stored_fields import StoredFields

    filter = parse_filter(filter_json)
    with location.open() as gallery:
        found = counted(StoredFields(gallery), field, filter, limit)
    if as_json:
        print_json({"field": field, "facets": [vars(one) for one in found]})
        return
    from rich.table import Table

    from fti_qdrant.cli.console import output_console

    table = Table()
    table.add_column(as_text(field), overflow="fold")
    table.add_column("images", justify="right")
    for value, count in found:
        table.add_row(as_text(str(value)), f"{count:,}")
    output_console().print(table)
