"""The map from cosines to chances: monotone to the last bit, and its inverse exact."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fti_qdrant.gallery.chance_map import BEYOND, ChanceMap

COSINE = st.floats(-1, 1, width=32)
CHANCE = st.floats(0, 1)


@st.composite
def maps(draw: st.DrawFn) -> ChanceMap:
    cosines = sorted(draw(st.sets(COSINE.map(lambda one: one + 0.0), min_size=1, max_size=8)))
    size = len(cosines)
    chances = sorted(draw(st.lists(CHANCE, min_size=size, max_size=size)))
    return ChanceMap(cosines=tuple(cosines), chances=tuple(chances))


def slow(chances: ChanceMap, cosine: float) -> float:
    """The definition, segment by segment."""
    knots = list(zip(chances.cosines, chances.chances))
    if cosine <= knots[0][0]:
        return knots[0][1]
    for (left, low), (right, high) in pairwise(knots):
        if left <= cosine <= right:
            return low + (high - low) * (cosine - left) / (right - left)
    return knots[-1][1]


@settings(deadline=None)
@given(maps(), st.lists(COSINE, min_size=1, max_size=20))
def test_values_are_those_of_the_definition(chances: ChanceMap, cosines: list[float]) -> None:
    expected = [slow(chances, one) for one in cosines]
    np.testing.assert_allclose(chances.at(cosines), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(maps(), COSINE, st.integers(-3, 3), st.floats(-1, 1, width=32))
def test_the_order_of_hits_stays(chances: ChanceMap, one: float, steps: int, other: float) -> None:
    """Also between numbers that are neighbors, and on both sides of a knot."""
    near = np.float32(chances.cosines[len(chances.cosines) // 2])
    for _ in range(abs(steps)):
        near = np.nextafter(near, np.float32(np.sign(steps) * 2))
    ordered = np.sort(np.array([one, other, near, *chances.cosines], np.float32))
    found = chances.at(ordered)
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


@settings(deadline=None, max_examples=60)
@given(maps(), CHANCE, st.lists(COSINE, max_size=20))
def test_the_least_cosine_cuts_as_the_chances_do(
    chances: ChanceMap, chance: float, cosines: list[float]
) -> None:
    least = np.float32(chances.least_cosine(chance))
    assert float(least) == chances.least_cosine(chance)  # a float32, as engines compare
    for one in np.array([*cosines, *chances.cosines], np.float32):
        assert (one >= least) == (chances.of(float(one)) >= chance)
    if least < BEYOND:
        assert chances.of(float(least)) >= chance
        assert least == -BEYOND or chances.of(float(np.nextafter(least, np.float32(-3)))) < chance


@pytest.mark.parametrize(
    ("cosines", "chances", "why"),
    [
        ((), (), "at least 1"),
        ((0.1, 0.2), (0.5,), "2 cosines and 1 chances"),
        ((0.2, 0.1), (0.1, 0.2), "cosines must increase"),
        ((0.1, 0.1), (0.1, 0.2), "cosines must increase"),
        ((0.1, float("nan")), (0.1, 0.2), "cosines must increase"),
        ((0.1, 0.2), (0.2, 0.1), "chances must not decrease"),
        ((0.1, 0.2), (0.2, 1.1), "chances must not decrease"),
        ((0.1, 0.2), (float("nan"), 0.3), "chances must not decrease"),
    ],
)
def test_what_is_no_map_is_refused(cosines: tuple, chances: tuple, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ChanceMap(cosines=cosines, chances=chances)


def test_a_map_survives_json() -> None:
    chances = ChanceMap(cosines=(-1.0, 0.1, 1 / 3), chances=(0.0, 0.1, 2 / 3))
    assert ChanceMap.model_validate_json(chances.model_dump_json()) == chances
