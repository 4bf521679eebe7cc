"""The chance that a hit is right, over HTTP, in calibrated galleries and in others."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from fti_qdrant import ComposedSearch, Query
from tests.calibration.judged import calibration_for
from tests.serve.conftest import id_of

RED = id_of("red", "circle")
ASKED = {"references": [{"id": RED}], "text": "in blue", "limit": 8}


@pytest.fixture
def calibrated(search: ComposedSearch, monkeypatch: pytest.MonkeyPatch) -> ComposedSearch:
    made = calibration_for(search.composer, Query(RED, "in blue", composer="pdv"))
    monkeypatch.setattr(search.gallery, "calibration", made)
    return search


def test_hits_have_it(client: TestClient, calibrated: ComposedSearch) -> None:
    expected = calibrated.query(RED, "in blue", limit=8)
    answer = client.post("/search", json=ASKED).json()
    assert [hit["confidence"] for hit in answer["hits"]] == [
        pytest.approx(hit.confidence, abs=1e-4) for hit in expected
    ]
    assert answer["query"]["cutoff_by"] is None
    least = expected[3].confidence
    assert least is not None
    kept = client.post("/search", json={**ASKED, "min_confidence": least - 1e-3}).json()["hits"]
    assert [hit["id"] for hit in kept] == [
        hit.id for hit in expected if (hit.confidence or 0) >= least - 1e-3
    ]
    cut = client.post("/search", json={**ASKED, "cutoff": 0.9}).json()
    assert cut["query"]["cutoff_by"] == "confidence"
    batch = {"queries": [{**ASKED, "min_confidence": 0.999}, ASKED]}
    none, every = client.post("/search/batch", json=batch).json()["answers"]
    assert none["hits"] == []
    assert len(every["hits"]) == 8
    told = {one["name"]: one["calibrated"] for one in client.get("/info").json()["composers"]}
    assert [name for name, is_there in told.items() if is_there] == ["pdv"]


def test_without_a_calibration(client: TestClient, search: ComposedSearch) -> None:
    answer = client.post("/search", json={**ASKED, "cutoff": 0.9}).json()
    assert {hit["confidence"] for hit in answer["hits"]} == {None}
    assert answer["query"]["cutoff_by"] == "score"
    refused = client.post("/search", json={**ASKED, "min_confidence": 0.5})
    assert refused.status_code == 422, refused.text
    assert "the gallery has no calibration" in refused.json()["detail"]


@pytest.mark.parametrize("wrong", [-0.1, 1.5, "0.5", True])
def test_bad_chances(client: TestClient, wrong: object) -> None:
    refused = client.post("/search", json={**ASKED, "min_confidence": wrong})
    assert refused.status_code == 422
    assert "min_confidence" in refused.text
