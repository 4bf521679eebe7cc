"""``--filter``: a filter on the payload, as JSON."""

from __future__ import annotations

import json
from typing import Any

import click

from fti_qdrant.errors import BadFilter
from fti_qdrant.unique_names import unique_names

filter_option = click.option(
    "--filter", "filter_json", help='Filter on the payload, as JSON: {"price": {"lt": 50}}.'
)


def parse_filter(text: str | None) -> dict[str, Any] | None:
    """The value of ``--filter``. Raises BadFilter."""
    if text is None:
        return None
    try:
        parsed = json.loads(text, object_pairs_hook=unique_names(_twice))
    except (ValueError, RecursionError) as error:
        raise BadFilter(f"--filter is not JSON ({error}): {text}") from None
    if not isinstance(parsed, dict):
        raise BadFilter(f'--filter must be an object such as {{"brand": "Acme"}}, got {text}')
    return parsed


def _twice(name: str) -> BadFilter:
    """JSON would let the last of two conditions on a field win, and drop the first in silence."""
    return BadFilter(
        f"--filter: {name!r} is there twice; join its conditions in one object, or write "
        '{"and": [{...}, {...}]}'
    )
