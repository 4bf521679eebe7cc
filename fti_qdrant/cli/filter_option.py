"""``--filter``: a filter on the payload, as JSON."""

from __future__ import annotations

import json
from typing import Any

import click

from fti_qdrant.errors import BadFilter

filter_option = click.option(
    "--filter", "filter_json", help='Filter on the payload, as JSON: {"price": {"lt": 50}}.'
)


def parse_filter(text: str | None) -> dict[str, Any] | None:
    """The value of ``--filter``. Raises BadFilter."""
    if text is None:
        return None
    try:
        parsed = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise BadFilter(f"--filter is not JSON ({error}): {text}") from None
    if not isinstance(parsed, dict):
        raise BadFilter(f'--filter must be an object such as {{"brand": "Acme"}}, got {text}')
    return parsed


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON would let the last of two conditions on a field win, and drop the first in silence."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadFilter(
                f"--filter: {name!r} is there twice; join its conditions in one object, or write "
                '{"and": [{...}, {...}]}'
            )
        found[name] = value
    return found
