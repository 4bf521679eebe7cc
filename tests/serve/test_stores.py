"""A Qdrant server under the service: what it answers, and what happens when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.gallery import GalleryPoint, ServerGallery
from fti_qdrant.gallery.server_connection import connect
from fti_qdrant.serve.app import create_app
from tests.qdrant_standin import Standin, handler_of
from tests.serve.conftest import id_of
from tests.serve.test_bad_requests import problem_of

RED = id_of("red", "circle")


class Server:
    """A stand-in that can be stopped."""

    def __init__(self, data: Path):
        self.standin = Standin(str(data))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self.standin))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def served(search: ComposedSearch, tmp_path: Path) -> Iterator[tuple[TestClient, Server]]:
    """The shop's images in a collection, with the same model."""
    server = Server(tmp_path)
    stored = search.gallery.retrieve([id for id, _ in search.gallery.scroll()])
    points = [GalleryPoint(one.id, one.vector, one.payload, one.words) for one in stored]
    with ExitStack() as opened:
        gallery = opened.enter_context(
            ServerGallery.create(connect(server.url), "shop", search.gallery.spec)
        )
        gallery.upsert(points)
        over = ComposedSearch(search.composer, gallery, allow_paths=False)
        client = opened.enter_context(TestClient(create_app(AsyncComposedSearch(over))))
        yield client, server
        server.standin.client.close()


def test_a_service_over_a_server_and_after_its_end(
    served: tuple[TestClient, Server], client: TestClient
):
    over_server, server = served
    body = {"references": [{"id": RED}], "text": "in blue", "limit": 3}
    hits = over_server.post("/search", json=body).json()["hits"]
    expected = client.post("/search", json=body).json()["hits"]
    assert [hit["id"] for hit in hits] == [hit["id"] for hit in expected]
    assert over_server.get("/ready").status_code == 200
    server.stop()
    for answer in (
        over_server.post("/search", json=body),
        over_server.get("/ready"),
        over_server.get(f"/images/{RED}/thumbnail"),
        over_server.get("/info"),
    ):
        problem_of(answer, 503, "the gallery: the server does not answer")
        assert int(answer.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in answer.text
    assert over_server.get("/health").status_code == 200
    # a bad query is refused by what it says, not by what the store does
    problem_of(over_server.post("/search", json={"limit": 0, "text": "x"}), 422, "limit")


def test_a_gallery_that_was_closed_is_not_ready(search: ComposedSearch, tmp_path: Path):
    server = Server(tmp_path)
    gallery = ServerGallery.create(connect(server.url), "shop", search.gallery.spec)
    over = ComposedSearch(search.composer, gallery)
    with TestClient(create_app(AsyncComposedSearch(over))) as client:
        empty = client.post("/search", json={"text": "red"})
        problem_of(empty, 422, "is empty")
        gallery.close()
        assert client.get("/ready").status_code == 503
        assert client.post("/search", json={"text": "red"}).status_code == 503
    server.stop()
    server.standin.client.close()
