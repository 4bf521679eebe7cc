"""Composed image search for Qdrant: a reference picture plus a text that changes it.

    from fti_qdrant import ComposedSearch

    with ComposedSearch.open("gallery") as search:
        for hit in search.query("dress.jpg", "in red", filter={"price": {"lt": 50}}):
            print(hit.score, hit.uri)

The names below are loaded on first use, so that ``import fti_qdrant`` does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.lazy import names_of

if TYPE_CHECKING:
    from fti_qdrant.backbone import Backbone, ImageFeatures
    from fti_qdrant.composer import Composer
    from fti_qdrant.errors import FtiError
    from fti_qdrant.gallery import EdgeGallery, Gallery, ServerGallery
    from fti_qdrant.inverter import Inverter, PseudoWords
    from fti_qdrant.search import AsyncComposedSearch, ComposedSearch, Hit, Hits, Query

_HOMES = {
    "Backbone": "backbone",
    "ImageFeatures": "backbone",
    "Composer": "composer",
    "FtiError": "errors",
    "EdgeGallery": "gallery",
    "Gallery": "gallery",
    "ServerGallery": "gallery",
    "Inverter": "inverter",
    "PseudoWords": "inverter",
    "AsyncComposedSearch": "search",
    "ComposedSearch": "search",
    "Hit": "search",
    "Hits": "search",
    "Query": "search",
}

__all__ = [
    "AsyncComposedSearch",
    "Backbone",
    "ComposedSearch",
    "Composer",
    "EdgeGallery",
    "FtiError",
    "Gallery",
    "Hit",
    "Hits",
    "ImageFeatures",
    "Inverter",
    "PseudoWords",
    "Query",
    "ServerGallery",
]


__getattr__, __dir__ = names_of(__name__, _HOMES)
