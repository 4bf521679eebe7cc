"""Sources outside this machine: S3 by moto's server, and fsspec's filesystem in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from fti_ingest.sources.read_source import read_source
from fti_qdrant.errors import BadImage, BadManifest
from fti_qdrant.gallery import EdgeGallery, point_id
from fti_qdrant.images.fetch import read_batch
from fti_qdrant.images.filesystems import filesystem
from tests.ingest.sources_and_runs import ingest
from tests.ingest.test_archives import jpeg, write_tar


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """A server that speaks S3, with a bucket ``shop``; the environment that leads to it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        for n in range(6):
            client.put_object(Bucket="shop", Key=f"photos/{n % 2}/{n}.jpg", Body=jpeg(n))
        client.put_object(Bucket="shop", Key="photos/notes.txt", Body=b"no image")
        yield environment
    server.stop()


def put(key: str, data: bytes) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket="shop", Key=key, Body=data)


def test_a_folder_and_a_glob_of_a_bucket(s3: dict[str, str]) -> None:
    source = read_source("s3://shop/photos")
    keys = [f"{n % 2}/{n}.jpg" for n in range(6)]
    assert {row["id"] for row in source.rows()} == {point_id(key) for key in keys}
    uris = [row["uri"] for row in source.rows()]
    assert sorted(uris) == sorted(f"s3://shop/photos/{key}" for key in keys)
    assert read_batch(uris, allow_urls=False) == [jpeg(int(uri[-5])) for uri in uris]
    some = read_source("s3://shop/photos/*/[0-3].jpg")
    assert {row["id"] for row in some.rows()} == {point_id(key) for key in keys[:4]}


@pytest.mark.parametrize("source", ["memory://photos", "memory://photos/**/*.jpg"])
def test_a_folder_that_cannot_be_read_is_listed(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However deep, so that --prune deletes nothing. No listing is kept in memory."""
    fs, _ = filesystem(source)
    assert not fs.dircache.use_listings_cache
    for key in ("a.jpg", "open/b.jpg", "open/closed/c.jpg", "open/deep/d.jpg", "open/n.txt"):
        fs.pipe(f"/photos/{key}", b"")
    listed = MemoryFileSystem.ls

    def ls(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        if path.endswith("closed"):
            raise PermissionError("not yours")
        return listed(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    found = read_source(source)
    keys = ("a.jpg", "open/b.jpg", "open/deep/d.jpg")
    assert {row["id"] for row in found.rows()} == {point_id(key) for key in keys}
    assert not found.complete
    assert [(one.uri, one.reason) for one in found.rejects()] == [
        ("memory:///photos/open/closed", "the folder cannot be read: not yours")
    ]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server on a private address, with pictures and pages that list them."""
    root = tmp_path / "web"
    for n in range(4):
        (root / f"photos/{n % 2}").mkdir(parents=True, exist_ok=True)
        (root / f"photos/{n % 2}/{n}.jpg").write_bytes(jpeg(n))
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("pattern", ["photos", "photos/", "photos/**/*.jpg", "photos/?/*"])
def test_a_folder_of_a_web_server_is_the_users_own_choice(web: str, pattern: str) -> None:
    """No leave is needed to read what was named, also on a private address."""
    source = read_source(f"{web}/{pattern}")
    assert {row["id"] for row in source.rows()} == {point_id(f"{n % 2}/{n}.jpg") for n in range(4)}
    uris = [row["uri"] for row in source.rows()]
    read = read_batch(uris, allow_urls=False, own=source.own)
    assert read == [jpeg(int(uri[-5])) for uri in uris]
    assert all(isinstance(one, BadImage) for one in read_batch(uris, allow_urls=False))


class Pages(SimpleHTTPRequestHandler):
    """Pages with links as other servers have them, and a folder that is closed."""

    def do_GET(self) -> None:
        if self.path == "/":
            here = ("2020/a.jpg", "2021/a.jpg", "deep/", "./", "../", "closed/", "/2022/a.jpg")
            page = "".join(f'<a href="{link}">x</a>' for link in here)
        elif self.path == "/deep/":
            page = '<a href="b.jpg">b</a> <a href="./">here</a>'
        else:
            self.send_error(403 if self.path.startswith("/closed") else 404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())


def test_links_of_any_kind_and_a_closed_folder() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        source = read_source(f"{url}/")
        server.shutdown()
    keys = ("2020/a.jpg", "2021/a.jpg", "2022/a.jpg", "deep/b.jpg")
    assert {row["id"] for row in source.rows()} == {point_id(key) for key in keys}
    [closed] = source.rejects()
    assert closed.uri == f"{url}/closed"
    assert "403" in closed.reason


@pytest.mark.parametrize("path", ["nothing", "nothing/*.jpg", "m.csv", "photos/0/0.jpg"])
def test_what_a_web_server_does_not_have_is_one_line(web: str, path: str) -> None:
    with pytest.raises(BadManifest, match=web) as raised:
        read_source(f"{web}/{path}")
    assert "\n" not in str(raised.value)


def test_a_manifest_of_a_web_server_may_name_what_lies_beside_it(web: str, tmp_path: Path) -> None:
    other = "http://127.0.0.1:1/photos/0/0.jpg"
    text = f"image\n0/0.jpg\n{web}/photos/1/1.jpg\n{web}/m.jpg\n{other}\n"
    (tmp_path / "web" / "photos" / "m.csv").write_text(text)
    source = read_source(f"{web}/photos/m.csv")
    uris = [row["uri"] for row in source.rows()]
    first, second, *others = read_batch(uris, allow_urls=False, own=source.own)
    assert [first, second] == [jpeg(0), jpeg(1)]
    assert ["--allow-urls" in str(one) for one in others] == [True, True]


def test_manifests_and_shards_of_a_bucket(s3: dict[str, str], tmp_path: Path) -> None:
    columns = {"image": ["photos/0/0.jpg", "s3://shop/photos/1/1.jpg", "gone.jpg"], "n": [0, 1, 2]}
    parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
    put("m.parquet", (tmp_path / "m.parquet").read_bytes())
    put("m.csv", b"image,n\nphotos/0/0.jpg,0\ns3://shop/photos/1/1.jpg,1\ngone.jpg,2\n")
    rows = [{"image": image, "n": n} for image, n in zip(*columns.values())]
    put("m.jsonl", "\n".join(map(json.dumps, rows)).encode())
    for name in ("m.parquet", "m.csv", "m.jsonl"):
        source = read_source(f"s3://shop/{name}")
        found = list(source.rows())
        keys = ("photos/0/0.jpg", "photos/1/1.jpg", "gone.jpg")
        assert [row["id"] for row in found] == [point_id(key) for key in keys]
        assert [row["payload"]["n"] for row in found] == [0, 1, 2]
        *good, gone = read_batch([row["uri"] for row in found], allow_urls=False)
        assert good == [jpeg(0), jpeg(1)]
        assert isinstance(gone, BadImage)
        assert str(gone) == "'s3://shop/gone.jpg': no such file"

    write_tar(tmp_path / "a.tar", {"0.jpg": jpeg(0), "0.json": b'{"n": 0}', "1.jpg": jpeg(1)})
    put("shards/a.tar", (tmp_path / "a.tar").read_bytes())
    shard = list(read_source("s3://shop/shards/*.tar").rows())
    assert [row["id"] for row in shard] == [point_id("a.tar/0.jpg"), point_id("a.tar/1.jpg")]
    assert shard[0]["payload"] == {"n": 0}
    assert read_batch([row["uri"] for row in shard], allow_urls=False) == [jpeg(0), jpeg(1)]


@pytest.mark.parametrize("source", ["s3://shop/nothing", "s3://nobucket/x", "s3://shop/m.xlsx"])
def test_what_is_not_there_is_one_line(s3: dict[str, str], source: str) -> None:
    with pytest.raises(BadManifest, match=source) as raised:
        read_source(source)
    assert "\n" not in str(raised.value)


def test_a_bucket_is_ingested_by_the_command(s3: dict[str, str], tmp_path: Path) -> None:
    """By Ray of its own: the shared cluster's workers do not know the bucket."""
    put("photos/1/bad.jpg", b"no image")
    run = ingest("s3://shop/photos", "--gallery", "gallery", cwd=tmp_path, **s3)
    assert run.code == 0, run.err
    assert run.line == "7 images in: 6 stored, 0 unchanged, 1 rejected"
    with EdgeGallery.open(tmp_path / "gallery") as gallery:
        [stored] = gallery.retrieve([point_id("0/0.jpg")])
    assert stored.payload["_fti"]["uri"] == "s3://shop/photos/0/0.jpg"


def test_any_filesystem_of_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/album/a b/größe #1?.jpg", jpeg(1))
    fs.pipe("/album/m.csv", b"image\na b/gr\xc3\xb6\xc3\x9fe #1?.jpg\n")
    [row] = read_source("memory://album").rows()
    assert row["id"] == point_id("a b/größe #1?.jpg")
    assert read_batch([row["uri"]], allow_urls=False) == [jpeg(1)]
    named: list[dict[str, Any]] = list(read_source("memory://album/m.csv").rows())
    assert [one["id"] for one in named] == [row["id"]]


def test_unknown_filesystems(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="'nosuch://x': no filesystem for it"):
        read_source("nosuch://x")
    (tmp_path / "m.jsonl").write_text('{"image": "nosuch://x/a.jpg"}\n')
    [row] = read_source(str(tmp_path / "m.jsonl")).rows()
    [bad] = read_batch([row["uri"]], allow_urls=False)
    assert isinstance(bad, BadImage)
    assert "no filesystem for it" in str(bad)
