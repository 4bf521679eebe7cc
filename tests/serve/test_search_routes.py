"""``/search`` and its siblings answer what the library answers."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fti_qdrant import ComposedSearch, Cropped
from tests.serve.conftest import COLORS, SHAPES, id_of, png

RED = id_of("red", "circle")


def search_by(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.post("/search", json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def found(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(hit["id"], pytest.approx(hit["score"], abs=1e-5)) for hit in answer["hits"]]


def test_a_search_answers_as_the_library_does(client: TestClient, search: ComposedSearch):
    asked = {"text": "in blue", "filter": {"price": {"lt": 100}}, "limit": 5, "avoid": "cross"}
    expected = search.query(RED, **asked)
    answer = search_by(client, references=[{"id": RED}], **asked)
    assert found(answer) == [(hit.id, hit.score) for hit in expected]
    first, hit = expected[0], answer["hits"][0]
    assert hit["payload"] == first.payload
    assert first.uri.endswith(hit["uri"])
    assert "/" not in hit["uri"]
    assert answer["query"]["composer"] == expected.composer
    assert client.get(hit["thumbnail"]).status_code == 200


PICTURE = png("green", "cross")


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_pictures_come_as_base64(client: TestClient, search: ComposedSearch, prefix: str):
    text = prefix + base64.b64encode(PICTURE).decode()
    answer = search_by(client, references=[{"base64": text}], text="in red")
    assert found(answer) == [(hit.id, hit.score) for hit in search.query(PICTURE, "in red")]


def test_pictures_come_as_files_that_references_name(client: TestClient, search: ComposedSearch):
    other = png("blue", "square")
    query = {
        "references": [{"file": "b", "weight": 2}, {"file": "a"}, {"id": RED, "weight": 0.5}],
        "text": "small",
    }
    files = {"a": ("a.png", PICTURE), "b": ("b.png", other)}
    answer = client.post("/search", data={"query": json.dumps(query)}, files=files)
    expected = search.query([other, PICTURE, RED], "small", weights=[2, 1, 0.5])
    assert found(answer.json()) == [(hit.id, hit.score) for hit in expected]


def test_without_references_every_file_is_one(client: TestClient, search: ComposedSearch):
    answer = client.post(
        "/search", data={"query": '{"text": "in red"}'}, files={"picture": ("x.png", PICTURE)}
    )
    expected = search.query(PICTURE, "in red")
    assert found(answer.json()) == [(hit.id, hit.score) for hit in expected]
    alone = client.post("/search", files={"picture": ("x.png", PICTURE)})
    assert found(alone.json()) == [(hit.id, hit.score) for hit in search.query(PICTURE)]


def test_a_crop_is_a_part_of_the_picture(client: TestClient, search: ComposedSearch):
    pair = Image.new("RGB", (200, 80), "white")
    for left, color in ((0, "red"), (100, "blue")):
        part = Image.open(io.BytesIO(png(color, "circle", (100, 80))))
        pair.paste(part, (left, 0))
    buffer = io.BytesIO()
    pair.save(buffer, "PNG")
    crop = {"left": 0.5, "top": 0, "right": 1, "bottom": 1}
    answer = client.post(
        "/search",
        data={"query": json.dumps({"references": [{"file": "pair", "crop": crop}]})},
        files={"pair": ("pair.png", buffer.getvalue())},
    )
    half = np.asarray(pair)[:, 100:]
    expected = search.query(half)
    assert found(answer.json()) == [(hit.id, hit.score) for hit in expected]
    assert expected[0].id == id_of("blue", "circle")


def test_a_stored_image_can_be_cropped(client: TestClient, search: ComposedSearch):
    crop = {"left": 0.25, "top": 0.25, "right": 0.75, "bottom": 0.75}
    answer = search_by(client, references=[{"id": RED, "crop": crop}], text="in blue", limit=20)
    box = (0.25, 0.25, 0.75, 0.75)
    expected = search.query(Cropped(png("red", "circle"), box), "in blue", limit=20)
    assert RED not in [hit["id"] for hit in answer["hits"]]  # the reference is left out
    assert found(answer) == [(hit.id, hit.score) for hit in expected]


def test_all_refinements_reach_the_library(client: TestClient, search: ComposedSearch):
    asked: dict[str, Any] = {
        "text": "square",
        "group_by": "color",
        "group_size": 2,
        "offset": 1,
        "limit": 2,
        "cutoff": 0.1,
        "score_threshold": -1.0,
        "exclude_reference": False,
        "with_payload": ["price"],
        "exact": True,
        "composer": "sum",
        "text_weight": 0.3,
    }
    rated = {"like": [id_of("blue", "cross")], "dislike": [id_of("green", "circle")]}
    answer = search_by(client, references=[{"id": RED}], **asked, **rated)
    expected = search.query(RED, **asked, **rated)
    assert found(answer) == [(hit.id, hit.score) for hit in expected]
    assert [hit["group"] for hit in answer["hits"]] == [hit.group for hit in expected]
    assert all(hit["payload"].keys() == {"price"} for hit in answer["hits"])
    ordered = search_by(client, text="red", order_by="-price", cutoff=0.01, limit=20)
    prices = [hit["payload"]["price"] for hit in ordered["hits"]]
    assert prices == sorted(prices, reverse=True)
    with_vector = search_by(client, text="red", with_vectors=True, limit=1)["hits"][0]
    assert np.linalg.norm(with_vector["vector"]) == pytest.approx(1, abs=1e-4)


def test_an_explanation_comes_with_the_query(client: TestClient, search: ComposedSearch):
    answer = search_by(client, references=[{"id": RED}], text="in blue", explain=True)
    expected = search.query(RED, "in blue", explain=True).explanation
    explained = answer["query"]["explanation"]
    assert explained["prompt_in_words"] == expected.prompt_in_words
    assert explained["cosines"] == expected.cosines
    [[first, *_]] = explained["references"]
    assert first["words"][0]["word"] == expected.subject.words[0][0]


def test_a_batch_answers_each_query_as_alone(client: TestClient):
    queries = [
        {"references": [{"id": RED}], "text": "in blue"},
        {"text": "a green cross", "limit": 3},
        {"references": [{"base64": base64.b64encode(PICTURE).decode()}]},
    ]
    answer = client.post("/search/batch", json={"queries": queries})
    assert answer.status_code == 200
    for one, query in zip(answer.json()["answers"], queries):
        assert found(one) == found(search_by(client, **query))


def test_compose_gives_the_vector(client: TestClient, search: ComposedSearch):
    answer = client.post("/compose", json={"references": [{"id": RED}], "text": "in blue"}).json()
    expected = search.compose(RED, "in blue")
    assert np.allclose(answer["vector"], expected.vector, atol=1e-6)
    assert answer["composer"] == expected.composer
    assert answer["prompt"] == expected.prompt


def test_similar_images(client: TestClient, search: ComposedSearch):
    parameters = {"limit": 3, "offset": 1, "filter": '{"color": ["red", "blue"]}'}
    answer = client.get(f"/similar/{RED}", params=parameters)
    expected = search.query(RED, limit=3, offset=1, filter={"color": ["red", "blue"]})
    assert found(answer.json()) == [(hit.id, hit.score) for hit in expected]


def test_facets_count_what_passes_the_filter(client: TestClient):
    every = client.get("/facets/color").json()
    assert {one["value"]: one["count"] for one in every["facets"]} == dict.fromkeys(COLORS, 3)
    cheap = client.get("/facets/color", params={"filter": '{"price": {"lt": 30}}'}).json()
    assert cheap == {"field": "color", "facets": [{"value": "red", "count": 2}]}
    assert client.get("/facets/sale").json()["facets"][0]["value"] in (True, False)


def test_batches_and_stages_are_counted(client: TestClient):
    def figures() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        return {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        }

    before = figures()
    queries = [{"references": [{"base64": base64.b64encode(PICTURE).decode()}]}] * 5
    client.post("/search/batch", json={"queries": queries})
    names = {
        stage: f'fti_serve_stage_seconds_count{{stage="{stage}"}}'
        for stage in ("body", "read", "wait", "model", "store")
    }
    deadline, after = time.monotonic() + 10, figures()
    while any(after.get(name, 0) <= before.get(name, 0) for name in names.values()):
        assert time.monotonic() < deadline  # the model's thread counts after it has answered
        after = figures()
    assert after["fti_serve_batch_size_sum"] - before["fti_serve_batch_size_sum"] == 5
    assert after["fti_serve_queue"] == 0


def test_info_says_what_can_be_asked(client: TestClient, search: ComposedSearch):
    info = client.get("/info").json()
    assert info["images"] == len(COLORS) * len(SHAPES)
    composers = {one["name"]: one for one in info["composers"]}
    assert [one for one in composers if composers[one]["default"]] == ["pdv"]
    assert composers["sum"]["options"]["properties"]["text_weight"]["default"] == 0.45  # mini's own
    assert composers["fti"]["needs_inverter"]
    fields = {one["name"]: one for one in info["fields"]}
    assert fields.keys() == {"color", "shape", "price", "stock", "sale"}
    assert fields["price"] == {
        "name": "price",
        "types": ["float"],
        "index": "float",
        "facets": False,
    }
    assert fields["stock"]["facets"]
    assert not info["writes"]
    assert not info["urls"]


def test_scores_in_info_are_those_of_other_images(client: TestClient, search: ComposedSearch):
    """Against the cosines of all stored vectors, computed here."""
    info = client.get("/info").json()
    [scores] = [one["scores"] for one in info["composers"] if one["name"] == "image"]
    ids = [id for id, _ in search.gallery.scroll()]
    vectors = np.stack([one.vector for one in search.gallery.retrieve(ids)])
    cosines = [a @ b for at, a in enumerate(vectors[:8]) for i, b in enumerate(vectors) if i != at]
    assert scores["median"] == pytest.approx(np.median(cosines), abs=1e-3)
    assert scores["highest"] == pytest.approx(max(cosines), abs=1e-3)
