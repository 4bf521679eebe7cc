"""Results as a data frame, against the hits themselves."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti_qdrant import FtiError
from fti_qdrant.query import Hit, Hits, Query

QUERY = Query(text="x", composer="text")

VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5)),
    *(st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(), max_size=3)),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NAMES = st.sampled_from(["id", "score", "uri", "vector", "payload.id", "price", "", "brand"])


def hits_of(*payloads: dict[str, Any]) -> Hits:
    rows = enumerate(payloads)
    return Hits((Hit(f"id-{n}", 0.5 - n / 10, f"{n}.jpg", payload) for n, payload in rows), QUERY)


def test_the_columns_and_their_types() -> None:
    frame = hits_of(
        {"price": 3, "weight": 1.5, "brand": "Acme", "sold": True},
        {"price": 4, "weight": 2, "brand": "Best", "sold": False},
    ).to_pandas()
    names = ["id", "score", "uri", "price", "weight", "brand", "sold"]
    assert list(frame.columns) == names
    assert [frame[name].dtype.kind for name in ("score", "price", "weight", "sold")] == list("fifb")
    assert frame["price"].mean() == 3.5
    assert frame[frame.brand == "Best"]["id"].tolist() == ["id-1"]


def test_large_integers_stay_exact_where_some_are_missing() -> None:
    exact = 2**60 + 1
    frame = hits_of({"product": exact}, {}, {"product": None}).to_pandas()
    assert frame["product"].isna().tolist() == [False, True, True]
    assert frame["product"].sum() == exact
    mixed = hits_of({"product": exact}, {"product": 1.5}, {"product": 2**64}).to_pandas()
    assert mixed["product"].tolist() == [exact, 1.5, 2**64]


def test_fields_with_our_names_are_kept_beside_ours() -> None:
    frame = hits_of({"id": 7, "score": "good", "payload.id": 8}).to_pandas()
    row = frame.iloc[0].to_dict()
    assert (row["id"], row["score"]) == ("id-0", 0.5)
    assert row["payload.score"] == "good"
    assert (row["payload.payload.id"], row["payload.id"]) == (7, 8)


def test_a_field_called_confidence_gives_way_to_ours_alone() -> None:
    hits = hits_of({"confidence": "high"}, {"confidence": "low"})
    assert hits.to_pandas()["confidence"].tolist() == ["high", "low"]
    known = Hits((replace(hit, confidence=0.5) for hit in hits), QUERY).to_pandas()
    assert known["confidence"].tolist() == [0.5, 0.5]
    assert known["payload.confidence"].tolist() == ["high", "low"]


@settings(deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=4))
def test_no_value_is_lost(payloads: list[dict[str, Any]]) -> None:
    frame = hits_of(*payloads).to_pandas()
    names = {name for payload in payloads for name in payload}
    assert len(frame) == len(payloads)
    assert len(set(frame.columns)) == len(frame.columns) == 3 + len(names)
    for row, payload in zip(frame.to_dict("records"), payloads):
        rest = [value for name, value in row.items() if name not in ("id", "score", "uri")]
        for value in payload.values():
            assert value is None or any(_same(value, other) for other in rest)


def _same(value: Any, other: Any) -> bool:
    """Numbers of a column share one type; all else comes back as it is."""
    if isinstance(value, (int, float)):
        return isinstance(other, (int, float, np.number, np.bool_)) and value == other
    return type(value) is type(other) and value == other


def test_vectors_are_a_column_where_there_are_any() -> None:
    vector = np.arange(3, dtype=np.float32)
    frame = Hits([Hit("a", 0.5, None, {"vector": "plain"}, vector)], QUERY).to_pandas()
    assert frame["vector"][0] is vector
    assert frame["payload.vector"].tolist() == ["plain"]


def test_no_hits_are_a_frame_without_rows() -> None:
    frame = Hits([], QUERY).to_pandas()
    assert (len(frame), list(frame.columns)) == (0, ["id", "score", "uri"])


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FtiError, match=r"pip install pandas, .*'fti-qdrant\[notebook\]'"):
        hits_of({}).to_pandas()
