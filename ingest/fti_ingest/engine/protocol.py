"""What an engine runs: blocks of rows through stages. All engines give the same results.

A stage is a plain callable on Arrow tables. It does not know which engine runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

EngineName = Literal["auto", "local", "ray"]

Tables = Generator[pa.Table, None, None]
"""Batches, one after the other; may be closed before the last."""

Step = Callable[[pa.Table], pa.Table]
"""Rows in, the same rows out, with other columns."""


class Blocks(Protocol):
    """The rows to work on, a block at a time: no engine holds more than those in work.

    Blocks are pickled to where they are read, so they should hold paths rather than rows.
    """

    def __len__(self) -> int:
        """Number of blocks."""
        ...

    def block(self, number: int) -> pa.Table: ...


@dataclass(frozen=True)
class TableBlocks:
    """Blocks that are in memory already."""

    tables: Sequence[pa.Table]

    def __len__(self) -> int:
        return len(self.tables)

    def block(self, number: int) -> pa.Table:
        return self.tables[number]


@dataclass(frozen=True)
class CpuStage:
    """A step that needs a CPU alone, so that any number of batches may run side by side.

    Attributes:
        rows: most rows at once; None takes each block whole.
    """

    step: Step
    rows: int | None = None


@dataclass(frozen=True)
class WorkerStage:
    """A step that holds something costly, such as a model or a connection.

    Attributes:
        make: called with ``arguments`` once in each worker; the result is the step. If it has a
            method ``close``, that is called after its last batch.
        rows: how many at once, across blocks; the last batch may be smaller. None takes the
            batches as they come.
        workers: so many side by side; of more than one, batches may overtake each other.
        gpus: share of a GPU for each.
    """

    make: Callable[..., Step]
    arguments: tuple[Any, ...] = ()
    rows: int | None = None
    workers: int = 1
    gpus: float = 0.0


Stage = CpuStage | WorkerStage


@dataclass(frozen=True)
class Pipeline:
    """Blocks through stages; the first stage is a ``CpuStage``.

    Attributes:
        ordered: whether rows come out in the order of the blocks.
        row_bytes: of one row between the stages; bounds what may wait there.
    """

    blocks: Blocks
    stages: tuple[Stage, ...]
    ordered: bool = False
    row_bytes: int = 0


@dataclass(frozen=True)
class Capacity:
    """What a run has to work with: CPUs that decode, models, and writers, side by side."""

    cpus: int
    models: int
    writers: int


class Engine(Protocol):
    """Runs pipelines. Use ``open_engine`` to get one."""

    @property
    def name(self) -> EngineName: ...

    @property
    def distributes(self) -> bool:
        """Whether workers may be on other machines, so that they write to a server themselves."""
        ...

    def stream(self, pipeline: Pipeline) -> Tables:
        """Finished batches, as they are done.

        Raises FtiError: what a stage raised, or one line about what ended a worker. Closing the
        iterator stops the work.
        """
        ...

    def shared(self, kind: type, arguments: tuple[Any, ...], method: str) -> Callable[..., Any]:
        """A method of one object that all workers share; it lives beside the driver's files."""
        ...

    def threads(self, workers: int) -> int:
        """CPU threads for the model of each of so many workers."""
        ...

    def capacity(self, workers: int, writers: int) -> Capacity:
        """What the machine or the cluster gives such a run."""
        ...
