"""Queries and hits as plain values."""

from __future__ import annotations

import json
import pickle

import numpy as np

from fti_qdrant import Hit, Hits, Query


def test_a_hit_as_plain_values():
    hit = Hit("id", 0.5, "a.jpg", {"price": 3})
    assert hit.as_dict() == {"id": "id", "score": 0.5, "uri": "a.jpg", "payload": {"price": 3}}
    with_vector = Hit("id", 0.5, None, {}, np.array([0.5, 1], dtype=np.float32))
    assert json.loads(json.dumps(with_vector.as_dict()))["vector"] == [0.5, 1.0]


def test_hits_are_a_list_that_knows_its_query():
    hits = Hits([Hit("id", 0.5, None, {})], Query(text="red", composer="text"))
    assert hits.composer == "text"
    copy = pickle.loads(pickle.dumps(hits))
    assert (list(copy), copy.query, copy.explanations) == (list(hits), hits.query, ())
