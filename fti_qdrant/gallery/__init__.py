"""Galleries: where image vectors live, embedded in this process or on a Qdrant server."""

from fti_qdrant.gallery.connect import connect
from fti_qdrant.gallery.edge import EdgeGallery
from fti_qdrant.gallery.points import (
    GalleryPoint,
    GallerySpec,
    IndexType,
    ScoredPoint,
    StoredImage,
    WordsSpec,
    point_id,
)
from fti_qdrant.gallery.protocol import Gallery, GalleryState, VectorQuery
from fti_qdrant.gallery.server import ServerGallery

__all__ = [
    "EdgeGallery",
    "Gallery",
    "GalleryPoint",
    "GallerySpec",
    "GalleryState",
    "IndexType",
    "ScoredPoint",
    "ServerGallery",
    "StoredImage",
    "VectorQuery",
    "WordsSpec",
    "connect",
    "point_id",
]
