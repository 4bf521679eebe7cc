"""``/items``: the gallery after each write is what ingest would have made of it."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.run.items import ItemIngest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.errors import BadCollection
from fti_qdrant.gallery import point_id
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.gallery.points import OURS
from fti_qdrant.serve.app import create_app
from tests.serve.conftest import draw, png
from tests.serve.test_bad_requests import problem_of


class Shop:
    """A service that writes, its search, and the folder of its uploads."""

    def __init__(self, folder: Path):
        self.pictures, self.uploads = folder / "pictures", folder / "uploads"
        self.pictures.mkdir()
        draw("red", "circle").save(self.pictures / "red.png")
        draw("blue", "square").save(self.pictures / "blue.png")
        self.location = EmbeddedLocation(folder / "gallery")
        self.choice = ModelChoice("mini", device="cpu")
        ingest(IngestJob(str(self.pictures), self.location, self.choice, pseudo_words=True))
        self.search = ComposedSearch.open(folder / "gallery", device="cpu", allow_paths=False)
        writer = ItemIngest(self.search, self.uploads)
        self.client = TestClient(create_app(AsyncComposedSearch(self.search), writer=writer))

    def post(self, key: str, data: bytes, **payload: Any) -> Any:
        item = json.dumps({"key": key, "payload": payload})
        return self.client.post("/items", data={"item": item}, files={"image": ("a", data)})

    def stored(self, key: str) -> Any:
        return next(iter(self.search.gallery.retrieve([point_id(key)])), None)

    def files(self, key: str) -> list[str]:
        """What is kept of an image."""
        return sorted(path.name for path in self.uploads.glob(f"{point_id(key)}*"))


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all tests: each has keys of its own."""
    made = Shop(tmp_path_factory.mktemp("writable"))
    yield made
    made.search.close()


def test_an_image_that_is_added_is_found_and_shown(writable: Shop):
    data = png("green", "cross")
    answer = writable.post("new.png", data, color="green", price=3)
    assert answer.json() == {"id": point_id("new.png"), "outcome": "stored"}
    hits = writable.client.post("/search", files={"q": ("q.png", data)}).json()["hits"]
    assert point_id("new.png") not in [hit["id"] for hit in hits]  # it is the reference itself
    body = {"text": "a green cross", "filter": {"color": "green"}, "limit": 1}
    [hit] = writable.client.post("/search", json=body).json()["hits"]
    assert hit["id"] == point_id("new.png")
    assert hit["payload"] == {"color": "green", "price": 3}
    assert writable.client.get(hit["image"]).content == data
    assert writable.client.get(hit["thumbnail"]).status_code == 200


def test_it_is_stored_as_ingest_stores_it(writable: Shop, tmp_path: Path):
    """Vector, pseudo-words and facts of the same file, from the one and from the other."""
    data = (writable.pictures / "red.png").read_bytes()
    writable.post("copy.png", data, color="red")
    ours, theirs = writable.stored("copy.png"), writable.stored("red.png")
    assert np.allclose(ours.vector, theirs.vector, atol=1e-5)
    assert np.allclose(ours.words, theirs.words, atol=1e-2)
    facts, expected = ours.payload[OURS], theirs.payload[OURS]
    assert facts.keys() == expected.keys()
    assert {name: facts[name] for name in ("sha256", "width", "height", "r")} == {
        name: expected[name] for name in ("sha256", "width", "height", "r")
    }


def test_the_same_again_changes_nothing_and_a_new_payload_keeps_the_vector(writable: Shop):
    writable.post("same", png(), price=1)
    before = writable.stored("same")
    assert writable.post("same", png(), price=1).json()["outcome"] == "unchanged"
    assert writable.post("same", png(), price=2).json()["outcome"] == "updated"
    after = writable.stored("same")
    assert np.array_equal(before.vector, after.vector)
    assert after.payload["price"] == 2
    assert len(writable.files("same")) == 1


def test_another_picture_takes_the_place_of_the_first(writable: Shop):
    writable.post("other", png("red"), price=1)
    [first] = writable.files("other")
    assert writable.post("other", png("blue"), price=1).json()["outcome"] == "stored"
    [second] = writable.files("other")
    assert first != second
    assert writable.client.get(f"/images/{point_id('other')}").content == png("blue")


def test_ingest_knows_what_came_by_the_service(tmp_path: Path):
    """The same key is the same image; a run on the folder puts its own file back."""
    shop = Shop(tmp_path)
    shop.post("red.png", png("green"), price=5)
    shop.search.close()
    report = ingest(IngestJob(str(shop.pictures), shop.location, shop.choice))
    assert (report.stored, report.unchanged) == (1, 1)


BAD: dict[str, tuple[bytes, str]] = {
    "a text": (b"hello", "not an image"),
    "nothing": (b"", "0 bytes"),
    "half a picture": (png(size=(300, 300))[:200], "truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_leaves_what_was_there(writable: Shop, name: str):
    data, words = BAD[name]
    writable.post("good", png(), price=1)
    before, files = writable.stored("good"), writable.files("good")
    problem_of(writable.post("good", data, price=2), 422, words)
    problem_of(writable.post("bad", data), 422, words)
    assert writable.stored("good").payload == before.payload
    assert writable.files("good") == files
    assert writable.stored("bad") is None
    assert not writable.files("bad")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"_fti": {"uri": "/etc/passwd"}}, "reserved"),
        ({"a": 10**30}, "too large an integer"),
        ({"a": 1e999}, "is not JSON"),
    ],
)
def test_a_bad_payload_is_refused(writable: Shop, payload: dict[str, Any], words: str):
    text = json.dumps({"key": "payload", "payload": payload})
    answer = writable.client.post("/items", data={"item": text}, files={"image": ("a", png())})
    assert answer.status_code == 422
    assert words in answer.json()["detail"] or "not a number" in answer.json()["detail"]
    assert writable.stored("payload") is None


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a/../b", "\\\\x\\y", "a b%2f"])
def test_no_key_leads_out_of_the_folder(writable: Shop, key: str):
    def files() -> set[Path]:
        found = writable.uploads.parent.rglob("*")
        return {path for path in found if path.is_file() and "shard" not in path.parts}

    before = files()
    assert writable.post(key, png()).status_code == 200
    assert {path.parent for path in files() - before} == {writable.uploads}


def test_pictures_of_an_item(writable: Shop):
    text = base64.b64encode(png()).decode()
    assert writable.client.post("/items", json={"key": "a", "base64": text}).status_code == 200
    problem_of(writable.client.post("/items", json={"key": "a"}), 422, "has 0")
    item = json.dumps({"key": "a", "base64": text})
    both = writable.client.post("/items", data={"item": item}, files={"image": ("a", png())})
    problem_of(both, 422, "has 2")
    nameless = writable.client.post("/items", files={"image": ("a", png())})
    problem_of(nameless, 422, "key is missing")


def test_a_folder_that_cannot_be_written_stores_nothing(writable: Shop, tmp_path: Path):
    (tmp_path / "file").write_text("")
    writer = ItemIngest(writable.search, tmp_path / "file" / "uploads")
    service = TestClient(create_app(AsyncComposedSearch(writable.search), writer=writer))
    data = {"item": json.dumps({"key": "unkept"})}
    answer = service.post("/items", data=data, files={"image": ("a", png())})
    problem_of(answer, 503, "the folder of uploads cannot be written")
    assert answer.headers["retry-after"]
    assert str(tmp_path) not in answer.text
    assert writable.stored("unkept") is None


def test_images_of_another_program_are_its_own_to_write(writable: Shop):
    gallery = copy.copy(writable.search.gallery)
    layout = gallery.spec.layout.model_copy(update={"ours": False})
    gallery.spec = gallery.spec.model_copy(update={"layout": layout})
    adopted = ComposedSearch(writable.search.composer, gallery)
    with pytest.raises(BadCollection, match="add images with it, or with fti-ingest"):
        ItemIngest(adopted, writable.uploads)


def test_deleting(writable: Shop):
    writable.post("gone", png())
    id = point_id("gone")
    assert writable.client.delete(f"/items/{id}").json() == {"id": id}
    assert writable.stored("gone") is None
    assert writable.files("gone") == []
    problem_of(writable.client.delete(f"/items/{id}"), 404, id)
    assert writable.client.delete(f"/items/{point_id('blue.png')}").status_code == 200
    assert (writable.pictures / "blue.png").exists()  # a source's files are not ours to remove


def test_writing_is_off_by_default(client: TestClient):
    item = client.post("/items", files={"image": ("a", png())})
    problem_of(item, 403, "--allow-writes")
    problem_of(client.delete(f"/items/{point_id('a')}"), 403, "--allow-writes")
