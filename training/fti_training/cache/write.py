"""Pictures and captions -> a cache of features: decoded and embedded by Ray, written here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fti_ingest.engine.resources import bound_backlog, model_pool, threads_per_worker
from fti_ingest.run.pipeline import worker_error
from fti_ingest.sources.listing import Reject
from fti_ingest.stages.decode import Decoder, to_decode
from fti_qdrant.errors import CheckpointError, FtiError
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
    is_whole,
    shard_folder,
)
from fti_training.cache.stage import FeatureStage
from fti_training.samples import Samples

SHARD_ROWS = 512
EMBED_BATCH = 32


@dataclass(frozen=True)
class Sizes:
    """What one sample takes in float16.

    Attributes:
        pooled, tokens, sentences: shapes of one sample's arrays.
    """

    pooled: tuple[int, ...]
    tokens: tuple[int, ...]
    sentences: tuple[int, ...]

    @staticmethod
    def of(backbone: Backbone) -> Sizes:
        """Measured with one white picture: the number of tokens is the architecture's affair."""
        from PIL import Image

        one = backbone.image_features([Image.new("RGB", (8, 8), "white")])
        dim = (backbone.dim,)
        return Sizes(dim, tuple(one.tokens.shape[1:]), dim)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.pooled, self.tokens, self.sentences

    def bytes_for(self, samples: int) -> int:
        return 2 * samples * sum(int(np.prod(shape)) for shape in self.shapes)


@dataclass(frozen=True)
class CacheWriter:
    """Writes a cache shard by shard; a killed run goes on with the first missing shard.

    Attributes:
        precision: of the workers' backbone; None chooses by device.
    """

    path: Path
    backbone: Backbone
    samples: Samples
    sizes: Sizes
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
        """Numbers of the shards that are not there, or damaged."""
        numbers = range(-(-len(self.samples) // SHARD_ROWS))
        return [number for number in numbers if not is_whole(shard_folder(self.path, number))]

    def prepare(self) -> int:
        """Checks the folder and the disk before any work; the samples that are still to be written.

        Raises:
            CheckpointError: the folder holds a cache of another model or of other captions.
            FtiError: the disk is too small.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        plan = self.plan
        if (self.path / PLAN).exists():
            self._check_plan(Plan.read(self.path / PLAN), plan)
        else:
            _write(self.path / PLAN, plan.model_dump_json(indent=2))
        waiting = sum(len(self._rows_of(number)) for number in self.missing())
        needed = self.sizes.bytes_for(waiting)
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise FtiError(
                f"the cache needs {gigabytes(needed)} and {str(self.path)!r} has "
                f"{gigabytes(free)} free; choose another --out, or fit without a cache"
            )
        return waiting

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

    def run(self, advance: Callable[[int], None] = lambda count: None) -> list[Reject]:
        """Writes what is missing and returns the pictures that could not be read.

        Args:
            advance: told how many more samples are done.
        """
        missing = self.missing()
        if missing:
            rows = np.concatenate([self._rows_of(number) for number in missing])
            self._write_shards(missing, self._embedded(rows), advance)
        return self._finish()

    def _rows_of(self, shard: int) -> np.ndarray:
        start = shard * SHARD_ROWS
        return np.arange(start, min(start + SHARD_ROWS, len(self.samples)))

    def _embedded(self, rows: np.ndarray) -> Iterator[pa.Table]:
        """The rows in order, with their features or the reason why they have none."""
        import ray
        from ray.data import DataContext
        from ray.exceptions import RayError

        picture = 3 * self.backbone.preprocess.size**2
        bound_backlog(picture, self.workers, EMBED_BATCH)
        DataContext.get_current().execution_options.preserve_order = True
        blocks = [
            self._listed(rows[start : start + EMBED_BATCH])
            for start in range(0, len(rows), EMBED_BATCH)
        ]
        pool = {"batch_size": EMBED_BATCH, **model_pool(self.workers, self.gpus_per_worker)}
        arguments = (self.backbone.name, self.precision, threads_per_worker(self.workers))
        decoded = ray.data.from_arrow(blocks).map_batches(
            Decoder(self.backbone.preprocess),
            batch_size=EMBED_BATCH,
            batch_format="pyarrow",
            num_cpus=1,
        )
        embedded = decoded.map_batches(
            FeatureStage, fn_constructor_args=arguments, batch_format="pyarrow", **pool
        )
        try:
            yield from embedded.iter_batches(batch_size=SHARD_ROWS, batch_format="pyarrow")
        except RayError as error:
            raise worker_error(error) from error

    def _listed(self, rows: np.ndarray) -> pa.Table:
        captions = self.samples.captions(rows)
        payloads = [json.dumps(caption.__dict__) for caption in captions]
        return to_decode(rows.tolist(), self.samples.uris(rows), payloads)

    def _write_shards(
        self, missing: list[int], embedded: Iterator[pa.Table], advance: Callable[[int], None]
    ) -> None:
        """A batch of the stream is a shard: all shards but the last one are full."""
        for number, batch in zip(missing, embedded):
            if int(batch["id"][0].as_py()) != number * SHARD_ROWS:
                raise FtiError(f"shard {number} begins with sample {batch['id'][0]}")
            self._write_shard(number, batch)
            advance(len(batch))

    def _write_shard(self, number: int, batch: pa.Table) -> None:
        folder = shard_folder(self.path, number)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        reasons = np.array(batch["reason"].to_pylist(), dtype=object)
        good = np.flatnonzero(reasons == "")
        try:
            for name, shape in zip(ARRAYS, self.sizes.shapes):
                values = b"".join(batch[name].take(good).to_pylist())
                array = np.frombuffer(values, np.float16).reshape(len(good), *shape)
                np.save(part / f"{name}.npy", array)
            np.save(part / ROWS, np.array(batch["id"].to_pylist(), dtype=np.int64)[good])
            uris = batch["uri"].to_pylist()
            rejects = [(uris[row], reasons[row]) for row in np.flatnonzero(reasons != "")]
            _write(part / REJECTS, json.dumps(rejects))
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        except OSError as error:
            raise FtiError(
                f"shard {number} cannot be written: {error}; {number} shards before it are whole, "
                "make room and run the command again"
            ) from error

    def _finish(self) -> list[Reject]:
        """The captions of what could be read, the index, and all rejects."""
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
        _write(self.path / INDEX, index.model_dump_json(indent=2))
        return rejects


def gigabytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_name(path.name + ".part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
