"""The stage that reads and decodes, on CPUs: uri -> uint8 pixels through the one preprocessing.

A row that fails keeps going with a ``reason``; nothing raises for one bad image. Batches are
Arrow tables, so that a row without pixels costs nothing on its way.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fti_ingest.sources.fetch import Read, read_batch, shown
from fti_ingest.stages.columns import spread
from fti_ingest.stages.perceptual_hash import PerceptualHash
from fti_ingest.stages.revisions import revision_of, same_image
from fti_ingest.stages.row_status import UNCHANGED, UPDATED
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import Preprocess, decode_image

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Decoder:
    """Stage 1: uri -> uint8 pixels through the one preprocessing, and what we store beside.

    Takes columns id, uri, payload, and known: the revision that the gallery holds, which it
    hands on. Adds ``read_s`` and ``decode_s``, seconds.
    """

    preprocess: Preprocess
    allow_urls: bool = False
    own: str = ""
    """``Source.own``."""
    looks: bool = False
    """Whether what a picture looks like is wanted, for near duplicates."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(["uri", "payload", "known"]).to_pydict()
        began = time.perf_counter()
        data = read_batch(rows["uri"], self.allow_urls, self.own)
        read = time.perf_counter()
        done = [self._decode(*row) for row in zip(data, *rows.values())]
        decoded = time.perf_counter()
        pixels, payloads, reasons = zip(*done) if done else ((), (), ())
        return pa.table(
            {
                "id": batch["id"],
                "uri": pa.array(map(shown, rows["uri"]), pa.string()),
                "known": batch["known"],
                "payload": pa.array(payloads, pa.string()),
                "reason": pa.array(reasons, pa.string()),
                "pixels": pa.array(pixels, pa.large_binary()),
                "read_s": spread(read - began, len(batch)),
                "decode_s": spread(decoded - read, len(batch)),
            }
        )

    def _decode(self, data: Read, uri: str, payload: str, known: str) -> tuple[bytes, str, str]:
        """Pixels (none for a row that is done with), payload, reason."""
        uri = shown(uri)
        try:
            if isinstance(data, BadImage):
                raise data
            sha256 = hashlib.sha256(data).hexdigest()
            revision = revision_of(sha256, uri, payload)
            if revision == known:
                return b"", payload, UNCHANGED
            if same_image(revision, known):
                new = {**json.loads(payload), OURS: {"uri": uri, "revision": revision}}
                return b"", json.dumps(new), UPDATED
            loaded = decode_image(data, uri=uri)
            width, height = loaded.size
            pixels = self.preprocess.pixels(loaded.image).tobytes()
        except BadImage as error:
            return b"", payload, str(error)
        except Exception as error:  # one image must never stop the others
            return b"", payload, f"{uri!r}: {type(error).__name__}: {error}"
        ours = {"uri": uri, "sha256": sha256, "width": width, "height": height}
        if self.looks:
            ours["look"] = str(PerceptualHash.of(loaded.image))
        full = {**json.loads(payload), OURS: {**ours, "revision": revision}}
        return pixels, json.dumps(full), ""


def to_decode(ids: Iterable[int], uris: pa.Array, payloads: list[str]) -> pa.Table:
    """The decoder's input for pictures of which nothing is known yet."""
    return pa.table(
        {
            "id": pa.array(map(str, ids)),
            "uri": uris,
            "payload": pa.array(payloads),
            "known": pa.array([""] * len(uris)),
        }
    )


def stacked_pixels(column: pa.ChunkedArray | pa.Array, side: int) -> Tensor:
    """The decoder's column ``pixels`` -> uint8 ``[B, 3, side, side]``, of the rows that have some.

    These lie side by side in Ray's shared memory; nothing is copied but to join chunks.
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
