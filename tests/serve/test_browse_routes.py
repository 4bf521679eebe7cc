"""``/items``: images of the gallery as they are stored."""

from __future__ import annotations

from starlette.testclient import TestClient

from fti_qdrant import ComposedSearch
from fti_qdrant.gallery.points import OURS
from tests.serve.conftest import id_of
from tests.serve.test_bad_requests import problem_of


def test_items_are_the_first_images_by_id(client: TestClient, search: ComposedSearch):
    stored = [(id, payload) for id, payload in search.gallery.scroll()]
    for limit in (1, 5, 100):
        items = client.get("/items", params={"limit": limit}).json()["items"]
        assert [one["id"] for one in items] == [id for id, _ in stored[:limit]]
        own = [{k: v for k, v in payload.items() if k != OURS} for _, payload in stored[:limit]]
        assert [one["payload"] for one in items] == own


def test_an_item_is_what_a_hit_says_of_it(client: TestClient):
    id = id_of("blue", "cross")
    item = client.get(f"/items/{id}").json()
    assert item["uri"] == "blue-cross.png"  # and no folder of this machine
    assert item["payload"]["color"] == "blue"
    query = {"references": [{"id": id}], "exclude_reference": False, "composer": "image"}
    hit = client.post("/search", json=query).json()["hits"][0]
    assert item == {name: hit[name] for name in item}
    assert client.get("/" + item["thumbnail"]).headers["content-type"] == "image/webp"


def test_an_unknown_item_is_not_found(client: TestClient):
    unknown = "00000000-0000-0000-0000-000000000000"
    problem_of(client.get(f"/items/{unknown}"), 404, unknown)
    problem_of(client.get("/items/dress.jpg"), 422, "id")
    for limit in (0, 101, "many"):
        problem_of(client.get("/items", params={"limit": limit}), 422, "limit")


def test_the_gallery_has_a_name(client: TestClient):
    assert client.get("/info").json()["gallery"] == "gallery"
