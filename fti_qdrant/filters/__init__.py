"""Filters on the payload, checked against the fields that a gallery holds.

The names below are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.lazy_names import names_of

if TYPE_CHECKING:
    from fti_qdrant.filters.grammar import FilterLike, as_filter, both

_HOMES = {"FilterLike": "grammar", "as_filter": "grammar", "both": "grammar"}

__all__ = ["FilterLike", "as_filter", "both"]

__getattr__, __dir__ = names_of(__name__, _HOMES)
