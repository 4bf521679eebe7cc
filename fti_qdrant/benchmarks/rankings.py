"""Rankings as tables: one for each composer and search, a row for each query in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.base import Benchmark, Ranked
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.errors import BadPredictions

if TYPE_CHECKING:
    import pyarrow as pa

EXACT, INDEX = "exact", "index"
"""How Qdrant searches: every vector, or by its approximate index."""

Run = tuple[str, str]
"""Composer and search."""

NEIGHBORS = 10
"""Of so many exactly nearest images, the share that the index finds is told."""


def schema() -> pa.Schema:
    """Of one ranking: a query by a composer and a search."""
    import pyarrow as pa

    return pa.schema(
        [
            ("composer", pa.string()),
            ("search", pa.string()),
            ("query", pa.string()),
            ("ids", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
            ("subset", pa.list_(pa.string())),
            ("r", pa.int32()),
            ("truncated", pa.bool_()),
        ]
    )


def by_run(rows: pa.Table, benchmark: Benchmark) -> dict[Run, pa.Table]:
    """Sorts rankings out. Raises BadPredictions where a query is missing or there twice."""
    import pyarrow as pa

    composers, searches = rows["composer"].to_pylist(), rows["search"].to_pylist()
    places: dict[Run, dict[str, int]] = {}
    for row, (composer, search, query) in enumerate(
        zip(composers, searches, rows["query"].to_pylist())
    ):
        if places.setdefault((composer, search), {}).setdefault(query, row) != row:
            raise BadPredictions(f"{composer}: query {query} was ranked twice")
    ids = [query.id for query in benchmark.queries]
    for (composer, _), place in places.items():
        if missing := [id for id in ids if id not in place]:
            raise BadPredictions(f"{composer}: query {missing[0]} was not ranked")
    return {run: rows.take(pa.array([place[id] for id in ids])) for run, place in places.items()}


def unanswered(table: pa.Table) -> int:
    """Queries for which nothing was ranked."""
    return sum(not ids for ids in table["ids"].to_pylist())


def ranked(table: pa.Table, benchmark: Benchmark) -> Ranked:
    """One run's rankings, as the measures take them."""
    has_subsets = any(query.subset for query in benchmark.queries)
    return Ranked(table["ids"].to_pylist(), table["subset"].to_pylist() if has_subsets else None)


def described(table: pa.Table, benchmark: Benchmark, measured: Mapping[str, Floats]) -> pa.Table:
    """One run's rankings with all about each query beside: a part of ``per_query.parquet``."""
    import pyarrow as pa

    queries, lists = benchmark.queries, ranked(table, benchmark)
    texts = pa.list_(pa.string())
    columns: dict[str, pa.Array] = {
        "reference": pa.array([query.reference for query in queries]),
        "text": pa.array([query.texts[0] for query in queries]),
        "aspects": pa.array([query.aspects for query in queries], texts),
        "relevant": pa.array([query.relevant for query in queries], texts),
        "rank": _places(benchmark, lists.images),
        "subset_rank": _places(benchmark, lists.subsets),
        **{measure: pa.array(values) for measure, values in measured.items()},
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def neighbors_found(exact: pa.Table, index: pa.Table) -> float:
    """Share of the exactly nearest NEIGHBORS images that the index finds, mean over queries."""
    pairs = zip(exact["ids"].to_pylist(), index["ids"].to_pylist())
    shares = [
        len(set(true[:NEIGHBORS]) & set(found[:NEIGHBORS])) / len(true[:NEIGHBORS])
        for true, found in pairs
        if true
    ]
    return float(np.mean(shares)) if shares else 0.0


def _places(benchmark: Benchmark, lists: list[list[str]] | None) -> Any:
    """1-based rank of the target; null where it is not among those ranked, or not known."""
    import pyarrow as pa

    if lists is None or not benchmark.has_truth:
        return pa.nulls(len(benchmark.queries), pa.int32())
    targets = [query.relevant[:1] for query in benchmark.queries]
    places = metrics.ranks(metrics.matches(lists, targets, [q.id for q in benchmark.queries]))
    return pa.array(places, pa.int32(), mask=places == 0)
