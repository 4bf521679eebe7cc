"""Two runs that make one gallery at the same moment, and a server that is away at the start."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fti_ingest.run.target_gallery import created_gallery
from fti_qdrant.errors import BadManifest, GalleryExists, GalleryUnavailable, ModelMismatch
from fti_qdrant.gallery import EdgeGallery, GallerySpec, ServerGallery, WordsSpec, connect
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation, ServerLocation
from fti_qdrant.model.fingerprint import Fingerprint
from tests.ingest.sources_and_runs import ingest, write_pictures
from tests.qdrant_standin import Refused, Standin, handler_of, serving_standin

SPEC = GallerySpec(
    fingerprint=Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", 8),
    indexes={"brand": "keyword"},
)
WORDS = WordsSpec(inverter="fedcba9876543210", topk=3, token_dim=6)


class Racing(Standin):
    """Another run creates the collection after this one has looked."""

    looks, status = 0, 409

    def exists(self, name: str, body: dict[str, Any]) -> Any:
        if self.looks > 0:
            self.looks -= 1
            return {"exists": False}
        return super().exists(name, body)

    def create(self, name: str, body: dict[str, Any]) -> Any:
        try:
            return super().create(name, body)
        except Refused as refused:
            raise Refused(self.status, str(refused)) from None


class Lossy(Standin):
    """Creates a collection, and does not say so."""

    def create(self, name: str, body: dict[str, Any]) -> Any:
        super().create(name, body)
        raise Refused(503, "Service temporarily unavailable")


@pytest.fixture(params=["409 rest", "400 rest", "409 grpc", "400 grpc", "folder"])
def race(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Makes the other run's gallery; returns the location, where this run has seen none yet."""
    if request.param == "folder":

        def embedded(spec: GallerySpec, storage: CollectionConfig | None = None) -> GalleryLocation:
            EdgeGallery.create(tmp_path / "g", spec).close()
            return EmbeddedLocation(tmp_path / "g")

        yield embedded
        return
    standin = Racing(str(tmp_path))
    standin.status = int(request.param[:3])
    grpc = request.param.endswith("grpc")
    with serving_standin(standin, grpc) as port:
        location = ServerLocation("http://127.0.0.1:1" if grpc else f"http://127.0.0.1:{port}", "c")
        location = replace(location, grpc_port=port if grpc else None)

        def served(spec: GallerySpec, storage: CollectionConfig | None = None) -> GalleryLocation:
            location.create(spec, storage).close()
            standin.looks = 1
            return location

        yield served


def test_the_second_opens_what_the_first_has_made(race: Any) -> None:
    location = race(SPEC)
    with pytest.raises(GalleryExists, match=r"exists already|is a gallery already"):
        location.create(SPEC)
    with created_gallery(location, SPEC, CollectionConfig()) as gallery:
        assert gallery.spec == SPEC
        assert gallery.count() == 0


def test_it_opens_nothing_that_it_would_not_have_made(race: Any) -> None:
    other = SPEC.model_copy(
        update={"fingerprint": replace(SPEC.fingerprint, weights="fedcba9876543210")}
    )
    location = race(other)
    with pytest.raises(ModelMismatch, match="was made with"):
        created_gallery(location, SPEC, CollectionConfig()).__enter__()
    with location.open() as gallery:
        assert gallery.spec == other, "and it is closed and as it was"


def test_nor_with_other_words_or_indexes(race: Any) -> None:
    location = race(SPEC)
    with_words = SPEC.model_copy(update={"words": WORDS})
    with pytest.raises(ModelMismatch, match="without pseudo-words"):
        created_gallery(location, with_words, CollectionConfig()).__enter__()
    more = SPEC.model_copy(update={"indexes": {"brand": "keyword", "price": "float"}})
    with pytest.raises(BadManifest, match="has no index on 'price'"):
        created_gallery(location, more, CollectionConfig()).__enter__()


def test_nor_stored_in_another_way(tmp_path: Path) -> None:
    standin = Racing(str(tmp_path))
    with serving_standin(standin) as port:
        location = ServerLocation(f"http://127.0.0.1:{port}", "c")
        location.create(SPEC, CollectionConfig("scalar")).close()
        standin.looks = 1
        with pytest.raises(BadManifest, match="was made with quantization scalar, not turbo2"):
            created_gallery(location, SPEC, CollectionConfig("turbo2")).__enter__()


def test_an_own_creation_whose_answer_was_lost_is_no_race(tmp_path: Path) -> None:
    standin = Lossy(str(tmp_path))
    with serving_standin(standin) as port:
        client = connect(f"http://127.0.0.1:{port}")
        with ServerGallery.create(client, "c", SPEC) as gallery:
            assert gallery.count() == 0
        assert standin.asked.count("PUT /collections/c") == 2


@contextmanager
def late_server(data: Path, seconds: float) -> Iterator[int]:
    """A stand-in that begins to listen so many seconds from now; yields its port at once."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    standin = Standin(str(data))
    started: list[ThreadingHTTPServer] = []

    def start() -> None:
        started.append(ThreadingHTTPServer(("127.0.0.1", port), handler_of(standin)))
        started[0].serve_forever(poll_interval=0.02)

    timer = threading.Timer(seconds, start)
    timer.daemon = True
    timer.start()
    try:
        yield port
    finally:
        timer.cancel()
        for one in started:
            one.shutdown()
            one.server_close()
        standin.client.close()


def test_patience_covers_a_server_that_is_away_at_the_start(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 2)
    with late_server(tmp_path / "server", 1.0) as port:
        place = ("--url", f"http://127.0.0.1:{port}", "--collection", "c")
        run = ingest("photos", *place, "--patience", "60", cwd=tmp_path)
    assert run.code == 0, run.err
    assert run.line == "2 images in: 2 stored, 0 unchanged, 0 rejected"
    assert "the Qdrant server failed" in run.err
    assert "trying again in" in run.err


@pytest.mark.parametrize("patience", [(), ("--patience", "0"), ("--patience", "0.5")])
def test_without_it_a_mistyped_address_is_told_soon(
    tmp_path: Path, patience: tuple[str, ...]
) -> None:
    write_pictures(tmp_path / "photos", 1)
    began = time.monotonic()
    run = ingest(
        "photos", "--url", "http://127.0.0.1:9", "--collection", "c", *patience, cwd=tmp_path
    )
    assert run.code == 1
    assert "http://127.0.0.1:9: the server does not answer" in run.err
    assert time.monotonic() - began < 8


def test_a_location_of_a_program_does_not_wait(tmp_path: Path) -> None:
    location = ServerLocation("http://127.0.0.1:9", "c", patience=300)
    with pytest.raises(GalleryUnavailable, match="does not answer"):
        location.open()
