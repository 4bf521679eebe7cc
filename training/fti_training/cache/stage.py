"""The stage of a cache that holds the model: decoded pictures and captions -> features."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.micro_batches import MicroBatches
from fti_ingest.stages.row_status import REJECTED, STORE
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import ARRAYS
from fti_training.split_caption import SplitCaption
from fti_training.step import Sentences


class FeatureStage:
    """Adds the columns pooled, tokens and sentences, in float16; null for unreadable pictures."""

    def __init__(self, backbone: Backbone | str, precision: str | None, threads: int):
        """
        Args:
            backbone: one that is loaded already, or the name of one to load.
            threads: CPU threads that this process may use.
        """
        if isinstance(backbone, str):
            backbone = Backbone.load(backbone, precision=precision)
        self.backbone = backbone
        self.batches = MicroBatches(backbone, threads)
        self.sentences = Sentences(backbone)

    def __call__(self, batch: pa.Table) -> pa.Table:
        statuses = batch["status"].to_pylist()
        errors = batch["error"].to_pylist()
        columns: list[list[bytes | None]] = [[None] * len(batch) for _ in ARRAYS]
        good = [row for row, status in enumerate(statuses) if status == STORE]
        if good:
            chosen = batch.filter(pc.equal(batch["status"], STORE))
            for column, values in zip(columns, self._features(chosen)):
                for row, value in zip(good, values):
                    column[row] = value.tobytes()
                    if not np.isfinite(value).all():
                        statuses[row], errors[row] = REJECTED, "its features do not fit float16"
        result = batch.select(["row", "uri"])
        result = result.append_column("status", pa.array(statuses, pa.string()))
        result = result.append_column("error", pa.array(errors, pa.string()))
        for name, column in zip(ARRAYS, columns):
            result = result.append_column(name, pa.array(column, pa.large_binary()))
        return result

    def _features(self, batch: pa.Table) -> list[np.ndarray]:
        side = self.backbone.preprocess.size
        features = self.batches.features(stacked_pixels(batch["pixels"], side))
        texts = zip(batch["subject"].to_pylist(), batch["attribute"].to_pylist())
        sentences = self.sentences([SplitCaption(*pair) for pair in texts])
        parts = (features.pooled, features.required_tokens(), sentences)
        return [part.half().cpu().numpy() for part in parts]
