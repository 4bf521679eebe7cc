"""The compact set of ids, against Python's own."""

from __future__ import annotations

import uuid

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


def test_short_ids_tell_apart_ids_that_begin_or_end_alike() -> None:
    """As UUIDs of version 1 from one machine do, and a number and the UUID of its bits."""
    alike = [str(uuid.UUID(int=number << shift)) for number in range(500) for shift in (0, 64)]
    ids = {*alike, *map(str, range(500)), point_id("a.jpg")}
    assert len({short_id(id) for id in ids}) == len(ids)
    assert all(0 <= short_id(id) < 2**64 for id in ids)
