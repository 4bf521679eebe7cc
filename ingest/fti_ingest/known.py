"""What a gallery holds already: the revision of each point, in 16 bytes a point."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence

import numpy as np

from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.points import OURS

PAIR = np.dtype([("id", np.uint64), ("revision", np.uint64)])
HALF = 2**64 - 1


def revision_of(sha256: str, uri: str, payload: str) -> str:
    """Changes with the image's bytes, its place and its payload: 16 hex digits."""
    return hashlib.sha256(f"{sha256}{uri}{payload}".encode()).hexdigest()[:16]


class Known:
    """Point id -> revision of all that a gallery holds: what need not be embedded again."""

    def __init__(self, gallery: Gallery | None):
        """``None`` is a gallery that is not there yet."""
        self._pairs = np.fromiter(_pairs(gallery) if gallery else (), dtype=PAIR)
        self._pairs.sort(order="id")

    def revisions(self, ids: Sequence[str]) -> list[str]:
        """One for each id; empty where the gallery does not hold it."""
        if not len(self._pairs):
            return [""] * len(ids)
        wanted = np.array([short_id(one) for one in ids], dtype=np.uint64)
        places = np.searchsorted(self._pairs["id"], wanted).clip(max=len(self._pairs) - 1)
        found = self._pairs[places]
        return [
            f"{revision:016x}" if short == one and revision else ""
            for short, revision, one in zip(found["id"], found["revision"], wanted)
        ]


def _pairs(gallery: Gallery) -> Iterator[tuple[int, int]]:
    for id, payload in gallery.scroll():
        revision = payload.get(OURS, {}).get("revision", "")
        yield short_id(id), int(revision, 16) if revision else 0


def short_id(id: str) -> int:
    """The last 8 bytes of an id, which tell a million of them apart."""
    return uuid.UUID(id).int & HALF
