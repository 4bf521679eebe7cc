"""A listing handed out in blocks, by an actor beside its file: Ray holds none but those in work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.id_set import short_id

if TYPE_CHECKING:
    from ray.data import Dataset

    from fti_ingest.sources.listing import Source

LEAST_ROWS, MOST_ROWS = 32, 1024
BLOCKS = 2000
"""Blocks of a source of medium size; every one is a task that Ray's scheduler looks after."""


class ListedBlocks:
    """Block n of a listing, each row with the revision that the gallery holds of it.

    Both are mapped from files, so that neither fills memory.
    """

    def __init__(self, items: str, known: str, rows: int):
        with pa.memory_map(items) as file:
            self.table = pa.ipc.open_file(file).read_all()
        self.pairs = np.load(known, mmap_mode="r")
        self.rows = rows

    def block(self, number: int) -> pa.Table:
        table = self.table.slice(number * self.rows, self.rows)
        known = revisions(self.pairs, table["id"].to_pylist())
        return table.append_column("known", pa.array(known, pa.string()))


def revisions(pairs: np.ndarray, ids: list[str]) -> list[str]:
    """The revision of each id, of pairs sorted by id; empty where the gallery does not hold it."""
    if not len(pairs):
        return [""] * len(ids)
    wanted = np.array([short_id(one) for one in ids], dtype=np.uint64)
    places = np.searchsorted(pairs["id"], wanted).clip(max=len(pairs) - 1)
    found = pairs[places]
    return [
        f"{revision:016x}" if short == one and revision else ""
        for short, revision, one in zip(found["id"], found["revision"], wanted)
    ]


@dataclass(frozen=True)
class EachBlock:
    """Numbers of blocks -> their rows, given to a stage some at a time.

    A stage of Ray's own would wait until it has as many numbers as the stage wants rows.

    Attributes:
        blocks: a ``ListedBlocks`` actor.
        rows: that the stage takes at once.
    """

    blocks: Any
    stage: Callable[[pa.Table], pa.Table]
    rows: int

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        import ray

        for number in batch["id"].to_pylist():
            block = ray.get(self.blocks.block.remote(number))
            for start in range(0, block.num_rows, self.rows):
                yield self.stage(block.slice(start, self.rows))


def block_rows(images: int) -> int:
    """Rows of a block, so that there are neither too many blocks nor too large ones."""
    return min(MOST_ROWS, max(LEAST_ROWS, math.ceil(images / BLOCKS)))


def staged(
    source: Source, known: np.ndarray, stage: Callable[[pa.Table], pa.Table], rows: int
) -> Dataset:
    """A source's rows, of ``ITEM_SCHEMA`` and ``known``, through a first stage, on one CPU each.

    ``known`` are ``known_pairs``.
    """
    import ray

    size = block_rows(len(source))
    count = math.ceil(len(source) / size)
    pairs = source.scratch.path / "known.npy"
    np.save(pairs, known)
    blocks = beside_driver(ListedBlocks, str(source.path), str(pairs), size)
    return ray.data.range(count, override_num_blocks=count).map_batches(
        EachBlock(blocks, stage, rows), batch_size=None, batch_format="pyarrow", num_cpus=1
    )


def beside_driver(kind: type, *args: Any) -> Any:
    """An actor on the driver's own machine, whose files it reads; begun anew where it dies."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(kind).options(**options, scheduling_strategy=here).remote(*args)
