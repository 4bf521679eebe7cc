"""The measures against slow references that follow the definitions word by word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti_qdrant.benchmarks import metrics
from fti_qdrant.errors import BadBenchmark, BadPredictions

Lists = list[tuple[list[str], list[str]]]
"""For each query, what was found and what is right."""

IDS = [str(number) for number in range(12)]


@st.composite
def rankings(draw: st.DrawFn) -> Lists:
    """Lists of any length, also empty and also with fewer than K images."""
    queries = draw(st.integers(1, 6))
    return [
        (
            draw(st.lists(st.sampled_from(IDS), unique=True)),
            draw(st.lists(st.sampled_from([*IDS, "absent"]), unique=True, min_size=1)),
        )
        for _ in range(queries)
    ]


def table(lists: Lists) -> metrics.Matches:
    found, right = zip(*lists)
    return metrics.matches(found, right, [str(number) for number in range(len(lists))])


def slow_average_precision(found: list[str], right: list[str], k: int) -> float:
    """Every hit among the first K adds the precision down to it; over min(K, right answers)."""
    total, hits = 0.0, 0
    for place, image in enumerate(found[:k], 1):
        if image in right:
            hits += 1
            total += hits / place
    return total / min(k, len(right))


@given(rankings(), st.integers(1, 60))
def test_average_precision_is_its_definition(lists: Lists, k: int) -> None:
    answers = np.array([len(right) for _, right in lists])
    got = metrics.average_precision(table(lists), answers, k)
    want = [slow_average_precision(found, right, k) for found, right in lists]
    assert np.abs(got - want).max() < 1e-12


@given(rankings(), st.integers(1, 60))
def test_recall_is_its_definition(lists: Lists, k: int) -> None:
    one_right = [(found, right[:1]) for found, right in lists]
    got = metrics.recall(table(one_right), k)
    assert got.tolist() == [float(right[0] in found[:k]) for found, right in one_right]


@given(rankings())
def test_rank_is_the_place_of_the_first_right_answer(lists: Lists) -> None:
    want = [
        next((place for place, image in enumerate(found, 1) if image in right), 0)
        for found, right in lists
    ]
    assert metrics.ranks(table(lists)).tolist() == want


@given(rankings(), st.integers(1, 20))
def test_what_is_ranked_behind_k_changes_nothing(lists: Lists, k: int) -> None:
    cut = [(found[:k], right) for found, right in lists]
    answers = np.array([len(right) for _, right in lists])
    whole, part = table(lists), table(cut)
    assert (metrics.recall(whole, k) == metrics.recall(part, k)).all()
    whole_ap = metrics.average_precision(whole, answers, k)
    assert (whole_ap == metrics.average_precision(part, answers, k)).all()


def test_a_perfect_list_scores_one_whatever_k_is() -> None:
    lists = [(["a", "b", "c", "d"], ["b", "a", "c"])]
    for k in (1, 2, 3, 50):
        assert metrics.average_precision(table(lists), np.array([3]), k).tolist() == [1.0]


def test_an_image_that_is_there_twice_is_refused_by_name() -> None:
    with pytest.raises(BadPredictions, match="query q7: image 'a' is in the list twice"):
        metrics.matches([["a", "b", "a"]], [["b"]], ["q7"])


def test_a_query_without_right_answers_is_refused() -> None:
    with pytest.raises(BadBenchmark, match="query q7 has no right answer"):
        metrics.matches([["a"]], [[]], ["q7"])


def test_a_right_answer_that_is_there_twice_is_refused() -> None:
    with pytest.raises(BadBenchmark, match="right answer 'a' is there twice"):
        metrics.matches([["a"]], [["a", "a"]], ["q7"])


def test_lists_and_queries_must_be_as_many() -> None:
    with pytest.raises(BadPredictions, match="1 ranked lists and 2 answers for 2 queries"):
        metrics.matches([["a"]], [["a"], ["b"]], ["q1", "q2"])


def test_ids_are_compared_whole() -> None:
    assert table([(["1", "11", "111"], ["11"])]).tolist() == [[False, True, False]]


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3), min_size=1))
def test_the_variation_is_by_question(found: list[list[float]]) -> None:
    made = metrics.variation(np.array(found).ravel(), 3)
    for number, question in enumerate(found):
        mean = sum(question) / 3
        deviation = (sum((one - mean) ** 2 for one in question) / 3) ** 0.5
        for wording in range(3 * number, 3 * number + 3):
            assert made["best wording R@1"][wording] == max(question)
            assert made["worst wording R@1"][wording] == min(question)
            assert made["deviation"][wording] == pytest.approx(deviation)
