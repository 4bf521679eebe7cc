"""The stage that reads and decodes: URI -> uint8 pixels, by the one preprocessing.

A row that fails goes on with its status and error; nothing raises for one bad image. Batches are
Arrow tables, so that a row without pixels costs nothing on its way.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fti_ingest.sources.result_or_reason import result_or_reason
from fti_ingest.stages.columns import spread, texts
from fti_ingest.stages.perceptual_hash import PerceptualHash
from fti_ingest.stages.revisions import FOREIGN_TEXT, revision_of, same_image
from fti_ingest.stages.row_status import FOREIGN, PAYLOAD, REJECTED, STORE, UNCHANGED
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess, decode
from fti_qdrant.images.fetch import Read, read_batch, without_span

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Decoded:
    """What became of one row.

    Attributes:
        width, height: of the upright picture before it is resized.
        perceptual_hash: empty unless near duplicates are looked for.
        pixels: ``3 * size * size`` bytes; none where the row is not to be embedded.
        word_pixels: those that pseudo-words are made of, where they are others; else none.
    """

    status: str
    error: str = ""
    sha256: str = ""
    revision: str = ""
    width: int = 0
    height: int = 0
    perceptual_hash: str = ""
    pixels: bytes = b""
    word_pixels: bytes = b""


SCHEMA = (
    ("status", pa.string()),
    ("error", pa.string()),
    ("sha256", pa.string()),
    ("revision", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("perceptual_hash", pa.string()),
    ("pixels", pa.large_binary()),
    ("word_pixels", pa.large_binary()),
)
"""The columns of ``Decoded``."""


@dataclass(frozen=True)
class Decoder:
    """Adds the columns of ``Decoded``, and ``read_s`` and ``decode_s`` in seconds.

    Takes the columns id, uri, payload, and stored_revision: the gallery's, empty for new images.

    Attributes:
        preprocess: None only checks that pictures can be decoded, as a dry run does.
        allow_urls: whether images may be fetched from any web server.
        own: ``Source.own``.
        hashes: whether perceptual hashes are wanted, for near duplicates.
        word_preprocess: of what pseudo-words are made of, where it is another.
        limits: of one image, once it is read.
    """

    preprocess: Preprocess | None
    allow_urls: bool = False
    own: str = ""
    hashes: bool = False
    word_preprocess: Preprocess | None = None
    limits: ImageLimits = DEFAULT_LIMITS

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        data = self._read(batch["uri"].to_pylist(), batch["stored_revision"].to_pylist())
        return self.decoded(batch, data, time.perf_counter() - began)

    def decoded(self, batch: pa.Table, data: Sequence[Read], read_s: float = 0.0) -> pa.Table:
        """The same for images whose bytes are here already.

        Args:
            data: of each row.
            read_s: seconds that it took to read them.
        """
        rows = batch.select(["uri", "payload", "stored_revision"]).to_pydict()
        began = time.perf_counter()
        done = [self._decode(*row) for row in zip(data, *rows.values())]
        decode_s = time.perf_counter() - began
        columns = {
            "id": batch["id"],
            "uri": texts(map(without_span, rows["uri"])),
            "payload": batch["payload"],
            "stored_revision": batch["stored_revision"],
        }
        for name, kind in SCHEMA:
            columns[name] = pa.array([getattr(one, name) for one in done], kind)
        columns["read_s"] = spread(read_s, len(batch))
        columns["decode_s"] = spread(decode_s, len(batch))
        return pa.table(columns)

    def _read(self, uris: Sequence[str], stored_revisions: Sequence[str]) -> list[Read]:
        """The images; nothing of those whose points stay as another program made them."""
        wanted = [uri for uri, held in zip(uris, stored_revisions) if held != FOREIGN_TEXT]
        found = iter(read_batch(wanted, self.allow_urls, self.own))
        return [b"" if held == FOREIGN_TEXT else next(found) for held in stored_revisions]

    def _decode(self, data: Read, uri: str, payload: str, stored_revision: str) -> Decoded:
        if stored_revision == FOREIGN_TEXT:
            return Decoded(FOREIGN)
        uri = without_span(uri)
        work = partial(self._decoded, uri, payload, stored_revision)
        decoded, reason = result_or_reason(data, uri, work)
        return decoded or Decoded(REJECTED, reason)

    def _decoded(self, uri: str, payload: str, stored_revision: str, data: bytes) -> Decoded:
        sha256 = hashlib.sha256(data).hexdigest()
        revision = revision_of(sha256, uri, payload)
        if revision == stored_revision:
            return Decoded(UNCHANGED)
        if same_image(revision, stored_revision):
            return Decoded(PAYLOAD, revision=revision)
        image = decode(data, uri=uri, limits=self.limits)
        width, height = image.size
        recipes = (self.preprocess, self.word_preprocess)
        pixels = [image.prepared(recipe.pixels).tobytes() if recipe else b"" for recipe in recipes]
        hashed = str(PerceptualHash.of(image.in_srgb())) if self.hashes else ""
        return Decoded(STORE, "", sha256, revision, width, height, hashed, *pixels)


def stacked_pixels(column: pa.ChunkedArray | pa.Array, side: int) -> Tensor:
    """The column ``pixels`` or ``word_pixels`` -> uint8 ``[B, 3, side, side]``.

    Of the rows that have some. Nothing is copied but to join chunks.
    """
    import torch

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_pixels_of(chunk) for chunk in chunks if len(chunk)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given (NumPy|buffer)")  # read-only: we read
        tensors = [torch.from_numpy(part).view(-1, 3, side, side) for part in parts if len(part)]
    if not tensors:
        return torch.empty(0, 3, side, side, dtype=torch.uint8)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _pixels_of(chunk: pa.LargeBinaryArray) -> np.ndarray:
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[[chunk.offset, chunk.offset + len(chunk)]]
    if data is None:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8)[ends[0] : ends[1]]
