"""Calibration: the chance that a hit is right, fitted for each composer on judged hits.

``gallery.calibration`` is what is stored, ``confidence`` where a search uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.lazy_names import names_of

if TYPE_CHECKING:
    from fti_qdrant.calibration.own_queries import calibrate
    from fti_qdrant.calibration.query_file import JudgedQuery, read_queries

_HOMES = {"calibrate": "own_queries", "JudgedQuery": "query_file", "read_queries": "query_file"}

__all__ = ["JudgedQuery", "calibrate", "read_queries"]

__getattr__, __dir__ = names_of(__name__, _HOMES)
