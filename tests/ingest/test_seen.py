"""The compact set of ids, against Python's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fti_ingest.sources.id_set import SeenIds, short_id
from fti_qdrant.gallery import point_id

Batches = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12)


@given(Batches)
def test_only_what_is_new_is_told(batches: list[list[int]]) -> None:
    seen, reference = SeenIds(), set()
    for batch in batches:
        expected = []
        for one in batch:
            expected.append(one not in reference)
            reference.add(one)
        assert seen.add(np.array(batch, dtype=np.uint64)).tolist() == expected


def test_a_million_ids_take_eight_bytes_each() -> None:
    seen = SeenIds()
    ids = np.random.default_rng(0).integers(0, 2**64, 2**20, dtype=np.uint64)
    for start in range(0, len(ids), 4096):
        assert seen.add(ids[start : start + 4096]).all()
    assert not seen.add(ids[::997]).any()
    assert sum(run.nbytes for run in seen._runs) == 8 * len(ids)
    assert len(seen._runs) <= 20


def test_short_ids_are_the_end_of_the_id() -> None:
    assert f"{short_id(point_id('a.jpg')):016x}" == point_id("a.jpg").replace("-", "")[16:]
