"""The stages that Ray's workers run: read and decode on CPUs, embed on the model's device.

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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fti_ingest.known import revision_of, same_image
from fti_ingest.lanes import Lanes
from fti_ingest.looks import Look
from fti_ingest.reading import Read, read_batch, shown
from fti_ingest.reasons import UNCHANGED, UPDATED
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import Preprocess, decode_image

if TYPE_CHECKING:
    from torch import Tensor

PASSED_ON = ("known", "duplicate", "read_s", "decode_s", "dedupe_s")
"""Columns of earlier stages that the last one still tells."""


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
            ours["look"] = str(Look.of(loaded.image))
        full = {**json.loads(payload), OURS: {**ours, "revision": revision}}
        return pixels, json.dumps(full), ""


def spread(seconds: float, rows: int) -> pa.Array:
    """What a stage spent on a batch, a row's share in each row: they may be batched anew."""
    return pa.array(np.full(rows, seconds / max(1, rows), dtype=np.float32))


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


class Embedder:
    """Stage 2, an actor that holds the model: pixels -> image vectors, and pseudo-words if asked.

    Adds the columns ``vector`` (float32, ``d`` values) and, with pseudo-words, ``words`` (float16,
    ``(1 + topk) * t`` values).
    """

    def __init__(
        self,
        model: str,
        inverter: str | None,
        words: bool,
        precision: str | None,
        threads: int,
    ):
        from fti_qdrant.composer import Composer

        self.composer = Composer.load(model, inverter if words else None, precision=precision)
        self.lanes = Lanes(self.composer.backbone, threads)
        self.words = words

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        reasons = np.array(batch["reason"].to_pylist(), dtype=object)
        payloads = batch["payload"].to_pylist()
        good = np.flatnonzero(reasons == "")
        backbone, inverter = self.composer.backbone, self.composer.inverter
        vectors = np.zeros((len(reasons), backbone.dim), dtype=np.float32)
        size = 0
        if self.words and inverter is not None:
            size = (1 + inverter.topk) * backbone.token_dim
        words = np.zeros((len(reasons), size), dtype=np.float16)
        if len(good):
            vectors[good], words[good], counts = self._embed(batch["pixels"])
            for row, count in zip(good, counts):
                payloads[row] = _with_count(payloads[row], count)
        finite = np.isfinite(vectors).all(axis=1) & np.isfinite(words).all(axis=1)
        broken = ~(finite & vectors.any(axis=1)) & (reasons == "")
        reasons[broken] = "the model yields no finite vector for it; try --precision fp32"
        columns = {
            "id": batch["id"],
            "uri": batch["uri"],
            "payload": pa.array(payloads, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "vector": _rows(vectors),
        }
        if size:
            columns["words"] = _rows(words)
        for name in PASSED_ON:
            if name in batch.column_names:
                columns[name] = batch[name]
        columns["embed_s"] = spread(time.perf_counter() - began, len(batch))
        return pa.table(columns)

    def _embed(self, pixels: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Vectors, flat pseudo-words, and how many of these count, for each picture."""
        from fti_qdrant.gallery.words import stacked

        side = self.composer.backbone.preprocess.size
        features = self.lanes.features(stacked_pixels(pixels, side))
        vectors = features.pooled.cpu().numpy()
        if not self.words:
            return vectors, np.zeros((len(vectors), 0), np.float16), []
        found = self.composer.references(features, (1,) * len(vectors)).words
        assert found is not None
        return vectors, stacked(found).reshape(len(vectors), -1), found.counts.tolist()


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


def _with_count(payload: str, count: int) -> str:
    """r, the number of pseudo-words that count, belongs to the payload."""
    full = json.loads(payload)
    full[OURS]["r"] = count
    return json.dumps(full)


def _rows(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
