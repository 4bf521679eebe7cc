"""The index of a server's collection: built after a bulk load, and its recall measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fti_ingest.run.target_gallery import on_server
from fti_qdrant.errors import BadQuery, GalleryUnavailable
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.location import GalleryLocation
from fti_qdrant.gallery.recall import Recall, measure_recall, recall_advice

logger = logging.getLogger(__name__)

BUILDING = "building the index ..."


@dataclass
class BulkLoad:
    """Whether a bulk load was ended, so that the index is built."""

    ended: bool = False


@contextmanager
def bulk_loading(
    gallery: Gallery, location: GalleryLocation, bulk: bool, note: Callable[[str], None]
) -> Iterator[BulkLoad]:
    """Builds the index at the end; a bulk load that fails is finished by the next run."""
    server, load = on_server(gallery, location), BulkLoad()
    if server is None:
        yield load
        return
    if bulk:
        server.begin_bulk()
    yield load
    if server.state().bulk:
        server.end_bulk()
        note(BUILDING)
        server.build_index()
        load.ended = True


def recall_after(
    gallery: Gallery, load: BulkLoad, stored: int, note: Callable[[str], None]
) -> Recall | None:
    """The recall after a bulk load, or after images were stored in a quantized collection.

    Logs what to change where it is low. None where there is nothing to measure; a server that does
    not answer in time does not fail the run, whose images are stored.
    """
    storage = gallery.storage()
    if not load.ended:
        if storage.quantization == "none" or not stored:
            return None
        note(BUILDING)
        gallery.build_index()
    note("measuring the recall ...")
    try:
        recall = measure_recall(gallery)
    except BadQuery:
        return None
    except GalleryUnavailable as error:
        logger.warning("the recall could not be measured: %s", error)
        return None
    if advice := recall_advice(recall, storage):
        logger.warning("%s", advice)
    return recall
