"""References at URLs: fetched side by side, a few at a time, within limits, and given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.errors import BadImage
from fti_qdrant.images import ImageLimits
from fti_qdrant.serve import url_pictures
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.conftest import png
from tests.serve.test_bad_requests import problem_of

MAX_BODY = 100_000


class Web:
    """The pictures of the Internet, and how they were asked for."""

    def __init__(self) -> None:
        self.pictures = {f"http://a.example/{color}": png(color) for color in ("red", "blue")}
        self.asked: list[str] = []
        self.now = self.most = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def read_bytes(
        self, url: str, *, allow_urls: bool, allow_paths: bool, limits: ImageLimits
    ) -> tuple[bytes, str]:
        assert allow_urls
        assert not allow_paths
        assert limits.max_bytes <= MAX_BODY
        with self._lock:
            self.asked.append(url)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        if url not in self.pictures:
            raise BadImage(f"{url!r}: the server answered 404")
        return self.pictures[url], url


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    made = Web()
    monkeypatch.setattr(url_pictures, "read_bytes", made.read_bytes)
    return made


@pytest.fixture(scope="module")
def client(search: ComposedSearch) -> Iterator[TestClient]:
    opened = ComposedSearch(search.composer, search.gallery, allow_urls=True, allow_paths=False)
    app = create_app(AsyncComposedSearch(opened), ServeSettings(max_body=MAX_BODY))
    with TestClient(app) as made:
        yield made


def of(*urls: str, **query: object) -> dict[str, object]:
    return {"references": [{"url": url} for url in urls], **query}


RED, BLUE = "http://a.example/red", "http://a.example/blue"


def test_the_pictures_are_the_references(client: TestClient, web: Web, search: ComposedSearch):
    hits = client.post("/search", json=of(RED, BLUE, RED, text="small")).json()["hits"]
    expected = search.query([png("red"), png("blue"), png("red")], "small")
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert sorted(web.asked) == [BLUE, RED]  # each once
    vector = client.post("/compose", json=of(BLUE)).json()["vector"]
    assert vector == pytest.approx(search.compose(png("blue")).vector.tolist(), abs=1e-5)


def test_they_are_fetched_side_by_side_and_a_few_at_a_time(client: TestClient, web: Web):
    web.seconds = 0.1
    for number in range(16):
        web.pictures[f"http://a.example/{number}"] = png("green")
    began = time.monotonic()
    answer = client.post("/search", json=of(*(f"http://a.example/{n}" for n in range(16))))
    assert answer.status_code == 200
    assert web.most == url_pictures.FETCHED_AT_ONCE
    assert time.monotonic() - began < 16 * web.seconds


def test_what_a_request_may_not_ask_for(client: TestClient, web: Web):
    problem_of(client.post("/search", json=of(RED, "http://a.example/none")), 422, "answered 404")
    web.pictures = {RED: b"x" * 60_000, BLUE: b"x" * 60_000}
    problem_of(client.post("/search", json=of(RED, BLUE)), 422, "limit of 100,000 bytes")
    web.asked.clear()
    queries = [of(*(f"http://a.example/{n}{m}" for n in range(9))) for m in range(2)]
    many = client.post("/search/batch", json={"queries": queries})
    problem_of(many, 422, "18 pictures at URLs")
    assert web.asked == []


def test_they_take_room_only_while_they_are_used(client: TestClient, web: Web):
    """More requests one after the other than there is room for at one time."""
    web.pictures[RED] = png("red") + b"\0" * 90_000  # readers do not look behind a picture's end
    for _ in range(20):
        assert client.post("/search", json=of(RED, limit=1)).status_code == 200
        client.post("/search", json=of(RED, text="x", composer="no such"))
