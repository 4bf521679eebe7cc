"""Rankings as tables: one for each composer and search, a row for each query in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.records import BenchmarkQuery, Ranked
from fti_qdrant.errors import BadPredictions

if TYPE_CHECKING:
    import pyarrow as pa

EXACT, INDEX = "exact", "index"
"""How Qdrant searches: by comparing every vector, or with its approximate index."""

RankingKey = tuple[str, str]
"""Name of the composer, and EXACT or INDEX."""

NEIGHBORS = 10
"""How many of the exactly nearest images the index is expected to find."""


def schema() -> pa.Schema:
    """The columns of a ranking: one query by one composer and one search."""
    import pyarrow as pa

    return pa.schema(
        [
            ("composer", pa.string()),
            ("search", pa.string()),
            ("query", pa.string()),
            ("ids", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
            ("right_ranks", pa.list_(pa.int32())),
            ("subset", pa.list_(pa.string())),
            ("r", pa.int32()),
            ("truncated", pa.bool_()),
        ]
    )


def by_key(rows: pa.Table, benchmark: Benchmark) -> dict[RankingKey, pa.Table]:
    """A table for each composer and search, in the order of the benchmark's queries.

    Raises BadPredictions where a query is missing or was ranked twice.
    """
    import pyarrow as pa

    composers, searches = rows["composer"].to_pylist(), rows["search"].to_pylist()
    row_of: dict[RankingKey, dict[str, int]] = {}
    for row, (composer, search, query) in enumerate(
        zip(composers, searches, rows["query"].to_pylist())
    ):
        if row_of.setdefault((composer, search), {}).setdefault(query, row) != row:
            raise BadPredictions(f"{composer}: query {query} was ranked twice")
    ids = [query.id for query in benchmark.queries]
    for (composer, _), of_query in row_of.items():
        if missing := [id for id in ids if id not in of_query]:
            raise BadPredictions(f"{composer}: query {missing[0]} was not ranked")
    return {key: rows.take(pa.array([of[id] for id in ids])) for key, of in row_of.items()}


def unanswered(table: pa.Table) -> int:
    """Queries for which nothing was ranked."""
    return sum(not ids for ids in table["ids"].to_pylist())


def ranked(table: pa.Table, benchmark: Benchmark) -> Ranked:
    """One table of rankings, as the measures take it."""
    has_subsets = any(query.subset for query in benchmark.queries)
    images = table["ids"].to_pylist()
    return Ranked(
        images,
        table["subset"].to_pylist() if has_subsets else None,
        right_ranks=_right_ranks(table, images, benchmark),
    )


def _right_ranks(
    table: pa.Table, images: list[list[str]], benchmark: Benchmark
) -> list[list[int]] | None:
    """Ranks beyond the stored lists, where a benchmark needs them; else None."""
    stored = table["right_ranks"].to_pylist() if "right_ranks" in table.column_names else []
    if not any(ranks is not None for ranks in stored):
        return None
    return [
        right_ranks(found, query) if ranks is None else ranks
        for ranks, found, query in zip(stored, images, benchmark.queries)
    ]


def right_ranks(names: Sequence[str], query: BenchmarkQuery) -> list[int]:
    """1-based ranks of a query's right answers in a ranking."""
    right = set(query.relevant)
    return [rank for rank, name in enumerate(names, 1) if name in right]


def described(table: pa.Table, benchmark: Benchmark, measured: Mapping[str, Floats]) -> pa.Table:
    """One table of rankings with its queries and their values: part of ``per_query.parquet``."""
    import pyarrow as pa

    queries, lists = benchmark.queries, ranked(table, benchmark)
    texts = pa.list_(pa.string())
    columns: dict[str, pa.Array] = {
        "reference": pa.array([query.reference for query in queries]),
        "more_references": pa.array([query.more_references for query in queries], texts),
        "text": pa.array([query.texts[0] for query in queries]),
        "aspects": pa.array([query.aspects for query in queries], texts),
        "relevant": pa.array([query.relevant for query in queries], texts),
        "rank": _target_ranks(benchmark, lists.images),
        "subset_rank": _target_ranks(benchmark, lists.subsets),
        **{measure: pa.array(values) for measure, values in measured.items()},
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def neighbors_found(exact: pa.Table, index: pa.Table) -> float:
    """Share of the NEIGHBORS exactly nearest images that the index finds, averaged over queries."""
    pairs = zip(exact["ids"].to_pylist(), index["ids"].to_pylist())
    shares = [
        len(set(true[:NEIGHBORS]) & set(found[:NEIGHBORS])) / len(true[:NEIGHBORS])
        for true, found in pairs
        if true
    ]
    return float(np.mean(shares)) if shares else 0.0


def _target_ranks(benchmark: Benchmark, lists: list[list[str]] | None) -> Any:
    """1-based rank of the target, or of the first right answer where there is no one target.

    Null where it was not ranked, or is not public.
    """
    import pyarrow as pa

    if lists is None or not benchmark.has_truth:
        return pa.nulls(len(benchmark.queries), pa.int32())
    right = [
        query.relevant[:1] if benchmark.one_target else query.relevant
        for query in benchmark.queries
    ]
    target_ranks = metrics.ranks(metrics.members(lists, right))
    return pa.array(target_ranks, pa.int32(), mask=target_ranks == 0)
