"""Galleries: where image vectors are stored, embedded in this process or on a Qdrant server.

The names below are loaded on first use: ingest's decoding workers need only the payload's keys, and
qdrant-client takes longer to import than everything else that they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.lazy_names import names_of

if TYPE_CHECKING:
    from fti_qdrant.gallery.calibration import Calibration
    from fti_qdrant.gallery.edge import EdgeGallery
    from fti_qdrant.gallery.layout import CollectionLayout
    from fti_qdrant.gallery.model_check import ModelCheck
    from fti_qdrant.gallery.point_ids import point_id
    from fti_qdrant.gallery.points import (
        FacetCount,
        GalleryPoint,
        GallerySpec,
        IndexType,
        ScoredPoint,
        StoredImage,
        WordsSpec,
    )
    from fti_qdrant.gallery.protocol import FieldOrder, Gallery, GalleryState, VectorQuery
    from fti_qdrant.gallery.server import ServerGallery
    from fti_qdrant.gallery.server_connection import connect

_HOMES = {
    "connect": "server_connection",
    "Calibration": "calibration",
    "CollectionLayout": "layout",
    "EdgeGallery": "edge",
    "FacetCount": "points",
    "FieldOrder": "protocol",
    "GalleryPoint": "points",
    "GallerySpec": "points",
    "IndexType": "points",
    "ModelCheck": "model_check",
    "ScoredPoint": "points",
    "StoredImage": "points",
    "WordsSpec": "points",
    "point_id": "point_ids",
    "Gallery": "protocol",
    "GalleryState": "protocol",
    "VectorQuery": "protocol",
    "ServerGallery": "server",
}

__all__ = [
    "Calibration",
    "CollectionLayout",
    "EdgeGallery",
    "FacetCount",
    "FieldOrder",
    "Gallery",
    "GalleryPoint",
    "GallerySpec",
    "GalleryState",
    "IndexType",
    "ModelCheck",
    "ScoredPoint",
    "ServerGallery",
    "StoredImage",
    "VectorQuery",
    "WordsSpec",
    "connect",
    "point_id",
]

__getattr__, __dir__ = names_of(__name__, _HOMES)
