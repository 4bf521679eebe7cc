"""Deletes images of a gallery that are no longer in the source."""

from __future__ import annotations

import math
from itertools import islice

from fti_ingest.run.gallery_contents import Departed
from fti_ingest.sources.source import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery

DELETE_BATCH = 1000

MAX_PRUNED = 0.1
"""Share of a gallery that ``--prune`` deletes without being asked for more."""


def check_prunable(source: Source, name: str) -> None:
    """Raises BadManifest where a part of the source cannot be listed: it would be deleted."""
    if source.unlisted is None:
        return
    raise BadManifest(
        f"--prune needs a complete source, and a part of {name!r} cannot be read "
        f"({source.unlisted.uri}: {source.unlisted.reason}); its images would be deleted. Repair "
        "it, or leave out --prune"
    )


def check_pruned_share(gallery: Gallery, departed: Departed, at_most: float) -> None:
    """Raises BadManifest where pruning would delete more than this share of the gallery.

    The wrong manifest would otherwise empty a gallery.
    """
    held = gallery.count()
    if departed.count > at_most * held:
        share = math.ceil(100 * departed.count / held) / 100
        raise BadManifest(
            f"--prune would delete {departed.count:,} of the {held:,} images in gallery "
            f"{gallery.name}, more than {at_most:.0%}; check that this is the right source, and "
            f"if it is, pass --prune-at-most {share:g}"
        )


def prune(gallery: Gallery, departed: Departed) -> int:
    """Deletes the images that are no longer in the source; returns how many."""
    ids = departed.ids()
    while batch := list(islice(ids, DELETE_BATCH)):
        gallery.delete(batch)
    gallery.flush()
    return departed.count
