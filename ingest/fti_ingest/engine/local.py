"""The engine of one machine: threads read and decode, and the model runs in this process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa

from fti_ingest.engine.ahead import made_ahead
from fti_ingest.engine.batching import FIRST_ROWS, cut, rebatched
from fti_ingest.engine.errors import as_fti_error
from fti_ingest.engine.protocol import (
    Blocks,
    Capacity,
    CpuStage,
    EngineName,
    Pipeline,
    Step,
    Tables,
    WorkerStage,
)
from fti_qdrant.model.cpu import usable_cpus

DECODED_BATCHES = 2
"""So many batches of the model's may wait decoded, and so many of each decoding thread's."""


class LocalEngine:
    """Runs pipelines in this process. Rows always come out in order."""

    name: EngineName = "local"
    distributes = False

    def stream(self, pipeline: Pipeline) -> Tables:
        """See ``Engine.stream``. On Ctrl-C the threads end after the batch that they work on."""
        tables = _blocks(pipeline.blocks)
        wanted = max((stage.rows or 0 for stage in pipeline.stages), default=0)
        with ExitStack() as stack:
            for stage in pipeline.stages:
                if isinstance(stage, CpuStage):
                    tables = _side_by_side(stage, tables, wanted)
                else:
                    tables = made_ahead(_one_worker(stage, tables))
                stack.enter_context(closing(tables))
            try:
                yield from tables
            except Exception as error:
                raise as_fti_error(error) from error

    def shared(self, kind: type, arguments: tuple[Any, ...], method: str) -> Callable[..., Any]:
        return getattr(kind(*arguments), method)

    def threads(self, workers: int) -> int:
        return usable_cpus()

    def capacity(self, workers: int, writers: int) -> Capacity:
        return Capacity(usable_cpus(), 1, 1)


def _blocks(blocks: Blocks) -> Tables:
    for number in range(len(blocks)):
        yield blocks.block(number)


def _side_by_side(stage: CpuStage, tables: Iterator[pa.Table], wanted: int) -> Tables:
    """Batches through the step on a thread for each CPU, in order, a bounded number ahead.

    Args:
        wanted: rows that a later stage takes at once.
    """
    threads = usable_cpus()
    ahead = DECODED_BATCHES * max(threads, math.ceil(wanted / (stage.rows or wanted or 1)))
    waiting: deque[Future[pa.Table]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for batch in cut(tables, stage.rows):
            waiting.append(pool.submit(stage.step, batch))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_worker(stage: WorkerStage, tables: Iterator[pa.Table]) -> Tables:
    """Batches through the step, which is made for the first of them."""
    step: Step | None = None
    try:
        for batch in rebatched(tables, stage.rows, FIRST_ROWS):
            if step is None:
                step = stage.make(*stage.arguments)
            yield step(batch)
    finally:
        close = getattr(step, "close", None)
        if close is not None:
            close()
