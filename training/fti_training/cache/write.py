"""Pictures and captions -> a cache of features: an engine decodes and embeds, this writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fti_ingest.engine.batching import rebatched
from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline, TableBlocks, WorkerStage
from fti_ingest.sources.source import Reject
from fti_ingest.stages.row_status import REJECTED, STORE
from fti_qdrant.atomic_files import replacing, write_text
from fti_qdrant.errors import CheckpointError, FtiError, OutputUnavailable, first_line
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import (
    ARRAYS,
    CAPTIONS,
    INDEX,
    PLAN,
    REJECTS,
    ROWS,
    CacheIndex,
    Plan,
    has_all_files,
    shard_folder,
)
from fti_training.cache.stage import FeatureStage
from fti_training.picture_decoder import PictureDecoder
from fti_training.samples import COLUMNS, Samples

SHARD_ROWS = 512
EMBED_BATCH = 32


@dataclass(frozen=True)
class FeatureShapes:
    """Shapes of one sample's arrays, which are stored in float16."""

    pooled: tuple[int, ...]
    tokens: tuple[int, ...]
    sentences: tuple[int, ...]

    @classmethod
    def of(cls, backbone: Backbone) -> FeatureShapes:
        """Measured with one white picture, as the number of tokens depends on the architecture.

        Raises UnsupportedModel where no inverter can be trained on the backbone.
        """
        from PIL import Image

        backbone.require("patch_tokens", "pseudo_words", needed_by="a cache for an inverter")
        one = backbone.image_features([Image.new("RGB", (8, 8), "white")])
        dim = (backbone.dim,)
        return cls(dim, tuple(one.required_tokens().shape[1:]), dim)

    @property
    def all(self) -> tuple[tuple[int, ...], ...]:
        """In the order of ``ARRAYS``."""
        return self.pooled, self.tokens, self.sentences

    def bytes_for(self, samples: int) -> int:
        return 2 * samples * sum(int(np.prod(shape)) for shape in self.all)


@dataclass(frozen=True)
class CacheWriter:
    """Writes a cache shard by shard; a killed run continues with the first missing shard.

    Attributes:
        precision: of the workers' backbone; None chooses by device.
    """

    path: Path
    backbone: Backbone
    samples: Samples
    shapes: FeatureShapes
    precision: str | None = None
    workers: int = 1
    gpus_per_worker: float = 0

    @property
    def plan(self) -> Plan:
        return Plan(
            fingerprint=self.backbone.fingerprint,
            captions=self.samples.digest,
            samples=len(self.samples),
            shard_rows=SHARD_ROWS,
            precision=self.precision,
        )

    def missing(self) -> list[int]:
        """Numbers of the shards that are missing or damaged."""
        numbers = range(-(-len(self.samples) // SHARD_ROWS))
        return [number for number in numbers if not has_all_files(shard_folder(self.path, number))]

    def prepare(self) -> int:
        """Checks the folder and the disk before any work; the number of samples still to write.

        Raises:
            CheckpointError: the folder holds a cache of another model or of other captions.
            FtiError: the disk is too small.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        plan = self.plan
        if (self.path / PLAN).exists():
            self._check_plan(Plan.read(self.path / PLAN), plan)
        else:
            write_text(self.path / PLAN, plan.model_dump_json(indent=2))
        remaining = sum(len(self._rows_of(number)) for number in self.missing())
        needed = self.shapes.bytes_for(remaining)
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise FtiError(
                f"the cache needs {gigabytes(needed)} and {str(self.path)!r} has "
                f"{gigabytes(free)} free; choose another --out, or fit without a cache"
            )
        return remaining

    def _check_plan(self, then: Plan, now: Plan) -> None:
        if not then.fingerprint.matches(now.fingerprint):
            raise CheckpointError(
                f"{str(self.path)!r} holds a cache made by {then.fingerprint}, not by "
                f"{now.fingerprint}; choose another --out"
            )
        if then.model_copy(update={"fingerprint": now.fingerprint}) != now:
            raise CheckpointError(
                f"{str(self.path)!r} holds a cache of other captions, or of another precision; "
                "choose another --out"
            )

    def run(
        self, engine: Engine, advance: Callable[[int], None] = lambda count: None
    ) -> list[Reject]:
        """Writes the missing shards and returns the pictures that could not be read.

        Args:
            advance: called with the number of samples done since the last call.
        """
        missing = self.missing()
        if missing:
            rows = np.concatenate([self._rows_of(number) for number in missing])
            with closing(engine.stream(self._pipeline(rows, engine))) as stream:
                self._write_shards(missing, rebatched(stream, SHARD_ROWS), advance)
        return self._finish()

    def _rows_of(self, shard: int) -> np.ndarray:
        start = shard * SHARD_ROWS
        return np.arange(start, min(start + SHARD_ROWS, len(self.samples)))

    def _pipeline(self, rows: np.ndarray, engine: Engine) -> Pipeline:
        """The samples in order, with their features, or the reason why they have none."""
        chosen = self.samples.table.select(COLUMNS).take(pa.array(rows))
        chosen = chosen.append_column("row", pa.array(rows)).combine_chunks()
        blocks = [chosen.slice(start, EMBED_BATCH) for start in range(0, len(rows), EMBED_BATCH)]
        # workers elsewhere load the model themselves
        backbone = self.backbone.name if engine.distributes else self.backbone
        features = WorkerStage(
            FeatureStage,
            (backbone, self.precision, engine.threads(self.workers)),
            rows=EMBED_BATCH,
            workers=self.workers,
            gpus=self.gpus_per_worker,
        )
        decoder = CpuStage(PictureDecoder(self.backbone.preprocess))
        row_bytes = 3 * self.backbone.preprocess.size**2
        return Pipeline(TableBlocks(blocks), (decoder, features), ordered=True, row_bytes=row_bytes)

    def _write_shards(
        self, missing: list[int], embedded: Iterator[pa.Table], advance: Callable[[int], None]
    ) -> None:
        """Each batch of the stream is a shard: all shards but the last one are full."""
        for number, batch in zip(missing, embedded):
            if batch["row"][0].as_py() != number * SHARD_ROWS:
                raise FtiError(f"shard {number} starts with sample {batch['row'][0]}")
            self._write_shard(number, batch)
            advance(len(batch))

    def _write_shard(self, number: int, batch: pa.Table) -> None:
        good = batch.filter(pc.equal(batch["status"], STORE))
        bad = batch.filter(pc.equal(batch["status"], REJECTED)).select(["uri", "error"])
        try:
            with replacing(shard_folder(self.path, number)) as part:
                part.mkdir()
                for name, shape in zip(ARRAYS, self.shapes.all):
                    values = b"".join(good[name].to_pylist())
                    array = np.frombuffer(values, np.float16).reshape(len(good), *shape)
                    np.save(part / f"{name}.npy", array)
                np.save(part / ROWS, good["row"].to_numpy())
                rejects = [(row["uri"], row["error"]) for row in bad.to_pylist()]
                write_text(part / REJECTS, json.dumps(rejects))
        except OSError as error:
            raise OutputUnavailable(
                f"shard {number} cannot be written: {first_line(error)}; the shards before it are "
                "complete: make room and run the command again"
            ) from error

    def _finish(self) -> list[Reject]:
        """Writes the captions of the readable pictures, and the index; returns all rejects."""
        numbers = range(-(-len(self.samples) // SHARD_ROWS))
        folders = [shard_folder(self.path, number) for number in numbers]
        kept = [np.load(folder / ROWS) for folder in folders]
        rejects = [Reject(*one) for f in folders for one in json.loads((f / REJECTS).read_text())]
        rows = np.concatenate(kept)
        if not len(rows):
            raise FtiError(
                f"no picture of {len(self.samples)} can be read; the first: {rejects[0].reason}"
            )
        pq.write_table(self.samples.table.take(pa.array(rows)), self.path / CAPTIONS)
        index = CacheIndex(
            plan=self.plan,
            shards=[len(shard) for shard in kept],
            unreadable=len(rejects),
            without_split=self.samples.without_split,
        )
        write_text(self.path / INDEX, index.model_dump_json(indent=2))
        return rejects


def gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"
