"""What a run needs to know of a gallery, read in one pass over it."""

from __future__ import annotations

import math
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fti_ingest.sources.id_set import short_id
from fti_ingest.sources.source import Source
from fti_ingest.stages.deduplicate import Originals
from fti_ingest.stages.revisions import mark_outdated, stored_revisions
from fti_qdrant.gallery import CollectionLayout
from fti_qdrant.gallery.layout import OUR_LAYOUT, Payload
from fti_qdrant.gallery.point_ids import StoredId, parsed_id
from fti_qdrant.images.filesystems import CHAIN

ORIGINALS = "originals.sqlite"
"""Where duplicates are looked up, among a run's temporary files."""

UUID_BYTES = 16

Held = Iterable[tuple[str, Payload]]
"""What ``Gallery.scroll`` yields, the ids as texts."""


@dataclass(frozen=True)
class GalleryContents:
    """What a gallery holds, before a run.

    Attributes:
        revisions: file of ``stored_revisions``.
        departed: images that are no longer in the source; None where nobody asked.
    """

    revisions: Path
    departed: Departed | None = None


class Departed:
    """The stored images that are no longer in a source; 16 bytes each.

    Points of another program are not among them: nobody asked fti-ingest to delete those.
    """

    def __init__(
        self,
        source: Source,
        stay: bool = False,
        most: float = math.inf,
        report: Callable[[str], None] = lambda uri: None,
        layout: CollectionLayout = OUR_LAYOUT,
    ):
        """Args:
        stay: they remain in the gallery, so that other images may be duplicates of them.
        most: of more than so many, only the number is of interest.
        report: called with the URI of each.
        layout: of the gallery.
        """
        self.count = 0
        self._present = SourceFiles(source)
        self._stay, self._most, self._report = stay, most, report
        self._layout = layout
        self._uuids, self._numbers = bytearray(), array("Q")

    def watch(self, held: Held) -> Iterator[tuple[str, Payload]]:
        """Collects them while the images of a gallery pass by; yields those that stay."""
        for id, payload in held:
            ours = self._layout.ours or self._layout.facts(payload)
            departed = ours and not self._present.has(id, payload)
            if departed:
                self._add(id, payload)
            if self._stay or not departed:
                yield id, payload

    def ids(self) -> Iterator[StoredId]:
        for start in range(0, len(self._uuids), UUID_BYTES):
            yield str(uuid.UUID(bytes=bytes(self._uuids[start : start + UUID_BYTES])))
        yield from self._numbers

    def _add(self, id: str, payload: Payload) -> None:
        self.count += 1
        if self.count <= self._most:
            found = parsed_id(id)
            if isinstance(found, int):
                self._numbers.append(found)
            else:
                self._uuids += uuid.UUID(found).bytes
            self._report(_uri_of(payload) or id)


class SourceFiles:
    """Which stored images are still in a source: listed, or there and not ingested."""

    def __init__(self, source: Source):
        ids = (one for batch in source.table["id"].chunks for one in batch.to_pylist())
        listed = np.fromiter((short_id(one) for one in ids), np.uint64, count=len(source))
        self._short = np.concatenate([listed, source.kept])
        self._short.sort()
        self._archives = source.kept_archives

    def has(self, id: str, payload: Payload) -> bool:
        wanted = np.uint64(short_id(id))
        place = np.searchsorted(self._short, wanted)
        if place < len(self._short) and self._short[place] == wanted:
            return True
        return bool(self._archives) and _uri_of(payload).rpartition(CHAIN)[2] in self._archives


def read_contents(
    held: Held,
    source: Source,
    departed: Departed | None,
    dedupe: bool,
    layout: CollectionLayout = OUR_LAYOUT,
) -> GalleryContents:
    """Reads a gallery.

    Args:
        held: what ``Gallery.scroll`` yields.
        departed: collects the images that are no longer in the source.
        dedupe: record what is needed to find duplicates, in the run's temporary files.
        layout: of the gallery.
    """
    passing = held if departed is None else departed.watch(held)
    if dedupe:
        with closing(Originals(originals_of(source))) as originals:
            revisions = stored_revisions(originals.recording(passing), layout)
            mark_outdated(revisions, originals.outdated())
    else:
        revisions = stored_revisions(passing, layout)
    path = source.scratch.path / "revisions.npy"
    np.save(path, revisions)
    return GalleryContents(path, departed)


def originals_of(source: Source) -> str:
    """Path of the file with the images that duplicates are compared with."""
    return str(source.scratch.path / ORIGINALS)


def _uri_of(payload: Payload) -> str:
    return str(OUR_LAYOUT.facts(payload).get("uri", ""))
