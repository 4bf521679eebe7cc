"""Ingest into a server, end to end: the stand-in, or a real one where QDRANT_URL names it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np

from fti_qdrant.filters.grammar import as_filter
from fti_qdrant.gallery import ServerGallery, VectorQuery, connect, point_id
from tests.ingest.servers import KEY, Start, only_standin
from tests.ingest.sources_and_runs import ingest, write_csv, write_pictures


def payload_of(gallery: ServerGallery, key: str) -> dict[str, Any]:
    [stored] = gallery.retrieve([point_id(key)])
    return {name: value for name, value in stored.payload.items() if name != "_fti"}


def test_a_server_that_is_busy_at_first_gets_payloads_as_they_are(
    tmp_path: Path, start: Start
) -> None:
    """With a server that is busy at first, and fields by the names of the sink's own columns."""
    names = write_pictures(tmp_path, 70)
    rows = [
        {"image": name, "id": n, "vector": "v", "size": n if n % 2 else f"{n} XL", "gap": ""}
        for n, name in enumerate(names)
    ]
    write_csv(tmp_path / "shop.csv", [{**rows[0], "gap": "filled"}, *rows[1:]])
    (tmp_path / names[9]).write_bytes(b"")
    server = start("--api-key", str(KEY), "--busy", "4")
    options = {**server.environment}
    run = ingest("shop.csv", *server.arguments, cwd=tmp_path, **options)
    assert run.code == 0, run.err
    assert run.line == "70 images in: 69 stored, 0 unchanged, 1 rejected"
    assert "0 bytes" in (tmp_path / "rejects.jsonl").read_text()
    with server.open() as gallery:
        assert gallery.count() == 69
        assert gallery.spec.words is None
        assert gallery.spec.indexes["id"] == "integer"
        assert payload_of(gallery, names[0]) == {
            "id": 0,
            "vector": "v",
            "size": "0 XL",
            "gap": "filled",
        }
        assert payload_of(gallery, names[3]) == {"id": 3, "vector": "v", "size": "3"}
        [stored] = gallery.retrieve([point_id(names[5])])
        hits = gallery.search(VectorQuery(stored.vector, filter=as_filter({"id": {"lt": 9}})))
        assert hits[0].id == stored.id
        assert all(hit.payload["id"] < 9 for hit in hits)
        before = dict(gallery.scroll())
    again = ingest("shop.csv", *server.arguments, cwd=tmp_path, **options)
    assert again.line == "70 images in: 0 stored, 69 unchanged, 1 rejected", again.err
    with server.open() as gallery:
        assert dict(gallery.scroll()) == before

    write_csv(tmp_path / "shop.csv", [{**row, "vector": "w"} for row in rows[:8]])
    dearer = ingest("shop.csv", *server.arguments, "--dry-run", cwd=tmp_path, **options)
    assert "0 changed would be stored, 0 are unchanged" in dearer.out
    assert "0 would be rejected, 8 get a new payload only; 61 in the gallery are" in dearer.out
    dearer = ingest("shop.csv", *server.arguments, cwd=tmp_path, **options)
    assert dearer.line == (
        "8 images in: 0 stored, 0 unchanged, 0 rejected, 8 updated (payload only)"
    ), dearer.err
    with server.open() as gallery:
        assert gallery.count() == 69
        assert payload_of(gallery, names[3]) == {"id": 3, "vector": "w", "size": "3"}
        [again] = gallery.retrieve([point_id(names[5])])
        np.testing.assert_allclose(again.vector, stored.vector, atol=1e-6)


def test_pseudo_words(tmp_path: Path, start: Start) -> None:
    names = write_pictures(tmp_path / "photos", 6)
    server = start("--busy", "2")
    arguments = ["photos", *server.arguments, "--pseudo-words"]
    run = ingest(*arguments, cwd=tmp_path, **server.environment)
    assert run.line == "6 images in: 6 stored, 0 unchanged, 0 rejected", run.err
    with server.open() as gallery:
        [stored] = gallery.retrieve([point_id(names[2])])
        assert gallery.spec.words is not None
    assert stored.words is not None
    assert stored.words.shape == (1 + gallery.spec.words.topk, gallery.spec.words.token_dim)
    assert stored.words.any()
    assert 1 <= stored.payload["_fti"]["r"] <= gallery.spec.words.topk
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    arguments[0] = "elsewhere"
    moved = ingest(*arguments, cwd=tmp_path, **server.environment)
    assert moved.line.endswith("0 rejected, 6 updated (payload only)"), moved.err
    with server.open() as gallery:
        [there] = gallery.retrieve([point_id(names[2])])
    assert there.payload["_fti"]["uri"] == str(tmp_path / "elsewhere" / names[2])
    assert there.payload["_fti"]["r"] == stored.payload["_fti"]["r"]
    assert there.words is not None
    np.testing.assert_array_equal(there.words, stored.words)


@only_standin
def test_a_server_that_dies_in_mid_run(tmp_path: Path, start: Start) -> None:
    write_pictures(tmp_path / "photos", 300)
    server = start("--die-after", "2")
    (tmp_path / "report.json").write_text("of an earlier run")
    asked = ("photos", *server.arguments, "--patience", "2", "--log", "log.jsonl")
    run = ingest(*asked, cwd=tmp_path)
    assert run.code == 1
    assert not (tmp_path / "report.json").exists()
    *_, last = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    assert (last["message"], last["levelname"]) == ("failed", "ERROR")
    assert "the server does not answer" in last["error"]
    assert f"collection '{server.collection}' at {server.url}: the server does not answer" in (
        run.error
    )
    assert run.out == ""

    revived = start()
    with revived.open() as gallery:
        stored = gallery.count()
    assert 0 < stored < 300
    again = ingest("photos", *revived.arguments, cwd=tmp_path)
    assert again.line == f"300 images in: {300 - stored} stored, {stored} unchanged, 0 rejected"
    with revived.open() as gallery:
        assert gallery.count() == 300


@only_standin
def test_a_wrong_key_is_refused(tmp_path: Path, start: Start) -> None:
    write_pictures(tmp_path / "photos", 1)
    server = start("--api-key", "the-key")
    run = ingest("photos", *server.arguments, "--api-key", "another", cwd=tmp_path)
    assert run.code == 1
    assert "the server refused access (401); check the API key" in run.error


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    with socket.socket() as held:  # bound, and not listening: nobody else answers there
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        run = ingest("photos", "--url", url, "--collection", "c", cwd=tmp_path)
    assert run.code == 1
    assert f"server {url}: the server does not answer" in run.error


def test_a_collection_that_is_not_ours(tmp_path: Path, start: Start) -> None:
    from qdrant_client import models

    write_pictures(tmp_path / "photos", 1)
    server = start()
    client = connect(server.url, server.api_key)
    vectors = models.VectorParams(size=4, distance=models.Distance.COSINE)
    client.create_collection(server.collection, vectors_config=vectors)
    run = ingest("photos", *server.arguments, cwd=tmp_path, **server.environment)
    assert run.code == 1
    assert "was not made by fti-qdrant" in run.error
