"""Payload indexes: whether those of a gallery fit what a source holds, and what is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import Gallery, IndexType
from fti_qdrant.gallery.protocol import Described

logger = logging.getLogger(__name__)

HELD_BY: dict[IndexType, tuple[IndexType, ...]] = {
    "float": ("float", "integer"),
    "keyword": ("keyword", "datetime"),
    "datetime": ("datetime", "keyword"),
}
"""Types of values that an index of another type takes; a date is a text, as stored."""


def check_wanted(wanted: Mapping[str, IndexType], found: Mapping[str, IndexType]) -> None:
    """Raises BadManifest where an index is asked for that would leave a source's values out."""
    for field, kind in wanted.items():
        if field in found and found[field] not in HELD_BY.get(kind, (kind,)):
            raise BadManifest(
                f"--index {field}:{kind}, and the source has {found[field]} values there, which "
                f"filters would miss; correct the source, or pass --type {field}:{kind} to reject "
                "what is not of that type"
            )


def check_values(found: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Raises BadManifest where a source has values that the gallery's indexes would leave out."""
    indexed = gallery.spec.indexes
    for field, kind in found.items():
        if field in indexed and kind not in HELD_BY.get(indexed[field], (indexed[field],)):
            raise BadManifest(
                f"gallery {gallery.name} has {indexed[field]} index on {field!r}, and this source "
                f"has {kind} values there, which filters would miss; correct the source, pass "
                f"--type {field}:{indexed[field]}, or ingest all into a new gallery with "
                f"--index {field}:{kind}"
            )


def warn_of_new_fields(found: Mapping[str, IndexType], gallery: Gallery) -> None:
    """Warns of fields without an index, and says the commands that make them; makes none."""
    new = sorted(set(found) - set(gallery.indexes()))
    if new:
        logger.warning(
            "%s has no index on %s, so filters on it are slow; make one with: %s",
            gallery.name,
            ", ".join(new),
            "; ".join(gallery.index_command(field, found[field]) for field in new),
        )


def check_indexes(wanted: Mapping[str, IndexType], gallery: Described) -> None:
    """Raises BadManifest where a gallery was made without an index that is asked for."""
    indexed = gallery.spec.indexes
    for field, kind in wanted.items():
        if indexed.get(field) != kind:
            raise BadManifest(
                f"gallery {gallery.name} has {indexed.get(field, 'no')} index on {field!r}, not "
                f"{kind}: indexes are made before the data goes in; ingest into a new gallery"
            )
