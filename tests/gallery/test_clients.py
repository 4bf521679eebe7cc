"""Which client is used for what a user gives, with which options, and who closes it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
from click.testing import CliRunner
from qdrant_client import AsyncQdrantClient, QdrantClient

from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery import EdgeGallery, GallerySpec, ServerGallery, connect
from fti_qdrant.gallery.client_options import ClientOptions
from fti_qdrant.gallery.clients import (
    asynchronous_twin,
    choose_client,
    is_local,
    open_collection,
)
from fti_qdrant.gallery.location import GalleryLocation, ServerLocation
from fti_qdrant.gallery.server_connection import url_of


class Recorder(ThreadingHTTPServer):
    """Answers that it has no collections, and keeps the requests' paths and headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers))
        body = json.dumps({"result": {"collections": []}, "status": "ok", "time": 0.0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)


def is_open(client: QdrantClient) -> bool:
    try:
        client.get_collections()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("/behind/a/proxy", {}),
        ("/behind/a/proxy/", {}),
        ("", {"prefix": "behind/a/proxy"}),
        ("", {"prefix": "/behind/a/proxy"}),
        ("/", {"prefix": "behind/a/proxy"}),
    ],
)
def test_prefix_headers_and_key_reach_the_server(
    recorder: Recorder, address: str, options: dict[str, Any]
) -> None:
    url = f"http://127.0.0.1:{recorder.server_port}{address}"
    chosen = ClientOptions.of(headers={"X-Team": "search", "x-trace": "a:b"}, **options)
    made = choose_client(url, api_key="secret", options=chosen)
    made.close()
    path, headers = recorder.seen[0]
    assert path == "/behind/a/proxy/collections"
    assert headers["x-team"] == "search"
    assert headers["x-trace"] == "a:b"
    assert headers["api-key"] == "secret"


def test_tls_by_an_authority_of_ones_own(recorder: Recorder, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    recorder.socket = context.wrap_socket(recorder.socket, server_side=True)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"https://127.0.0.1:{recorder.server_port}"
    with pytest.raises(GalleryUnavailable, match=r"does not answer.*certificate"):
        connect(url)
    made = choose_client(url, options=ClientOptions.of(ca_file=tmp_path / "ca.pem"))
    assert made.ours
    assert recorder.seen[0][0] == "/collections"
    made.close()


def test_a_client_of_the_user_stays_open_and_ours_does_not(spec: GallerySpec) -> None:
    theirs = QdrantClient(":memory:")
    ServerGallery.create(theirs, "shop", spec).owns_client = False
    gallery = open_collection(theirs, "shop")
    assert gallery.count() == 0
    gallery.close()
    assert is_open(theirs)
    with pytest.raises(GalleryUnavailable, match="is closed"):
        gallery.count()
    made = choose_client(":memory:")
    assert made.ours
    made.close()
    assert not is_open(made.client)


def test_where_there_is_no_collection_our_client_is_closed(
    spec: GallerySpec, tmp_path: Path
) -> None:
    ServerGallery.create(QdrantClient(path=str(tmp_path / "db")), "shop", spec).close()
    with pytest.raises(GalleryNotFound, match=r"'shoes'.*the server has: shop"):
        open_collection(tmp_path / "db", "shoes")
    gallery = open_collection(tmp_path / "db", "shop")  # the folder's lock was released
    with pytest.raises(GalleryUnavailable, match=r"cannot be opened.*already accessed"):
        open_collection(str(tmp_path / "db"), "shop")
    gallery.close()


def test_folders_that_are_something_else(spec: GallerySpec, tmp_path: Path) -> None:
    EdgeGallery.create(tmp_path / "embedded", spec).close()
    with pytest.raises(GalleryUnavailable, match=r"embedded gallery.*ComposedSearch\.open"):
        choose_client(tmp_path / "embedded")
    (tmp_path / "photos").mkdir()
    with pytest.raises(GalleryUnavailable, match=r"neither a server's address nor.*meta\.json"):
        choose_client(tmp_path / "photos")
    (tmp_path / "photos" / "meta.json").write_text("{")
    with pytest.raises(GalleryUnavailable, match="cannot be opened"):
        choose_client(tmp_path / "photos")
    with pytest.raises(GalleryUnavailable, match="not a server's address"):
        choose_client(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    ServerGallery.create(QdrantClient(path=str(tmp_path / "db")), "shop", spec).close()
    with pytest.raises(GalleryNotFound, match=r"local mode.*ComposedSearch\.attach"):
        EdgeGallery.open(tmp_path / "db")


@pytest.mark.parametrize("wrong", [None, 6333, b"http://localhost", ["http://localhost"]])
def test_what_is_no_client(wrong: Any) -> None:
    with pytest.raises(GalleryUnavailable, match="neither a client nor an address"):
        choose_client(wrong)


def test_an_asynchronous_client_needs_the_asynchronous_search() -> None:
    with pytest.raises(GalleryUnavailable, match=r"AsyncComposedSearch\.connect"):
        choose_client(AsyncQdrantClient(":memory:"))  # type: ignore[arg-type]


def test_options_beside_a_client_that_has_its_own(tmp_path: Path) -> None:
    theirs = QdrantClient(":memory:")
    with pytest.raises(GalleryUnavailable, match="api_key: the client has its own"):
        choose_client(theirs, api_key="secret")
    with pytest.raises(GalleryUnavailable, match="timeout, headers: the client has its own"):
        choose_client(theirs, options=ClientOptions.of(timeout=3, headers={"a": "b"}))


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://:6333",
        "http://host:0",
        "http://host:65536",
        "http://host/path?x=1",
        "http://host/#top",
        "HTTP//host",
        "http:/host",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(GalleryUnavailable) as caught:
        connect(url)
    assert url in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(GalleryUnavailable, match="contains a password") as caught:
        connect("http://user:hunter2@localhost:6333")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"timeout": 0}, "timeout must be seconds"),
        ({"timeout": float("nan")}, "timeout must be seconds"),
        ({"timeout": True}, "timeout must be seconds"),
        ({"timeout": "5"}, "timeout must be seconds"),
        ({"headers": {"": "x"}}, "not the name of an HTTP header"),
        ({"headers": {"a b": "x"}}, "not the name of an HTTP header"),
        ({"headers": {"a": "x\r\nb: y"}}, "one line"),
        ({"headers": {"a": "é"}}, "printable ASCII"),
        ({"headers": {"a": 5}}, "printable ASCII"),
        ({"prefix": "../admin"}, "not a path"),
        ({"prefix": "a?b"}, "not a path"),
        ({"prefix": "http://host"}, "not a path"),
        ({"ca_file": "missing.pem"}, "not a file of certificates"),
        ({"ca_file": __file__}, "not a file of certificates"),
    ],
    ids=str,
)
def test_options_that_no_client_could_use(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(GalleryUnavailable, match=reason):
        ClientOptions.of(**wrong)


def test_the_prefix_is_given_once() -> None:
    with pytest.raises(GalleryUnavailable, match="given twice"):
        connect("http://localhost:6333/a", options=ClientOptions.of(prefix="b"))


def test_the_twin_has_the_options_of_the_client() -> None:
    theirs = QdrantClient(
        url="http://localhost:7000/a",
        timeout=7,
        headers={"x-team": "search"},
        check_compatibility=False,
        prefer_grpc=True,
        grpc_options={"grpc.max_send_message_length": 5},
    )
    twin = asynchronous_twin(theirs)
    assert twin is not None
    for name in ("url", "timeout", "headers", "prefer_grpc"):
        assert twin.init_options[name] == theirs.init_options[name]
    assert twin.init_options["grpc_options"]["grpc.max_send_message_length"] == 5


def test_no_twin_where_there_can_be_none() -> None:
    class Recording(QdrantClient):
        pass

    memory = QdrantClient(":memory:")
    assert is_local(memory)
    assert asynchronous_twin(memory) is None
    recording = Recording(url="http://localhost:7000", check_compatibility=False)
    assert not is_local(recording)
    assert asynchronous_twin(recording) is None


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"url": "http://a:7000/b"}, "http://a:7000/b"),
        ({"location": "http://a:7000"}, "http://a:7000"),
        ({"location": ":memory:"}, ":memory:"),
        ({"host": "a", "prefix": "b"}, "http://a:6333/b"),
        ({"host": "a", "port": None, "https": True}, "https://a"),
        ({}, "http://localhost:6333"),
    ],
)
def test_the_address_for_messages(options: dict[str, Any], address: str) -> None:
    assert url_of(QdrantClient(check_compatibility=False, **options)) == address


def location_of(arguments: list[str]) -> tuple[GalleryLocation | None, str]:
    """What the options of the command lines give, and what is printed."""
    found: list[GalleryLocation] = []

    @click.command()
    @gallery_options
    def command(location: GalleryLocation) -> None:
        found.append(location)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == (0 if found else 2)
    return (found[0] if found else None), result.output


def test_options_of_the_command_lines(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    where = ["--url", "https://host:443", "--collection", "shop"]
    given = ["--prefix", "q", "--timeout", "5", "--ca-file", str(tmp_path / "ca.pem")]
    location, _ = location_of([*where, *given, "--header", "X-Team: a:b", "--header", "x-b:"])
    options = ClientOptions(5, (("x-team", "a:b"), ("x-b", "")), "q", str(tmp_path / "ca.pem"))
    expected = ServerLocation("https://host:443", "shop", client_options=options)
    assert location == expected
    assert location_of(location.options())[0] == replace(
        expected, client_options=replace(options, headers=())
    )
    assert "a:b" not in repr(location)  # a header may be a secret


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--header", "no colon"], "--header takes NAME:VALUE"),
        (["--header", "a:1", "--header", "A:2"], "each name once"),
        (["--timeout", "0"], "timeout must be seconds"),
        (["--ca-file", "missing.pem"], "not a file of certificates"),
        (["--prefix", ".."], "not a path"),
    ],
)
def test_bad_options_of_the_command_lines(arguments: list[str], reason: str) -> None:
    location, output = location_of(["--url", "http://host", "--collection", "shop", *arguments])
    assert location is None
    assert reason in output
    assert location_of(["--gallery", "shop", "--timeout", "5"])[0] is None
