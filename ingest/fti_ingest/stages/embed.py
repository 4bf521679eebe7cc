"""The stage that holds the model: pixels -> image vectors, and pseudo-words if asked for."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.stages.columns import spread
from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.micro_batches import MicroBatches
from fti_qdrant.gallery.points import OURS

PASSED_ON = ("known", "duplicate", "read_s", "decode_s", "dedupe_s")
"""Columns of earlier stages that the last one still tells."""


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
        from fti_qdrant.composers.composer import Composer

        self.composer = Composer.load(model, inverter if words else None, precision=precision)
        self.lanes = MicroBatches(self.composer.backbone, threads)
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
        from fti_qdrant.gallery.pseudo_words import stacked

        side = self.composer.backbone.preprocess.size
        features = self.lanes.features(stacked_pixels(pixels, side))
        vectors = features.pooled.cpu().numpy()
        if not self.words:
            return vectors, np.zeros((len(vectors), 0), np.float16), []
        found = self.composer.references(features, (1,) * len(vectors)).words
        assert found is not None
        return vectors, stacked(found).reshape(len(vectors), -1), found.counts.tolist()


def _with_count(payload: str, count: int) -> str:
    """r, the number of pseudo-words that count, belongs to the payload."""
    full = json.loads(payload)
    full[OURS]["r"] = count
    return json.dumps(full)


def _rows(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
