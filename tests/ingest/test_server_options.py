"""Collections made for much: bulk loads, quantization, TLS, patience, and a road that is bad."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from fti_ingest.cli.main import main
from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery import connect, point_id
from fti_qdrant.gallery.collection_config import CollectionConfig
from tests.ingest.servers import BadRoad, Start, only_standin
from tests.ingest.sources_and_runs import ingest, start_ingest, write_csv, write_pictures
from tests.qdrant_grpc_standin import serving


def status(*arguments: str, **environment: str) -> str:
    done = CliRunner().invoke(main, ["status", *arguments], env=environment)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_a_collection_is_made_as_asked_and_loaded_in_bulk(tmp_path: Path, start: Start) -> None:
    names = write_pictures(tmp_path, 5)
    rows = [{"image": name, "brand": "A", "price": n, "code": n} for n, name in enumerate(names)]
    write_csv(tmp_path / "shop.csv", rows)
    server = start()
    asked = ("--quantization", "scalar", "--on-disk", "--shards", "2", "--replicas", "1")
    run = ingest(
        *("shop.csv", *server.arguments, "--bulk", *asked, "--index", "brand:keyword,price:float"),
        cwd=tmp_path,
        **server.environment,
    )
    assert run.code == 0, run.err
    assert run.line == "5 images in: 5 stored, 0 unchanged, 0 rejected"
    with server.open() as gallery:
        assert gallery.storage() == CollectionConfig("scalar", True, 2, 1)
        assert gallery.spec.indexes == {"brand": "keyword", "price": "float"}
        assert not gallery.state().bulk
        info = gallery.client.get_collection(server.collection)
        assert info.config.hnsw_config.m == 16

    other = ingest(
        *("shop.csv", *server.arguments, "--quantization", "binary"),
        cwd=tmp_path,
        **server.environment,
    )
    assert other.code == 2
    assert "was made with quantization scalar, not binary" in other.error
    other = ingest(
        *("shop.csv", *server.arguments, "--index", "code:integer"),
        cwd=tmp_path,
        **server.environment,
    )
    assert other.code == 2
    assert "has no index on 'code', not integer" in other.error


@only_standin
def test_a_bulk_load_that_was_cut_short_is_ended_by_the_next_run(
    tmp_path: Path, start: Start
) -> None:
    write_pictures(tmp_path / "photos", 200)
    server = start("--die-after", "1")
    cut = ingest(*("photos", *server.arguments, "--bulk", "--patience", "1"), cwd=tmp_path)
    assert cut.code == 1
    revived = start()
    with revived.open() as gallery:
        assert gallery.state().bulk
        assert 0 < gallery.count() < 200
    assert "bulk load:" in status(*revived.arguments)
    done = ingest("photos", *revived.arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    with revived.open() as gallery:
        assert not gallery.state().bulk
        assert gallery.count() == 200
    assert "bulk load:" not in status(*revived.arguments)


@pytest.mark.parametrize("option", ["--bulk", "--on-disk", "--shards=2", "--quantization=scalar"])
def test_an_embedded_gallery_has_no_such_options(tmp_path: Path, option: str) -> None:
    write_pictures(tmp_path / "photos", 1)
    run = ingest("photos", "--gallery", "g", option, cwd=tmp_path)
    assert run.code == 2
    assert "need a server (--url)" in run.err


@pytest.mark.parametrize("wrong", ["brand", "brand:text", ":keyword"])
def test_an_index_that_is_none(tmp_path: Path, wrong: str) -> None:
    write_pictures(tmp_path / "photos", 1)
    run = ingest("photos", "--gallery", "g", "--index", wrong, cwd=tmp_path)
    assert run.code == 2
    assert "is not FIELD:TYPE with a type of keyword, integer" in run.err


@only_standin
def test_the_server_is_away_for_a_while(tmp_path: Path, start: Start) -> None:
    """It dies in the middle of the run and comes back on the same port some seconds later."""
    write_pictures(tmp_path / "photos", 300)
    server = start("--die-after", "2")
    port = server.url.rpartition(":")[2]
    process = start_ingest(
        *("photos", *server.arguments, "--patience", "120", "--log", "log.jsonl"),
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while _answers(server.url):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(3)
    start("--port", port)
    out, err = process.communicate(timeout=200)
    told = [json.loads(line)["message"] for line in (tmp_path / "log.jsonl").open()]
    assert any("trying again in" in message for message in told), told
    assert process.returncode == 0, err
    assert out.startswith("300 images in: 300 stored, 0 unchanged, 0 rejected")
    with server.open() as gallery:
        assert gallery.count() == 300


def _answers(url: str) -> bool:
    try:
        connect(url).close()
    except GalleryUnavailable:
        return False
    return True


@only_standin
@pytest.mark.parametrize(
    ("engine", "words"),
    [("local", True), *(pytest.param("ray", one, marks=pytest.mark.soak) for one in (False, True))],
)
def test_a_road_that_drops_delays_and_cuts(
    tmp_path: Path, start: Start, engine: str, words: bool
) -> None:
    names = write_pictures(tmp_path / "photos", 150)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    server = start()
    road = BadRoad(server.url, fair=2)
    arguments = ("--url", road.url, "--collection", server.collection, "--patience", "120")
    extra = ("--engine", engine, *(("--pseudo-words",) if words else ()))
    try:
        run = ingest("photos", *arguments, *extra, cwd=tmp_path)
    finally:
        road.close()
    assert run.code == 0, run.err
    assert run.line == "151 images in: 150 stored, 0 unchanged, 1 rejected"
    assert sum(road.harmed.values()) > 0
    with server.open() as gallery:
        assert {id for id, _ in gallery.scroll()} == {point_id(name) for name in names}
    straight = ingest("photos", *server.arguments, *extra, cwd=tmp_path)
    assert straight.line == "151 images in: 0 stored, 150 unchanged, 1 rejected"


@only_standin
def test_tls_by_an_authority_of_ones_own(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    server = start("--certificate", str(tmp_path / "server.pem"))
    assert server.url.startswith("https://")
    with pytest.raises(GalleryUnavailable, match=r"(?i)certificate.*verify"):
        connect(server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    connect(server.url).close()


@only_standin
def test_data_travels_by_grpc(tmp_path: Path) -> None:
    """All of a run: a server that is busy at first, pseudo-words, resume, prune, and a wrong key.

    There is no HTTP server at the address.
    """
    names = write_pictures(tmp_path, 5)
    rows = [{"image": name, "brand": "A", "price": n} for n, name in enumerate(names)]
    write_csv(tmp_path / "shop.csv", rows)
    place = ("--url", "http://127.0.0.1:9", "--collection", "c", "--grpc")
    asked = ("shop.csv", *place, "--bulk", "--on-disk", "--pseudo-words", "--patience", "20")
    key = {"QDRANT_API_KEY": "the-key"}
    with serving(tmp_path / "server", api_key="the-key", busy=2) as port:
        environment = {"QDRANT_GRPC_PORT": str(port)}
        run = ingest(*asked, cwd=tmp_path, **environment, **key)
        assert run.line == "5 images in: 5 stored, 0 unchanged, 0 rejected", run.err
        told = json.loads(status(*place, "--json", **environment, **key))
        assert (told["points"], told["bulk"]) == (5, False)
        assert told["spec"]["indexes"] == {"brand": "keyword", "price": "integer"}
        write_csv(tmp_path / "shop.csv", rows[1:])
        again = ingest(
            *asked, "--prune", "--prune-at-most", "0.2", cwd=tmp_path, **environment, **key
        )
        assert again.line == "4 images in: 0 stored, 4 unchanged, 0 rejected, 1 pruned", again.err
        with pytest.raises(GalleryUnavailable, match="refused access; check the API key"):
            connect("http://127.0.0.1:9", "another", grpc_port=port)


def test_grpc_to_nobody_is_one_line() -> None:
    with pytest.raises(GalleryUnavailable, match="the server answered UNAVAILABLE"):
        connect("http://127.0.0.1:9", grpc_port=9)
