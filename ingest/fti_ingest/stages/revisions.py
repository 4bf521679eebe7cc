"""Revisions tell what has changed since an image was stored; 16 bytes a point in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from fti_ingest.sources.id_set import short_id
from fti_qdrant.gallery.layout import OUR_LAYOUT, CollectionLayout, Payload

PAIR = np.dtype([("id", np.uint64), ("revision", np.uint64)])

HALF = 8
"""Hex digits of each half of a revision: one change in 4 billion would go unnoticed."""

OUTDATED = 1
"""Revision of a point that is to be embedded again, whether its image has changed or not."""

FOREIGN = 2
"""Revision of a point that another program made: it stays as it is."""

FOREIGN_TEXT = f"{FOREIGN:016x}"


def revision_of(sha256: str, uri: str, payload: str) -> str:
    """16 hex digits: one half changes with the image's bytes, the other with its URI or payload."""
    beside = hashlib.sha256(f"{uri}{payload}".encode()).hexdigest()
    return sha256[:HALF] + beside[:HALF]


def same_image(revision: str, other: str) -> bool:
    return revision[:HALF] == other[:HALF]


def stored_revisions(
    held: Iterable[tuple[str, Payload]], layout: CollectionLayout = OUR_LAYOUT
) -> np.ndarray:
    """Short id and revision of every stored image, sorted by id.

    Args:
        held: what ``Gallery.scroll`` yields, the ids as texts.
        layout: of the gallery.
    """
    pairs = np.fromiter((_pair(id, payload, layout) for id, payload in held), dtype=PAIR)
    pairs.sort(order="id")
    return pairs


def mark_outdated(pairs: np.ndarray, ids: Sequence[str]) -> None:
    """Has these images embedded again."""
    short = np.array([short_id(id) for id in ids], dtype=np.uint64)
    pairs["revision"][np.searchsorted(pairs["id"], short)] = OUTDATED


def _pair(id: str, payload: Payload, layout: CollectionLayout) -> tuple[int, int]:
    facts = layout.facts(payload)
    if not facts and not layout.ours:
        return short_id(id), FOREIGN
    revision = facts.get("revision", "")
    return short_id(id), int(revision, 16) if revision else 0


def revisions_of(pairs: np.ndarray, ids: Sequence[str]) -> list[str]:
    """The stored revision of each id; empty where the gallery does not hold it.

    ``pairs`` are ``stored_revisions``.
    """
    if not len(pairs):
        return [""] * len(ids)
    wanted = np.array([short_id(one) for one in ids], dtype=np.uint64)
    found = pairs[np.searchsorted(pairs["id"], wanted).clip(max=len(pairs) - 1)]
    return [
        f"{revision:016x}" if short == one and revision else ""
        for short, revision, one in zip(found["id"], found["revision"], wanted)
    ]
