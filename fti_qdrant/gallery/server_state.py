"""What a server says of a collection, as the state of a gallery."""

from __future__ import annotations

from qdrant_client import models

from fti_qdrant.gallery.protocol import GalleryState, indexed_images
from fti_qdrant.gallery.server_collection import vector_count

BUSY = "busy"
STATES = {
    models.CollectionStatus.GREEN: "idle; everything is optimized",
    models.CollectionStatus.YELLOW: f"{BUSY} optimizing",
    models.CollectionStatus.GREY: "waiting; it starts with the next update",
    models.CollectionStatus.RED: "failed; see the server's log",
}
"""The colors of a collection, in words."""


def gallery_state(info: models.CollectionInfo, images: int, ours: bool) -> GalleryState:
    """Args:
    images: their exact number; the server's own is an estimate.
    ours: fti-ingest made the collection, so that one without links is being loaded.
    """
    problem = getattr(info.optimizer_status, "error", None)
    vectors = info.indexed_vectors_count or 0
    return GalleryState(
        points=images,
        indexed=indexed_images(vectors, vector_count(info.config), images),
        segments=int(info.segments_count or 0),
        optimizer=f"failed: {problem}" if problem else STATES[info.status],
        bulk=ours and info.config.hnsw_config.m == 0,
    )


def is_busy(state: GalleryState) -> bool:
    """Whether the optimizer is at work."""
    return state.optimizer.startswith(BUSY)
