"""What a gallery holds already: the revision of each point, in 16 bytes a point."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from fti_ingest.sources.id_set import short_id
from fti_qdrant.gallery.points import OURS, Payload

PAIR = np.dtype([("id", np.uint64), ("revision", np.uint64)])

HALF = 8
"""Digits of a revision for each of the two: of 4 billion changes one would go unnoticed."""

NO_REVISION = 1
"""Of a point whose image is to be looked at anew, changed or not."""


def revision_of(sha256: str, uri: str, payload: str) -> str:
    """16 hex digits: half change with the image's bytes, half with its place and its payload."""
    beside = hashlib.sha256(f"{uri}{payload}".encode()).hexdigest()
    return sha256[:HALF] + beside[:HALF]


def same_image(revision: str, other: str) -> bool:
    return revision[:HALF] == other[:HALF]


def known_pairs(held: Iterable[tuple[str, Payload]]) -> np.ndarray:
    """Id and revision of all that a gallery holds, by id: what need not be embedded again.

    ``held`` is what ``Gallery.scroll`` yields.
    """
    pairs = np.fromiter((_pair(id, payload) for id, payload in held), dtype=PAIR)
    pairs.sort(order="id")
    return pairs


def ask_anew(pairs: np.ndarray, ids: Sequence[str]) -> None:
    """Has these images looked at as if they had changed."""
    short = np.array([short_id(id) for id in ids], dtype=np.uint64)
    pairs["revision"][np.searchsorted(pairs["id"], short)] = NO_REVISION


def _pair(id: str, payload: Payload) -> tuple[int, int]:
    revision = payload.get(OURS, {}).get("revision", "")
    return short_id(id), int(revision, 16) if revision else 0
