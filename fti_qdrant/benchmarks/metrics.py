"""The official measures, as pure functions over ranked ids; one value for each query.

Libraries for retrieval measures compute something else. trec_eval and its bindings sort by score
again and break ties by document id, where the protocols take a list in its own order. They divide
average precision at K by the number of right answers, CIRCO's protocol by min(K, right answers).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fti_qdrant.errors import BadBenchmark, BadPredictions

Floats = NDArray[np.float64]
Matches = NDArray[np.bool_]
"""``[Q, K]``: whether the image at each rank is a right answer; False beyond the end of a list."""


def matches(
    ranked: Sequence[Sequence[str]], relevant: Sequence[Sequence[str]], queries: Sequence[str]
) -> Matches:
    """Compares ranked ids with the right answers of each query.

    Args:
        ranked: ids found for each query, best first; lists may have different lengths, or be empty.
        relevant: ids of each query's right answers.
        queries: names of the queries, for messages.

    Raises:
        BadPredictions: a list that holds an image twice, or not one list for each query.
        BadBenchmark: a query without right answers, or with one twice.
    """
    if not len(ranked) == len(relevant) == len(queries):
        raise BadPredictions(
            f"{len(ranked)} ranked lists and {len(relevant)} answers for {len(queries)} queries"
        )
    for query, found, right in zip(queries, ranked, relevant):
        if len(set(found)) < len(found):
            raise BadPredictions(
                f"query {query}: image {_first_duplicate(found)!r} is in the list twice"
            )
        if not right:
            raise BadBenchmark(f"query {query} has no right answer to measure against")
        if len(set(right)) < len(right):
            raise BadBenchmark(
                f"query {query}: right answer {_first_duplicate(right)!r} is there twice"
            )
    return members(ranked, relevant)


def members(ranked: Sequence[Sequence[str]], sets: Sequence[Collection[str]]) -> Matches:
    """``[Q, K]``: whether the image at each rank is in the query's set, which may be empty."""
    lengths = np.array([len(found) for found in ranked], dtype=np.int64)
    codes = {id: code for code, id in enumerate({id for found in ranked for id in found})}
    rows = np.repeat(np.arange(len(ranked)), lengths)
    found_codes = np.array([codes[id] for found in ranked for id in found], dtype=np.int64)
    pairs = np.array(
        [
            row * len(codes) + codes[id]
            for row, wanted in enumerate(sets)
            for id in wanted
            if id in codes
        ],
        dtype=np.int64,
    )
    table = np.zeros((len(ranked), int(lengths.max(initial=0))), dtype=bool)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table[rows, columns] = np.isin(rows * len(codes) + found_codes, pairs)
    return table


def recall(found: Matches, k: int) -> Floats:
    """R@K of queries with one right answer: 1 where it is among the first K, else 0: ``[Q]``."""
    return np.asarray(found[:, :k].any(axis=1), dtype=np.float64)


def average_precision(found: Matches, answers: NDArray[np.int64], k: int) -> Floats:
    """AP@K: precision summed over the hits in the first K, divided by min(K, answers): ``[Q]``.

    Source: CIRCO's protocol.

    Args:
        answers: ``[Q]``, how many right answers each query has.
    """
    first = found[:, :k]
    precision = np.cumsum(first, axis=1) / np.arange(1, first.shape[1] + 1)
    return np.asarray((precision * first).sum(axis=1) / np.minimum(answers, k), dtype=np.float64)


def variation(values: Floats, wordings: int) -> dict[str, Floats]:
    """How much R@1 depends on the wording of a question: ``[Q]`` each, equal for its wordings.

    Args:
        values: ``[Q]``, R@1 of questions that are asked in ``wordings`` wordings, side by side.

    Returns: R@1 by the best and by the worst wording of each question, and the standard deviation
    of R@1 over its wordings.
    """
    by_question = values.reshape(-1, wordings)
    made = {
        "best wording R@1": by_question.max(axis=1),
        "worst wording R@1": by_question.min(axis=1),
        "deviation": by_question.std(axis=1),
    }
    return {name: np.repeat(column, wordings) for name, column in made.items()}


def precision(found: Matches, k: int) -> Floats:
    """P@K: hits in the first K, divided by K even where a list is shorter: ``[Q]``."""
    return np.asarray(found[:, :k].sum(axis=1) / k, dtype=np.float64)


def trapezoidal_precision(right_ranks: Sequence[Sequence[int]], answers: Sequence[int]) -> Floats:
    """AP over a whole ranking: the area under precision and recall, by trapezoids: ``[Q]``.

    Source: i-CIR's evaluation code, which adds 1e-5 to the number of answers.

    Args:
        right_ranks: 1-based ranks of each query's right answers, in order.
        answers: how many right answers each query has.
    """
    values = []
    for ranks_of, count in zip(right_ranks, answers):
        area = 0.0
        for hits, rank in enumerate(ranks_of):
            before = 1.0 if rank == 1 else hits / (rank - 1)
            area += (before + (hits + 1) / rank) / 2
        values.append(area / (count + 1e-5))
    return np.array(values, dtype=np.float64)


def ranks(found: Matches) -> NDArray[np.int64]:
    """1-based rank of the first right answer; 0 where the list has none: ``[Q]``."""
    if not found.shape[1]:
        return np.zeros(len(found), dtype=np.int64)
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)


def _first_duplicate(ids: Sequence[str]) -> str:
    before: set[str] = set()
    for id in ids:
        if id in before:
            return id
        before.add(id)
    raise AssertionError("called for a list without duplicates")
