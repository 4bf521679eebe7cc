"""The stage that Ray's workers run for a cache: decoded pictures and captions -> features."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.micro_batches import MicroBatches
from fti_training.step import SplitCaption


class FeatureStage:
    """An actor that holds the backbone; adds the columns pooled, tokens and sentences, float16.

    The caption travels in the row's payload.
    """

    def __init__(self, model: str, precision: str | None, threads: int):
        from fti_qdrant.model.backbone import Backbone
        from fti_training.step import Sentences

        self.backbone = Backbone.load(model, precision=precision)
        self.lanes = MicroBatches(self.backbone, threads)
        self.sentences = Sentences(self.backbone)

    def __call__(self, batch: pa.Table) -> pa.Table:
        reasons = np.array(batch["reason"].to_pylist(), dtype=object)
        good = np.flatnonzero(reasons == "")
        columns: list[list[bytes | None]] = [[None] * len(reasons) for _ in range(3)]
        if len(good):
            for column, values in zip(columns, self._features(batch.take(good))):
                for row, value in zip(good, values):
                    column[row] = value.tobytes()
                    if not np.isfinite(value).all():
                        reasons[row] = "its features do not fit float16"
        plain = batch.select(["id", "uri"]).append_column("reason", pa.array(reasons, pa.string()))
        for name, column in zip(("pooled", "tokens", "sentences"), columns):
            plain = plain.append_column(name, pa.array(column, pa.large_binary()))
        return plain

    def _features(self, batch: pa.Table) -> list[np.ndarray]:
        side = self.backbone.preprocess.size
        features = self.lanes.features(stacked_pixels(batch["pixels"], side))
        payloads = map(json.loads, batch["payload"].to_pylist())
        captions = [SplitCaption(one["subject"], one["attributes"]) for one in payloads]
        parts = (features.pooled, features.tokens, self.sentences(captions))
        return [part.half().cpu().numpy() for part in parts]
