"""The stages that Ray's workers run: read and decode on CPUs, embed on the model's device.

A row that fails keeps going with a ``reason``; nothing raises for one bad image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from fti_qdrant.errors import BadImage
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import DEFAULT_LIMITS, Preprocess, decode_image
from fti_qdrant.images.source import read_bytes

Batch = dict[str, Any]

UNCHANGED = "unchanged"
"""The ``reason`` of a row that the gallery holds already, as it is."""


@dataclass(frozen=True)
class Decoder:
    """Stage 1: uri -> uint8 pixels through the one preprocessing, and what we store beside.

    Attributes:
        known: point id -> revision, of what the gallery holds already.
    """

    preprocess: Preprocess
    known: dict[str, str]
    allow_urls: bool = False

    def __call__(self, batch: Batch) -> Batch:
        rows = [self._decode(*row) for row in zip(batch["id"], batch["uri"], batch["payload"])]
        pixels, payloads, reasons = zip(*rows)
        return {
            "id": batch["id"],
            "uri": batch["uri"],
            "pixels": np.stack(pixels),
            "payload": np.array(payloads, dtype=object),
            "reason": np.array(reasons, dtype=object),
        }

    def _decode(self, id: str, uri: str, payload: str) -> tuple[np.ndarray, str, str]:
        try:
            data, _ = read_bytes(uri, allow_urls=self.allow_urls, limits=DEFAULT_LIMITS)
            sha256 = hashlib.sha256(data).hexdigest()
            revision = hashlib.sha256(f"{sha256}{uri}{payload}".encode()).hexdigest()[:16]
            if self.known.get(id) == revision:
                return self._nothing(), payload, UNCHANGED
            loaded = decode_image(data, uri=uri)
            pixels = self.preprocess.pixels(loaded.image).numpy()
        except BadImage as error:
            return self._nothing(), payload, str(error)
        width, height = loaded.image.size
        ours = {"uri": uri, "sha256": sha256, "width": width, "height": height}
        full = {**json.loads(payload), OURS: {**ours, "revision": revision}}
        return pixels, json.dumps(full), ""

    def _nothing(self) -> np.ndarray:
        size = self.preprocess.size
        return np.zeros((3, size, size), dtype=np.uint8)


class Embedder:
    """Stage 2, an actor that holds the model: pixels -> image vectors, and pseudo-words if asked.

    Adds the columns ``vector`` (float32 ``[d]``) and, with pseudo-words, ``words`` (float16
    ``[(1 + topk) * t]``).
    """

    def __init__(self, model: str, inverter: str | None, words: bool, precision: str | None):
        import torch

        from fti_qdrant.composer import Composer
        from fti_qdrant.gallery.words import stacked

        if not torch.cuda.is_available():
            import os

            torch.set_num_threads(os.cpu_count() or 1)
        self.composer = Composer.load(model, inverter if words else None, precision=precision)
        self.words = words
        self.stacked = stacked

    def __call__(self, batch: Batch) -> Batch:
        import torch

        good = np.flatnonzero(batch["reason"] == "")
        vectors = np.zeros((len(batch["id"]), self.composer.backbone.dim), dtype=np.float32)
        out = {name: batch[name] for name in ("id", "uri", "payload", "reason")}
        if self.words:
            out["words"] = np.zeros((len(vectors), self._words_size()), dtype=np.float16)
        if len(good):
            features = self.composer.backbone.pixel_features(
                torch.from_numpy(np.ascontiguousarray(batch["pixels"][good]))
            )
            vectors[good] = features.pooled.cpu().numpy()
            if self.words:
                self._add_words(features, good, out)
        broken = good[~np.isfinite(vectors[good]).all(axis=1)]
        out["reason"][broken] = "the model yields NaN for this image; try --precision fp32"
        return {**out, "vector": vectors}

    def _add_words(self, features: Any, good: np.ndarray, out: Batch) -> None:
        found = self.composer.references(features, (1,) * len(good)).words
        assert found is not None
        out["words"][good] = self.stacked(found).reshape(len(good), -1)
        for row, count in zip(good, found.counts.tolist()):
            payload = json.loads(out["payload"][row])
            payload[OURS]["r"] = count
            out["payload"][row] = json.dumps(payload)

    def _words_size(self) -> int:
        inverter = self.composer.inverter
        assert inverter is not None
        return (1 + inverter.topk) * self.composer.backbone.token_dim
