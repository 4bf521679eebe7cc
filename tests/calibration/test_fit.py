"""Fitting chances, and checking them on other queries, against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti_qdrant.calibration.fit import FOLDS, Source, fit_calibration, fit_chances, out_of_fold
from fti_qdrant.calibration.judged_hits import JudgedHits, JudgedQueryHits
from fti_qdrant.calibration.reliability import reliability
from fti_qdrant.errors import BadCalibration
from tests.calibration.judged import MAKER, random_hits

HIT = st.tuples(st.integers(-8, 8).map(lambda n: n / 8), st.booleans())


def pooled(pairs: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Pool adjacent violators, naively: (cosine, share right, weight) by rising cosine."""
    blocks = list(pairs)
    at = 0
    while at + 1 < len(blocks):
        (x, y, weight), (other_x, other_y, other_weight) = blocks[at : at + 2]
        if y < other_y:
            at += 1
            continue
        both = weight + other_weight
        blocks[at : at + 2] = [
            (
                (x * weight + other_x * other_weight) / both,
                (y * weight + other_y * other_weight) / both,
                both,
            )
        ]
        at = max(at - 1, 0)
    return blocks


def slow_fit(scores: list[float], right: list[bool]) -> list[tuple[float, float]]:
    """The knots, by the definition of the module."""
    judged = [*zip(scores, right), (min(scores), True), (max(scores), False)]
    pairs = []
    for x in sorted(set(scores)):
        here = [one for score, one in judged if score == x]
        pairs.append((x, sum(here) / len(here), float(len(here))))
    knots = [(x, y) for x, y, _ in pooled(pairs)]
    return knots if knots[0][0] == -1 else [(-1.0, 0.0), *knots]


@settings(deadline=None)
@given(st.lists(HIT, min_size=1, max_size=40))
def test_the_map_is_that_of_a_slow_reference(hits: list[tuple[float, bool]]) -> None:
    scores, right = [score for score, _ in hits], [one for _, one in hits]
    fitted = fit_chances(np.array(scores, np.float32), np.array(right))
    expected = slow_fit(scores, right)
    np.testing.assert_allclose(fitted.cosines, [x for x, _ in expected], atol=1e-9)
    np.testing.assert_allclose(fitted.chances, [y for _, y in expected], atol=1e-9)


@settings(deadline=None)
@given(st.lists(HIT, min_size=1, max_size=40))
def test_no_number_of_hits_makes_a_chance_0_or_1(hits: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in hits], np.float32)
    fitted = fit_chances(scores, np.array([one for _, one in hits]))
    found = fitted.at(scores[scores > -1])
    assert ((found > 0) & (found < 1)).all()


def test_separable_hits_have_chances_that_say_how_few_they_are() -> None:
    scores = np.array([0.1] * 9 + [0.9] * 9, np.float32)
    fitted = fit_chances(scores, scores > 0.5)
    assert fitted.at([0.1, 0.9]) == pytest.approx([0.1, 0.9])
    assert fitted.at([0.5, 1.0]) == pytest.approx([0.5, 0.9])


def test_each_query_is_checked_by_a_map_that_did_not_see_its_reference() -> None:
    hits = random_hits(0)
    names = {f"reference {number}" for number in range(30)}
    assert len(np.unique(hits.groups)) == len(names)
    assert hits.queries == 60
    found = out_of_fold(hits)
    for fold in range(FOLDS):
        inside = [group % FOLDS == fold for group in hits.groups]
        seen = [(s, r) for s, r, held in zip(hits.scores, hits.right, inside) if not held]
        knots = slow_fit([float(s) for s, _ in seen], [bool(r) for _, r in seen])
        own = hits.scores[inside].astype(np.float64)
        expected = np.interp(own, [x for x, _ in knots], [y for _, y in knots])
        np.testing.assert_allclose(found[inside], expected, atol=1e-9)


def test_folds_depend_on_the_references_alone() -> None:
    each = [JudgedQueryHits(f"r{n % 7}", [0.1 * (n % 5)], [n % 3 == 0]) for n in range(40)]
    forward, backward = JudgedHits.of(each), JudgedHits.of(each[::-1])
    assert forward.groups.tolist() == backward.groups[::-1].tolist()
    assert sorted(np.unique(forward.groups % FOLDS)) == list(range(FOLDS))


def test_reliability_against_its_definition() -> None:
    rng = np.random.default_rng(3)
    stated, right = rng.random(500), rng.random(500) < 0.3
    stated[0] = 1.0
    found = reliability(stated, right)
    error = 0.0
    for low in range(15):
        top = 1.01 if low == 14 else (low + 1) / 15
        chosen = [(s, r) for s, r in zip(stated, right) if low / 15 <= s < top]
        if chosen:
            said, was = (np.mean([one[at] for one in chosen]) for at in (0, 1))
            error += len(chosen) / 500 * abs(said - was)
    assert found.ece == pytest.approx(error, abs=1e-12)
    assert found.brier == pytest.approx(np.mean([(s - r) ** 2 for s, r in zip(stated, right)]))
    share = right.mean()
    assert found.base_brier == pytest.approx(np.mean([(share - r) ** 2 for r in right]))
    assert sum(one.hits for one in found.bins) == 500


def test_chances_that_are_true_are_reliable_on_other_queries() -> None:
    hits = random_hits(1, queries=600)
    made = fit_calibration(hits, MAKER, Source("test", 10, 1))
    assert made.ece < 0.03
    assert (made.queries, made.hits, made.right) == (600, 6000, hits.right_count)
    asked = np.linspace(0.2, 0.8, 7)
    np.testing.assert_allclose(made.chances.at(asked), asked**2, atol=0.08)


@pytest.mark.parametrize(
    ("queries", "right", "why"),
    [
        (29, 15, "29 judged queries are too few, at least 30"),
        (40, 9, "only 9 of 40 judged hits are right"),
        (40, 31, "only 9 of 40 judged hits are wrong"),
    ],
)
def test_too_little_is_refused(queries: int, right: int, why: str) -> None:
    each = [JudgedQueryHits(f"r{n}", [n / 100], [n < right]) for n in range(queries)]
    with pytest.raises(BadCalibration, match=why):
        fit_calibration(JudgedHits.of(each), MAKER, Source("test", 10, 1))


def test_one_reference_cannot_be_checked_on_others() -> None:
    each = [JudgedQueryHits("same", [n / 100], [n % 2 == 0]) for n in range(40)]
    with pytest.raises(BadCalibration, match="the same reference image"):
        fit_calibration(JudgedHits.of(each), MAKER, Source("test", 10, 1))


def test_queries_without_hits_count_as_queries_alone() -> None:
    each = [JudgedQueryHits(f"r{n}", [], []) for n in range(40)]
    with pytest.raises(BadCalibration, match="only 0 of 0 judged hits are right"):
        fit_calibration(JudgedHits.of(each), MAKER, Source("test", 10, 1))
