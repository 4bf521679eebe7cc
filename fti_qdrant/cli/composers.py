"""``fti-search composers``: what composers there are, what they need, and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.cli.console import print_tables
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.user_text import as_text, print_json
from fti_qdrant.composers.registry import all_composers

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.table import Table

    from fti_qdrant.composers.description import ComposerDescription

EPILOG = """\b
Examples:
  fti-search composers
  fti-search composers --json
  fti-search --gallery shop --image dress.jpg --text "in red" --composer slerp --text-weight 0.6
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@one_line_errors(after_stop="nothing was changed")
def composers(as_json: bool) -> None:
    """List the composers: what they need, and their options.

    Their names are what --composer takes. Options are passed by --text-weight and
    --composer-option.
    """
    found = all_composers()
    if as_json:
        print_json([_as_dict(one) for one in found])
        return
    print_tables([_table(found)])


def _as_dict(composer: ComposerDescription) -> dict[str, Any]:
    return {
        "name": composer.name,
        "summary": composer.summary,
        "needs": _needs(composer),
        "options": {
            name: {"default": option.default, "description": option.description}
            for name, option in composer.options.model_fields.items()
        },
    }


def _table(found: tuple[ComposerDescription, ...]) -> Table:
    from rich.table import Table

    table = Table("composer")
    for column in ("what it does", "needs", "options"):
        table.add_column(column, overflow="fold")
    for one in found:
        options = [_option(name, field) for name, field in one.options.model_fields.items()]
        cells = (one.name, one.summary, ", ".join(_needs(one)), "; ".join(options))
        table.add_row(*map(as_text, cells))
    return table


def _needs(composer: ComposerDescription) -> list[str]:
    parts = {
        "an image": composer.uses_image,
        "a text": composer.uses_text,
        "an inverter": composer.needs_inverter,
    }
    return [part for part, needed in parts.items() if needed]


def _option(name: str, field: FieldInfo) -> str:
    text = f"{name}={field.default:g}" if isinstance(field.default, float) else name
    return f"{text}: {field.description}" if field.description else text
