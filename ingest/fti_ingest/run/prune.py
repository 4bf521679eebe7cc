"""Images of a gallery that are no longer in the source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np

from fti_ingest.sources.id_set import short_id
from fti_ingest.sources.listing import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.points import Payload

DELETE_BATCH = 1000

MAX_PRUNED = 0.1
"""Share of a gallery that ``--prune`` deletes without being asked for more."""


def check_prunable(source: Source, name: str) -> None:
    """Raises BadManifest where a part of the source cannot be listed: it would be deleted."""
    if source.complete:
        return
    first = next(source.rejects())
    raise BadManifest(
        f"--prune needs a complete source, and a part of {name!r} cannot be read ({first.uri}: "
        f"{first.reason}); its images would be deleted. Repair it, or leave out --prune"
    )


def check_pruned_share(gallery: Gallery, source: Source, at_most: float) -> None:
    """Raises BadManifest where pruning would delete more than this share of the gallery.

    The wrong manifest would otherwise empty a gallery.
    """
    held = gallery.count()
    count = sum(1 for _ in departed(gallery, source))
    if count > at_most * held:
        share = math.ceil(100 * count / held) / 100
        raise BadManifest(
            f"--prune would delete {count:,} of the {held:,} images in gallery {gallery.name}, "
            f"more than {at_most:.0%}; check that this is the right source, and if it is, pass "
            f"--prune-at-most {share:g}"
        )


class ListedIds:
    """The ids that a source lists, in 8 bytes each."""

    def __init__(self, source: Source):
        ids = (one for batch in source.table["id"].chunks for one in batch.to_pylist())
        self._short = np.fromiter((short_id(one) for one in ids), np.uint64, count=len(source))
        self._short.sort()

    def __contains__(self, id: str) -> bool:
        wanted = np.uint64(short_id(id))
        place = np.searchsorted(self._short, wanted)
        return bool(place < len(self._short) and self._short[place] == wanted)


def departed(gallery: Gallery, source: Source) -> Iterator[tuple[str, Payload]]:
    """The stored images that the source does not list."""
    listed = ListedIds(source)
    yield from ((id, payload) for id, payload in gallery.scroll() if id not in listed)


def prune(gallery: Gallery, source: Source) -> int:
    """Deletes the images that are no longer in the source; returns how many."""
    count = 0
    doomed = (id for id, _ in departed(gallery, source))  # scrolling goes on behind deleted ids
    while batch := list(islice(doomed, DELETE_BATCH)):
        gallery.delete(batch)
        count += len(batch)
    gallery.flush()
    return count
