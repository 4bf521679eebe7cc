"""Both engines run the same stages alike."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti_ingest.engine.batching import cut, rebatched
from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_ingest.engine.local import LocalEngine
from fti_ingest.engine.protocol import (
    CpuStage,
    Engine,
    Pipeline,
    TableBlocks,
    WorkerStage,
)
from fti_ingest.stages.columns import replaced
from fti_qdrant.errors import BadImage, FtiError, GalleryUnavailable

ROWS = 100


@pytest.fixture(scope="module", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "local":
        yield LocalEngine()
        return
    access = request.getfixturevalue("ray_cluster")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in access.items():
            patch.setenv(name, value)
        with open_engine(EngineChoice("ray", ray_address=access["RAY_ADDRESS"])) as opened:
            yield opened


def blocks(rows: int = ROWS, size: int = 16) -> TableBlocks:
    numbers = pa.table({"number": pa.array(range(rows), pa.int64())})
    return TableBlocks([numbers.slice(start, size) for start in range(0, rows, size)])


def doubled(batch: pa.Table) -> pa.Table:
    values = np.asarray(batch["number"]) * 2
    return replaced(batch, doubled=pa.array(values), cut=pa.array([len(batch)] * len(batch)))


class Model:
    """A step that says who it is and how many rows it got at once."""

    def __init__(self, offset: int):
        self.offset = offset
        self.name = uuid.uuid4().hex

    def __call__(self, batch: pa.Table) -> pa.Table:
        values = np.asarray(batch["doubled"]) + self.offset
        names, sizes = [self.name] * len(batch), [len(batch)] * len(batch)
        return replaced(batch, out=pa.array(values), model=pa.array(names), size=pa.array(sizes))


def joined(engine: Engine, pipeline: Pipeline) -> dict[str, list[Any]]:
    with closing(engine.stream(pipeline)) as stream:
        columns: dict[str, list[Any]] = pa.concat_tables(list(stream)).to_pydict()
    return columns


def test_every_row_passes_all_stages_once_and_in_order(engine: Engine) -> None:
    stages = (CpuStage(doubled, 10), WorkerStage(Model, (5,), 32))
    found = joined(engine, Pipeline(blocks(), stages, ordered=True))
    assert found["number"] == list(range(ROWS))
    assert found["out"] == [2 * number + 5 for number in range(ROWS)]
    assert set(found["cut"]) <= {10, 6, 4}  # blocks of 16, and a last one of 4
    assert max(found["size"]) == 32
    assert len(set(found["model"])) == 1


def test_a_worker_that_takes_batches_as_they_come(engine: Engine) -> None:
    stages = (CpuStage(doubled, None), WorkerStage(Model, (0,)))
    found = joined(engine, Pipeline(blocks(), stages, ordered=True))
    assert found["number"] == list(range(ROWS))
    assert set(found["cut"]) == {16, 4}


def bad_image(batch: pa.Table) -> pa.Table:
    if 50 in batch["number"].to_pylist():
        raise BadImage("'50.jpg': broken; mend it")
    return batch


def division(batch: pa.Table) -> pa.Table:
    return replaced(batch, number=pa.array([1 // int(batch.num_rows > 1000)]))


class Broken:
    def __init__(self, kind: str):
        if kind == "made":
            raise GalleryUnavailable("'g': no such folder")

    def __call__(self, batch: pa.Table) -> pa.Table:
        raise GalleryUnavailable("'g': disk full")


@pytest.mark.parametrize(
    ("stages", "kind", "message"),
    [
        ((CpuStage(bad_image, 10),), BadImage, "'50.jpg': broken; mend it"),
        ((CpuStage(division),), GalleryUnavailable, "a worker failed: ZeroDivisionError: "),
        (
            (CpuStage(doubled), WorkerStage(Broken, ("made",))),
            GalleryUnavailable,
            "'g': no such folder",
        ),
        (
            (CpuStage(doubled), WorkerStage(Broken, ("used",))),
            GalleryUnavailable,
            "'g': disk full",
        ),
    ],
)
def test_a_stages_error_arrives_as_one_of_ours(
    engine: Engine, stages: Any, kind: type[FtiError], message: str
) -> None:
    with pytest.raises(kind) as raised:
        joined(engine, Pipeline(blocks(), stages))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


class Total:
    """An object that all workers share."""

    def __init__(self, start: int):
        self.total = start

    def add(self, value: int) -> int:
        self.total += value
        return self.total


class Adder:
    def __init__(self, add: Any):
        self.add = add

    def __call__(self, batch: pa.Table) -> pa.Table:
        total = self.add(int(np.asarray(batch["number"]).sum()))
        return replaced(batch, total=pa.array([total] * len(batch)))


def test_workers_share_an_object(engine: Engine) -> None:
    add = engine.shared(Total, (1000,), "add")
    stages = (CpuStage(doubled), WorkerStage(Adder, (add,)))
    found = joined(engine, Pipeline(blocks(), stages, ordered=True))
    assert max(found["total"]) == 1000 + sum(range(ROWS))
    assert add(1) == 1001 + sum(range(ROWS))


def test_closing_ends_the_work_early(engine: Engine) -> None:
    stages = (CpuStage(doubled, 4), WorkerStage(Model, (0,), 4))
    stream = engine.stream(Pipeline(blocks(4000), stages, ordered=True))
    assert next(stream)["number"].to_pylist()[0] == 0
    stream.close()
    again = joined(engine, Pipeline(blocks(), stages, ordered=True))
    assert again["number"] == list(range(ROWS))


def test_capacity_and_threads_are_at_least_one(engine: Engine) -> None:
    capacity = engine.capacity(1, 1)
    assert capacity.cpus >= 1
    assert (capacity.models, capacity.writers) == (1, 1)
    assert engine.threads(1) >= engine.threads(10) >= 1 or engine.name == "local"


class Counted:
    """Blocks that count how many of them were read."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 1000

    def block(self, number: int) -> pa.Table:
        self.read += 1
        return pa.table({"number": [number] * 4})


def test_the_local_engine_reads_a_bounded_number_of_blocks_ahead() -> None:
    counted = Counted()
    stages = (CpuStage(doubled, 4), WorkerStage(Model, (0,), 8))
    with closing(LocalEngine().stream(Pipeline(counted, stages))) as stream:
        next(stream)
        next(stream)
    assert counted.read < 40


def test_the_local_engine_shows_progress_early() -> None:
    stages = (CpuStage(doubled, 64), WorkerStage(Model, (0,), 64))
    with closing(LocalEngine().stream(Pipeline(blocks(1000, 64), stages))) as stream:
        sizes = [batch.num_rows for batch in stream]
    assert sizes[:4] == [8, 16, 32, 64]
    assert sum(sizes) == 1000


@given(st.lists(st.integers(0, 30)), st.integers(1, 20), st.none() | st.integers(1, 20))
def test_batches_hold_all_rows_in_order(sizes: list[int], rows: int, first: int | None) -> None:
    ends = np.cumsum([0, *sizes]).tolist()
    numbers = pa.table({"n": pa.array(range(ends[-1]), pa.int64())})
    tables = [numbers.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    for done in (cut(iter(tables), rows), rebatched(iter(tables), rows, first)):
        batches = [batch["n"].to_pylist() for batch in done]
        assert [n for batch in batches for n in batch] == list(range(ends[-1]))
        assert all(0 < len(batch) <= rows for batch in batches)
    whole = [len(batch) for batch in rebatched(iter(tables), rows, first)]
    assert all(b in (rows, 2 * a) for a, b in itertools.pairwise(whole[:-1]))
