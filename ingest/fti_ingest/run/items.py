"""Images that come one by one, as a service gets them: the same stages, without a source."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from fti_ingest.sources.payloads import payload_text
from fti_ingest.stages.decode import Decoder
from fti_ingest.stages.embed import Embedder
from fti_ingest.stages.row_status import PAYLOAD, REJECTED, UNCHANGED
from fti_ingest.stages.write import write
from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import (
    BadCollection,
    BadImage,
    BadManifest,
    OutputUnavailable,
    UnknownImageId,
)
from fti_qdrant.gallery import StoredImage, point_id
from fti_qdrant.gallery.layout import OUR_LAYOUT, Payload
from fti_qdrant.gallery.point_ids import PointId, StoredId
from fti_qdrant.images.formats import known_kind
from fti_qdrant.images.read import content_hash

if TYPE_CHECKING:
    from fti_qdrant.search import ComposedSearch

logger = logging.getLogger(__name__)

Outcome = Literal["stored", "updated", "unchanged"]


class ItemIngest:
    """Stores images in the gallery of a search, and their files in a folder.

    Example:
        >>> items = ItemIngest(search, Path("uploads"))                       # doctest: +SKIP
        >>> items.store("dress.jpg", data, {"price": 45})                     # doctest: +SKIP
        ('7c1f...', 'stored')
    """

    def __init__(self, search: ComposedSearch, folder: Path):
        """Args:
        folder: the pictures are kept there; their names are made of ids and hashes.

        Raises:
            ModelMismatch: the gallery stores other pseudo-words than the model makes.
            BadCollection: another program made the gallery's points.
        """
        composer, spec = search.composer, search.gallery.spec
        if not spec.layout.ours:
            raise BadCollection(
                f"another program made the points of {search.gallery.name}, and knows how their "
                "ids and payloads are made; add images with it, or with fti-ingest"
            )
        words = composer.word_preprocess if spec.words else None
        self.gallery = search.gallery
        self.folder = folder.resolve()
        self._decoder = Decoder(
            composer.backbone.preprocess, word_preprocess=words, limits=search.limits
        )
        self._embedder = Embedder.of(composer, spec, search.gallery.name)
        self._lock = threading.Lock()

    def store(self, key: str, data: bytes, payload: Mapping[str, Any]) -> tuple[StoredId, Outcome]:
        """Adds or replaces the image of a key.

        Returns:
            Its id, and what became of it: ``updated`` where the picture was there already and its
            payload is new.

        Raises:
            BadImage, BadManifest: the picture or the payload cannot be stored. What was stored
                under this key before stays as it was.
            GalleryUnavailable, OutputUnavailable: the gallery or the folder cannot be written.
        """
        id, text = point_id(key), _payload_text(key, payload)
        file = self.folder / f"{id}-{content_hash(data)[:16]}{_suffix(data)}"
        with self._lock:
            before = self._find(id)
            row = {
                "id": id,
                "uri": str(file),
                "payload": text,
                "stored_revision": _revision(before),
            }
            batch = self._decoder.decoded(pa.Table.from_pylist([row]), [data])
            [status] = batch["status"].to_pylist()
            if status != REJECTED:
                batch = self._embedder(batch)
            [rejected], [reason] = batch["status"].to_pylist(), batch["error"].to_pylist()
            if rejected == REJECTED:
                raise BadImage(f"the picture of {key!r}: {reason}")
            self._write_file(file, data)
            if status != UNCHANGED:
                write(batch, self.gallery)
                self._remove_file(before, but=file)
        outcomes: dict[str, Outcome] = {UNCHANGED: "unchanged", PAYLOAD: "updated"}
        return id, outcomes.get(status, "stored")

    def delete(self, id: PointId) -> None:
        """Removes an image, and its file where it is in our folder.

        Raises UnknownImageId, GalleryUnavailable.
        """
        with self._lock:
            before = self._find(id)
            if before is None:
                raise UnknownImageId(f"gallery {self.gallery.name} has no image {id}")
            self.gallery.delete([id])
            self._remove_file(before)

    def _find(self, id: PointId) -> StoredImage | None:
        return next(iter(self.gallery.retrieve([id])), None)

    def _write_file(self, file: Path, data: bytes) -> None:
        if file.exists():
            return
        try:
            with replacing(file) as part:
                part.write_bytes(data)
        except OSError as error:
            logger.error("the folder of uploads %s cannot be written: %s", self.folder, error)
            reason = error.strerror or type(error).__name__  # its text would tell where that is
            raise OutputUnavailable(
                f"the folder of uploads cannot be written ({reason}); nothing was stored"
            ) from error

    def _remove_file(self, image: StoredImage | None, but: Path | None = None) -> None:
        """Of an image that is no longer stored. A source's own files stay."""
        uri = OUR_LAYOUT.facts(image.payload).get("uri") if image else None
        if uri and Path(uri) != but and Path(uri).parent == self.folder:
            try:
                Path(uri).unlink(missing_ok=True)
            except OSError as error:  # the image itself is stored, or deleted, as was asked
                logger.warning("the file %s of no image any more stays there: %s", uri, error)


def _payload_text(key: str, payload: Mapping[str, Any]) -> str:
    try:
        return payload_text(Payload(payload))
    except ValueError as error:
        raise BadManifest(f"the payload of {key!r}: {error}") from None


def _revision(image: StoredImage | None) -> str:
    return str(OUR_LAYOUT.facts(image.payload).get("revision", "")) if image else ""


def _suffix(data: bytes) -> str:
    """For people who look into the folder; what a file is, its bytes say."""
    kind = known_kind(data)
    return f".{kind.lower().replace(' ', '')}" if kind else ""
