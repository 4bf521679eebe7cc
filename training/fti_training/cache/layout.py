"""Features on disk: what a cache folder holds, and how a batch is read from it.

DIR/plan.json       model, captions, sizes: written first, so that a resumed run checks them
DIR/shards/00000/   pooled.npy, tokens.npy, sentences.npy, rows.npy, rejects.json
DIR/captions.parquet, DIR/cache.json    written last: the cache is whole
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from fti_qdrant.errors import CheckpointError, FtiError, ModelMismatch
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.model.fingerprint import Fingerprint
from fti_training.samples import Samples, samples_of

PLAN, INDEX, CAPTIONS, SHARDS = "plan.json", "cache.json", "captions.parquet", "shards"
ARRAYS = ("pooled", "tokens", "sentences")
ROWS, REJECTS = "rows.npy", "rejects.json"

Array = npt.NDArray[np.float16]


class Plan(BaseModel):
    """What a cache is made of.

    Attributes:
        captions: hash of the uris, subjects and attributes, in order.
        samples: how many there are, unreadable pictures included.
        shard_rows: samples of one shard.
        precision: that was asked for; None chose by device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    fingerprint: Fingerprint
    captions: str
    samples: int
    shard_rows: int
    precision: str | None

    @staticmethod
    def read(path: Path) -> Plan:
        """Raises CheckpointError where the file is damaged, or of a newer format."""
        try:
            return Plan.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"cache {str(path.parent)!r}: {path.name} cannot be read ({reason}); "
                "delete the folder and run fti-train cache again"
            ) from error


class CacheIndex(BaseModel):
    """A whole cache: the samples that could be read, shard by shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Plan
    shards: list[int]
    unreadable: int
    without_split: int


@dataclass(frozen=True)
class Cache:
    """Memory-mapped features of the samples that could be read.

    Attributes:
        arrays: for each shard pooled ``[n, d]``, tokens ``[n, 1+P, w]``, sentences ``[n, d]``.
        starts: number of each shard's first sample.
    """

    path: Path
    plan: Plan
    samples: Samples
    unreadable: int
    arrays: list[tuple[Array, Array, Array]]
    starts: list[int]

    @staticmethod
    def open(path: Path) -> Cache:
        """Raises CheckpointError where there is no whole cache."""
        if not (path / INDEX).is_file():
            state = "is half-written" if (path / PLAN).is_file() else "holds no cache"
            raise CheckpointError(
                f"{str(path)!r} {state}; run fti-train cache --out {path} to the end"
            )
        try:
            index = CacheIndex.model_validate_json((path / INDEX).read_bytes())
            samples = samples_of(pq.read_table(path / CAPTIONS), str(path))
            arrays = [mapped(shard_folder(path, n)) for n in range(len(index.shards))]
        except FtiError:
            raise
        except (OSError, EOFError, ValueError) as error:  # of numpy, pydantic and pyarrow
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"cache {str(path)!r} is damaged ({reason}); run fti-train cache again"
            ) from error
        lengths = [len(pooled) for pooled, _, _ in arrays]
        if lengths != index.shards or len(samples) != sum(lengths):
            raise CheckpointError(
                f"cache {str(path)!r} is damaged: its shards hold {sum(lengths)} samples, its "
                f"index {sum(index.shards)}, its captions {len(samples)}; run fti-train cache again"
            )
        samples = replace(samples, without_split=index.without_split)
        starts = [0, *accumulate(lengths)]
        return Cache(path, index.plan, samples, index.unreadable, arrays, starts)

    def check_model(self, fingerprint: Fingerprint) -> None:
        """Raises ModelMismatch where another model made the features."""
        if not self.plan.fingerprint.matches(fingerprint):
            raise ModelMismatch(
                f"cache {str(self.path)!r} was made by {self.plan.fingerprint}, "
                f"and the run uses {fingerprint}"
            )

    def read(self, rows: Iterable[int]) -> tuple[ImageFeatures, Tensor]:
        """Features of these samples and of their sentences, in float16."""
        places = [self._place(int(row)) for row in rows]
        stacked = [
            torch.from_numpy(np.stack([self.arrays[shard][kind][at] for shard, at in places]))
            for kind in range(len(ARRAYS))
        ]
        return ImageFeatures(stacked[0], stacked[1]), stacked[2]

    def _place(self, row: int) -> tuple[int, int]:
        shard = bisect_right(self.starts, row) - 1
        return shard, row - self.starts[shard]


def shard_folder(path: Path, number: int) -> Path:
    return path / SHARDS / f"{number:05}"


def mapped(folder: Path) -> tuple[Array, Array, Array]:
    """A shard's arrays, memory-mapped. Raises OSError, EOFError or ValueError for damaged ones."""
    pooled, tokens, sentences = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    return pooled, tokens, sentences


def is_whole(folder: Path) -> bool:
    """Whether a shard is there and its arrays are of one length."""
    try:
        lengths = {len(array) for array in (*mapped(folder), np.load(folder / ROWS))}
        return len(lengths) == 1 and (folder / REJECTS).is_file()
    except (OSError, EOFError, ValueError):
        return False
