"""Features on disk: the files of a cache folder, and how a batch is read from them.

DIR/plan.json       model, captions, sizes: written first, and checked by a resumed run
DIR/shards/00000/   pooled.npy, tokens.npy, sentences.npy, rows.npy, rejects.json
DIR/captions.parquet, DIR/cache.json    written last: the cache is complete
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

from fti_qdrant.errors import CheckpointError, FtiError, ModelMismatch, first_line
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.model.fingerprint import Fingerprint
from fti_training.samples import Samples, samples_of

PLAN, INDEX, CAPTIONS, SHARDS = "plan.json", "cache.json", "captions.parquet", "shards"
ARRAYS = ("pooled", "tokens", "sentences")
ROWS, REJECTS = "rows.npy", "rejects.json"

Array = npt.NDArray[np.float16]


class Plan(BaseModel):
    """What a cache is made from.

    Attributes:
        captions: hash of the URIs, subjects and attributes, in order.
        samples: how many there are, unreadable pictures included.
        shard_rows: samples of one shard.
        precision: as requested; None chose by device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    fingerprint: Fingerprint
    captions: str
    samples: int
    shard_rows: int
    precision: str | None

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises CheckpointError where the file is damaged, or of a newer format."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = first_line(error)
            raise CheckpointError(
                f"cache {str(path.parent)!r}: {path.name} cannot be read ({reason}); "
                "delete the folder and run fti-train cache again"
            ) from error


class CacheIndex(BaseModel):
    """Written when a cache is complete: the numbers of samples that could be read, by shard."""

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

    @classmethod
    def open(cls, path: Path) -> Cache:
        """Raises CheckpointError where there is no complete cache."""
        if not (path / INDEX).is_file():
            state = "holds an incomplete cache" if (path / PLAN).is_file() else "holds no cache"
            raise CheckpointError(f"{str(path)!r} {state}; let fti-train cache --out {path} finish")
        try:
            index = CacheIndex.model_validate_json((path / INDEX).read_bytes())
            samples = samples_of(pq.read_table(path / CAPTIONS), str(path))
            arrays = [mapped(shard_folder(path, n)) for n in range(len(index.shards))]
        except FtiError:
            raise
        except (OSError, EOFError, ValueError) as error:  # of numpy, pydantic and pyarrow
            reason = first_line(error)
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
        return cls(path, index.plan, samples, index.unreadable, arrays, starts)

    def check_model(self, fingerprint: Fingerprint) -> None:
        """Raises ModelMismatch where another model made the features."""
        if not self.plan.fingerprint.matches(fingerprint):
            raise ModelMismatch(
                f"cache {str(self.path)!r} was made by {self.plan.fingerprint}, "
                f"and the run uses {fingerprint}"
            )

    def read(self, rows: Iterable[int]) -> tuple[ImageFeatures, Tensor]:
        """Features of these samples and of their sentences, in float16."""
        positions = [self._position(int(row)) for row in rows]
        stacked = [
            torch.from_numpy(np.stack([self.arrays[shard][kind][at] for shard, at in positions]))
            for kind in range(len(ARRAYS))
        ]
        return ImageFeatures(stacked[0], stacked[1]), stacked[2]

    def _position(self, row: int) -> tuple[int, int]:
        shard = bisect_right(self.starts, row) - 1
        return shard, row - self.starts[shard]


def shard_folder(path: Path, number: int) -> Path:
    return path / SHARDS / f"{number:05}"


def mapped(folder: Path) -> tuple[Array, Array, Array]:
    """A shard's arrays, memory-mapped. Raises OSError, EOFError or ValueError for damaged ones."""
    pooled, tokens, sentences = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    return pooled, tokens, sentences


def has_all_files(folder: Path) -> bool:
    """Whether a shard has all of its files, with arrays of one length."""
    try:
        lengths = {len(array) for array in (*mapped(folder), np.load(folder / ROWS))}
        return len(lengths) == 1 and (folder / REJECTS).is_file()
    except (OSError, EOFError, ValueError):
        return False
