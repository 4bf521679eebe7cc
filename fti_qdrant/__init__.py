"""Composed image search for Qdrant: a reference image plus a text that says what to change.

    from fti_qdrant import ComposedSearch

    with ComposedSearch.open("gallery") as search:
        for hit in search.query("dress.jpg", "in red", filter={"price": {"lt": 50}}):
            print(hit.score, hit.uri)

The names below are loaded on first use, so that ``import fti_qdrant`` does not load torch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fti_qdrant.lazy_names import names_of
from fti_qdrant.model.cpu import limit_spinning

if TYPE_CHECKING:
    from fti_qdrant.async_search import AsyncComposedSearch
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.errors import FtiError
    from fti_qdrant.gallery import EdgeGallery, Gallery, ServerGallery
    from fti_qdrant.images.crop import Cropped
    from fti_qdrant.model.backbone import Backbone, ImageFeatures
    from fti_qdrant.model.inverter import Inverter, PseudoWords
    from fti_qdrant.query import Hit, Hits, Query
    from fti_qdrant.search import ComposedSearch
    from fti_qdrant.version import __version__ as __version__

_HOMES = {
    "__version__": "version",
    "Backbone": "model.backbone",
    "ImageFeatures": "model.backbone",
    "Composer": "composers.composer",
    "Cropped": "images.crop",
    "FtiError": "errors",
    "EdgeGallery": "gallery",
    "Gallery": "gallery",
    "ServerGallery": "gallery",
    "Inverter": "model.inverter",
    "PseudoWords": "model.inverter",
    "AsyncComposedSearch": "async_search",
    "ComposedSearch": "search",
    "Hit": "query",
    "Hits": "query",
    "Query": "query",
}

__all__ = [
    "AsyncComposedSearch",
    "Backbone",
    "ComposedSearch",
    "Composer",
    "Cropped",
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

limit_spinning()  # OpenMP reads it when torch is loaded

# an application decides what is logged; without one, nothing is printed
logging.getLogger(__name__).addHandler(logging.NullHandler())
