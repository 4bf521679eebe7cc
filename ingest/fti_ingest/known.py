"""What a gallery holds already: the revision of each point, in 16 bytes a point."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fti_ingest.seen import short_id
from fti_qdrant.gallery.points import OURS

if TYPE_CHECKING:
    from fti_qdrant.gallery import Gallery

PAIR = np.dtype([("id", np.uint64), ("revision", np.uint64)])


def revision_of(sha256: str, uri: str, payload: str) -> str:
    """Changes with the image's bytes, its place and its payload: 16 hex digits."""
    return hashlib.sha256(f"{sha256}{uri}{payload}".encode()).hexdigest()[:16]


def known_pairs(gallery: Gallery | None) -> np.ndarray:
    """Id and revision of all that a gallery holds, by id: what need not be embedded again.

    ``None`` is a gallery that is not there yet.
    """
    pairs = np.fromiter(_pairs(gallery) if gallery else (), dtype=PAIR)
    pairs.sort(order="id")
    return pairs


def _pairs(gallery: Gallery) -> Iterator[tuple[int, int]]:
    for id, payload in gallery.scroll():
        revision = payload.get(OURS, {}).get("revision", "")
        yield short_id(id), int(revision, 16) if revision else 0
