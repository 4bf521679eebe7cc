"""The stage that holds the model: pixels -> image vectors, and pseudo-words if asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fti_ingest.stages.columns import replaced, spread, texts, vectors
from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.micro_batches import MicroBatches, WholeBatches
from fti_ingest.stages.row_status import REJECTED, STORE

if TYPE_CHECKING:
    from typing_extensions import Self

    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.gallery import GallerySpec
    from fti_qdrant.model.openvino_backend import Backend

NOT_FINITE = "the model yields no finite vector for it; try --precision fp32"


@dataclass(frozen=True)
class ModelChoice:
    """A model to embed with, by name; the same choice is loaded once in a process.

    Attributes:
        inverter: folder or hub name; None for ``mini`` means its own.
        precision, device: None chooses by what the machine has.
        preprocess: None is the model's default; see ``Backbone.load``.
        backend: ``torch`` or ``openvino``.
    """

    model: str
    inverter: str | None = None
    precision: str | None = None
    device: str | None = None
    preprocess: str | None = None
    backend: Backend = "torch"

    def load(self) -> Composer:
        """Raises UnsupportedModel, CheckpointError, ModelMismatch."""
        return _loaded(self)

    def anywhere(self) -> ModelChoice:
        """The same by names that hold in any working directory, as workers have."""
        from fti_qdrant.model.names import absolute_name
        from fti_qdrant.model.pretrained import our_name

        model, implied = our_name(self.model)
        inverter = self.inverter
        if inverter is not None and Path(inverter).is_dir():
            inverter = str(Path(inverter).resolve())
        return replace(
            self,
            model=absolute_name(model),
            inverter=inverter,
            preprocess=self.preprocess or implied,
        )


@lru_cache(maxsize=1)
def _loaded(choice: ModelChoice) -> Composer:
    from fti_qdrant.composers.composer import Composer

    return Composer.load(
        choice.model,
        choice.inverter,
        device=choice.device,
        precision=choice.precision,
        preprocess=choice.preprocess,
        backend=choice.backend,
    )


class Embedder:
    """Adds the columns ``vector`` (float32 ``[d]``), ``r``, and with pseudo-words ``words``.

    ``words`` are float16 ``[(1 + topk) * t]``, of which ``r`` attribute tokens count. The model is
    loaded when the first row is to be stored: a run in which nothing has changed loads none.
    """

    def __init__(self, choice: ModelChoice, spec: GallerySpec, threads: int, where: str = ""):
        """``where`` is the gallery's name, for messages."""
        self.choice = choice
        self.spec = spec
        self.threads = threads
        self.where = where
        self._composer: Composer | None = None
        self._batches: MicroBatches | WholeBatches | None = None

    @classmethod
    def of(cls, composer: Composer, spec: GallerySpec, where: str) -> Self:
        """With a model that is loaded, and that other threads may use meanwhile.

        Raises ModelMismatch as the first call of others does.
        """
        embedder = cls(ModelChoice(composer.backbone.name), spec, 1, where)
        embedder._check(composer)
        embedder._composer, embedder._batches = composer, WholeBatches(composer.backbone)
        return embedder

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        status = np.array(batch["status"].to_pylist(), dtype=object)
        good = np.flatnonzero(status == STORE)
        rows, words = len(status), self.spec.words
        size = (1 + words.topk) * words.token_dim if words else 0
        found = np.zeros((rows, self.spec.fingerprint.dim), dtype=np.float32)
        stored = np.zeros((rows, size), dtype=np.float16)
        counts = np.zeros(rows, dtype=np.int32)
        error = np.array(batch["error"].to_pylist(), dtype=object)
        if len(good):
            found[good], stored[good], counts[good] = self._embed(batch)
            finite = np.isfinite(found).all(axis=1) & np.isfinite(stored).all(axis=1)
            broken = ~(finite & found.any(axis=1)) & (status == STORE)
            status[broken], error[broken] = REJECTED, NOT_FINITE
        columns = {
            "status": texts(status),
            "error": texts(error),
            "vector": vectors(found),
            "r": pa.array(counts),
            "embed_s": spread(time.perf_counter() - began, rows),
        }
        if size:
            columns["words"] = vectors(stored)
        return replaced(batch.drop_columns(["pixels", "word_pixels"]), **columns)

    def close(self) -> None:
        """Gives back the threads of a model that other code of this process may go on to use."""
        if self._batches is not None:
            self._batches.close()

    def _embed(self, batch: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors, flat pseudo-words, and how many of these count, for each picture."""
        from fti_qdrant.gallery.pseudo_words import stacked

        composer, batches = self._model()
        side = composer.backbone.preprocess.size
        features = batches.features(stacked_pixels(batch["pixels"], side))
        found = features.pooled.cpu().numpy()
        if self.spec.words is None:
            return found, np.zeros((len(found), 0), np.float16), np.zeros(len(found), np.int32)
        for_words = None
        if composer.word_preprocess is not None:
            for_words = batches.features(stacked_pixels(batch["word_pixels"], side))
        words = composer.references(features, (1,) * len(found), for_words=for_words).words
        assert words is not None
        return found, stacked(words).reshape(len(found), -1), words.counts.cpu().numpy()

    def _model(self) -> tuple[Composer, MicroBatches | WholeBatches]:
        """Raises ModelMismatch where the model is not the one that the gallery was made with."""
        if self._composer is None or self._batches is None:
            composer = self.choice.load()
            self._check(composer)
            self._composer = composer
            self._batches = MicroBatches(composer.backbone, self.threads)
        return self._composer, self._batches

    def _check(self, composer: Composer) -> None:
        self.spec.check_model(composer.backbone.fingerprint, self.where)
        if self.spec.words is not None:
            self.spec.check_words(words_of(composer), self.where)


def words_of(composer: Composer) -> Any:
    """The ``WordsSpec`` of a model's pseudo-words; None where it has no inverter."""
    from fti_qdrant.gallery import WordsSpec

    inverter = composer.inverter
    if inverter is None:
        return None
    preprocess = composer.word_preprocess
    return WordsSpec(
        inverter=inverter.weights_hash,
        topk=inverter.topk,
        token_dim=composer.backbone.token_dim,
        preprocess=None if preprocess is None else preprocess.name,
    )
