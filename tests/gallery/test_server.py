"""Servers that are away, refuse, are busy or are not ours: a real HTTP server on the loopback.

It answers as Qdrant does, from a list of answers that a test lays down.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tenacity.nap

from fti_qdrant.errors import FtiError, GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery import (
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    VectorQuery,
    connect,
    point_id,
)
from fti_qdrant.gallery.server_errors import ATTEMPTS

Answer = tuple[int, dict[str, str], bytes]
KEY = "right key"
DATE = "Fri, 31 Dec 2027 23:59:59 GMT"


def answer(result: Any) -> Answer:
    return 200, {}, json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()


def refusal(status: int, reason: str = "no", **headers: str) -> Answer:
    body = json.dumps({"status": {"error": reason}, "time": 0.0}).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def collection_info(metadata: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": 0,
        "segments_count": 1,
        "payload_schema": {},
        "config": {
            "params": {"vectors": {"image": {"size": 8, "distance": "Cosine"}}},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "metadata": metadata,
        },
    }


class Qdrant(ThreadingHTTPServer):
    """Holds collections; ``script`` says what comes instead of its next answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.collections: dict[str, dict[str, Any] | None] = {}
        self.script: list[Answer] = []
        self.key: str | None = None
        self.requests: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer_to(self, request: str, key: str | None) -> Answer:
        if self.key is not None and key != self.key:
            return refusal(401 if key is None else 403, "Invalid API key or JWT")
        if self.script:
            return self.script.pop(0)
        _, path = request.split()
        parts = path.split("?")[0].strip("/").split("/")
        if parts == [""]:
            return 200, {}, json.dumps({"title": "qdrant", "version": "1.18.3"}).encode()
        if parts == ["aliases"]:
            return answer({"aliases": []})
        if parts == ["collections"]:
            return answer({"collections": [{"name": name} for name in self.collections]})
        name = parts[1]
        if parts[2:] == ["exists"]:
            return answer({"exists": name in self.collections})
        if name not in self.collections:
            return refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        if parts[2:] == ["points", "count"]:
            return answer({"count": 3})
        if parts[2:] == ["points"]:
            return answer({"operation_id": 1, "status": "completed"})
        return answer(collection_info(self.collections[name]))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Qdrant

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {self.path}"
        self.server.requests.append((request, json.loads(body) if body else None))
        status, headers, content = self.server.answer_to(request, self.headers.get("api-key"))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def qdrant(spec: GallerySpec) -> Iterator[Qdrant]:
    server = Qdrant()
    server.collections["shop"] = {"fti_qdrant": spec.model_dump(mode="json")}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def gallery(qdrant: Qdrant) -> Iterator[ServerGallery]:
    with ServerGallery.open(connect(qdrant.url), "shop") as opened:
        yield opened


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)


@pytest.fixture
def point() -> GalleryPoint:
    return GalleryPoint(point_id("1.jpg"), np.ones(8, np.float32), {"brand": "Acme"})


def closed_port() -> int:
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return int(once.getsockname()[1])


def test_open(gallery: ServerGallery, qdrant: Qdrant, spec: GallerySpec) -> None:
    assert gallery.spec == spec
    assert gallery.count() == 3
    assert gallery.name == f"collection 'shop' at {qdrant.url}"
    assert gallery.address == f"{qdrant.url}/collections/shop"


def test_no_server() -> None:
    with pytest.raises(GalleryUnavailable, match=r"does not answer.*is it running"):
        connect(f"http://127.0.0.1:{closed_port()}")


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://a", "", "http://[::1", "http://a:b:c"])
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(GalleryUnavailable) as caught:
        connect(url)
    assert url in str(caught.value)


def test_server_that_does_not_answer_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(GalleryUnavailable, match="does not answer"):
            connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("wrong key", 403)])
def test_refused_access(qdrant: Qdrant, key: str | None, status: int) -> None:
    qdrant.key = KEY
    with pytest.raises(GalleryUnavailable, match=rf"refused access \({status}\); check the API"):
        connect(qdrant.url, key)


def test_the_key_comes_from_the_argument_or_the_environment(
    qdrant: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    qdrant.key = KEY
    assert ServerGallery.open(connect(qdrant.url, KEY), "shop").count() == 3
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    assert ServerGallery.open(connect(qdrant.url), "shop").count() == 3


def test_no_such_collection(qdrant: Qdrant) -> None:
    with pytest.raises(GalleryNotFound, match=r"'shoes'.*the server has: shop.*fti-ingest"):
        ServerGallery.open(connect(qdrant.url), "shoes")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "was not made by fti-qdrant"),
        ({"other": 1}, "was not made by fti-qdrant"),
        ({"fti_qdrant": {"format": 1}}, "does not describe"),
        ({"fti_qdrant": "text"}, "does not describe"),
    ],
)
def test_a_collection_that_is_not_ours(qdrant: Qdrant, metadata: Any, reason: str) -> None:
    qdrant.collections["theirs"] = metadata
    with pytest.raises(GalleryUnavailable, match=f"'theirs' at .*{reason}"):
        ServerGallery.open(connect(qdrant.url), "theirs")


def test_collection_removed_while_open(gallery: ServerGallery, qdrant: Qdrant) -> None:
    del qdrant.collections["shop"]
    with pytest.raises(GalleryNotFound, match=r"'shop' at .* does not exist"):
        gallery.count()


@pytest.mark.parametrize("body", [b"<html>a login page</html>", b"{}", b'{"result": "soon"}'])
def test_another_server_at_the_address(gallery: ServerGallery, qdrant: Qdrant, body: bytes) -> None:
    qdrant.script = [(200, {}, body)]
    with pytest.raises(GalleryUnavailable, match=r"not one of Qdrant's") as caught:
        gallery.count()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda gallery: gallery.count(),
        lambda gallery: gallery.search(VectorQuery(np.ones(8))),
        lambda gallery: gallery.retrieve([point_id("a")]),
        lambda gallery: list(gallery.scroll()),
        lambda gallery: gallery.has_field("brand"),
        lambda gallery: gallery.delete([point_id("a")]),
    ],
)
@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (refusal(500, "disk full"), "answered 500.*disk full"),
        (refusal(429, "slow", Retry_After="7"), "try again in 7 s"),
        (refusal(429, "slow", Retry_After=DATE), f"slow down.*{DATE}"),
        (refusal(429, "slow"), "slow down.*429: slow"),
        (refusal(413, "over 33554432 bytes"), "larger than the server takes.*max_request_size_mb"),
    ],
)
def test_failures_become_one_clear_error(
    gallery: ServerGallery,
    qdrant: Qdrant,
    call: Callable[[ServerGallery], Any],
    refused: Answer,
    reason: str,
) -> None:
    qdrant.script = [refused]
    with pytest.raises(GalleryUnavailable, match=rf"(?s)'shop' at {qdrant.url}.*{reason}"):
        call(gallery)


@pytest.mark.parametrize(
    "refused",
    [
        refusal(500),
        refusal(503),
        refusal(429),
        refusal(429, Retry_After=DATE),
        refusal(504),
    ],
)
def test_upsert_tries_again(
    gallery: ServerGallery,
    qdrant: Qdrant,
    pauses: list[float],
    point: GalleryPoint,
    refused: Answer,
) -> None:
    qdrant.script = [refused] * (ATTEMPTS - 1)
    gallery.upsert([point])
    assert len(pauses) == ATTEMPTS - 1
    assert 0 < max(pauses) <= 10
    sent = [body for request, body in qdrant.requests if request.startswith("PUT")]
    assert len(sent) == ATTEMPTS
    assert sent[-1]["points"][0]["id"] == point.id


def test_upsert_waits_as_long_as_the_server_asks(
    gallery: ServerGallery, qdrant: Qdrant, pauses: list[float], point: GalleryPoint
) -> None:
    qdrant.script = [refusal(429, Retry_After="7"), refusal(429, Retry_After="3")]
    gallery.upsert([point])
    assert pauses == [7, 3]


def test_upsert_does_not_wait_for_an_hour(
    gallery: ServerGallery, qdrant: Qdrant, pauses: list[float], point: GalleryPoint
) -> None:
    qdrant.script = [refusal(429, Retry_After="3600")]
    with pytest.raises(GalleryUnavailable, match="3600 s"):
        gallery.upsert([point])
    assert pauses == []


def test_upsert_gives_up(
    gallery: ServerGallery, qdrant: Qdrant, pauses: list[float], point: GalleryPoint
) -> None:
    qdrant.script = [refusal(503, "overloaded")] * 99
    with pytest.raises(GalleryUnavailable, match=r"503.*overloaded"):
        gallery.upsert([point])
    assert len(qdrant.script) == 99 - ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1
    for number, pause in enumerate(pauses):  # doubled each time, and up to a second of jitter
        assert 0.2 * 2**number <= pause <= 0.2 * 2**number + 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_upsert_does_not_repeat_what_cannot_succeed(
    gallery: ServerGallery,
    qdrant: Qdrant,
    pauses: list[float],
    point: GalleryPoint,
    status: int,
) -> None:
    qdrant.script = [refusal(status)] * 9
    with pytest.raises(FtiError, match="shop"):
        gallery.upsert([point])
    assert (len(qdrant.script), pauses) == (8, [])


def test_create_makes_the_indexes_before_any_point(qdrant: Qdrant, spec: GallerySpec) -> None:
    client = connect(qdrant.url)
    qdrant.requests.clear()
    done = answer({"operation_id": 1, "status": "completed"})
    qdrant.script = [answer({"exists": False}), answer(True), *[done] * 20]
    ServerGallery.create(client, "new", spec)
    (_, made), *indexes = [
        (request, body) for request, body in qdrant.requests if request.startswith("PUT")
    ]
    assert made["metadata"] == {"fti_qdrant": spec.model_dump(mode="json")}
    assert made["vectors"]["image"] == {"size": 8, "distance": "Cosine"}
    assert {body["field_name"]: body["field_schema"] for _, body in indexes} == {
        **spec.indexes,
        "_fti.sha256": "keyword",
    }
    assert all("wait=true" in request for request, _ in indexes)


def test_create_what_exists(qdrant: Qdrant, spec: GallerySpec) -> None:
    with pytest.raises(GalleryUnavailable, match=r"'shop' at .* exists already"):
        ServerGallery.create(connect(qdrant.url), "shop", spec)
    assert not [request for request, _ in qdrant.requests if request.startswith("PUT")]
