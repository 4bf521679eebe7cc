"""What a gallery holds and the source does not list any more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from fti_ingest.sources.id_set import short_id
from fti_ingest.sources.listing import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.points import Payload

DELETE_BATCH = 1000


def check_prunable(source: Source, name: str) -> None:
    """Raises BadManifest where a part of the source could not be listed: it would be deleted."""
    if source.complete:
        return
    first = next(source.rejects())
    raise BadManifest(
        f"--prune would delete what {name!r} lists and cannot be read now ({first.uri}: "
        f"{first.reason}); mend that, or leave out --prune"
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
    """Of what the gallery holds, all that the source does not list."""
    listed = ListedIds(source)
    yield from ((id, payload) for id, payload in gallery.scroll() if id not in listed)


def prune(gallery: Gallery, source: Source) -> int:
    """Deletes them; how many there were."""
    count = 0
    doomed = (id for id, _ in departed(gallery, source))  # scrolls on behind what is deleted
    while batch := list(islice(doomed, DELETE_BATCH)):
        gallery.delete(batch)
        count += len(batch)
    gallery.flush()
    return count
