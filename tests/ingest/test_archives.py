"""Tar shards and zip archives: what is listed, and that each listed image is read back whole."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_qdrant.errors import BadImage, BadManifest
from fti_qdrant.gallery import EdgeGallery, point_id
from fti_qdrant.images.fetch import read_batch, without_span
from tests.ingest.sources_and_runs import ingest, picture


def read_one(uri: str) -> bytes:
    [data] = read_batch([uri], allow_urls=False)
    assert isinstance(data, bytes), data
    return data


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "JPEG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def by_id(source: Source) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in source.rows()}


def reasons(source: Source) -> list[str]:
    return [reject.reason for reject in source.rejects()]


def test_a_shards_samples_have_what_stands_beside_them_as_payload(tmp_path: Path) -> None:
    shard = tmp_path / "shard-000.tar"
    write_tar(
        shard,
        {
            "./0001.jpg": jpeg(1),
            "./0001.json": b'{"brand": "Acme", "price": 3}',
            "./0001.txt": b" a red dress\n",
            "./0001.cls": b"7",
            "./deep/0002.jpg": jpeg(2),
            "./deep/0002.seg.png": jpeg(3),
            "./readme.md": b"nothing",
        },
    )
    source = read_source(str(shard))
    found = by_id(source)
    first = found[point_id("shard-000.tar/0001.jpg")]
    assert first["payload"] == {"brand": "Acme", "price": 3, "txt": "a red dress", "cls": 7}
    assert first["uri"].startswith(f"tar://./0001.jpg::{shard}#bytes=")
    assert without_span(first["uri"]) == f"tar://./0001.jpg::{shard}"
    rest = {point_id(f"shard-000.tar/deep/{name}") for name in ("0002.jpg", "0002.seg.png")}
    assert set(found) == {first["id"], *rest}
    assert source.indexes == {
        "brand": "keyword",
        "price": "integer",
        "txt": "keyword",
        "cls": "integer",
    }
    assert not source.reject_count


def test_every_image_is_read_back_whole_in_any_order(tmp_path: Path) -> None:
    images = {f"{n:03d}.jpg": jpeg(n) for n in range(20)}
    write_tar(tmp_path / "s" / "a.tar", images)
    write_zip(tmp_path / "s" / "b.zip", images)
    rows = list(read_source(str(tmp_path / "s" / "*")).rows())
    assert len(rows) == 40
    uris = [row["uri"] for row in rows[::-1]]
    expected = [images[f"{n:03d}.jpg"] for n in range(20)][::-1] * 2
    assert read_batch(uris, allow_urls=False) == expected
    assert read_one(uris[3]) == expected[3]
    as_stored = [without_span(uri) for uri in uris]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: read_batch(as_stored, allow_urls=False), range(8)):
            assert found == expected


def test_ids_hold_the_shards_place_below_the_glob(tmp_path: Path) -> None:
    for name in ("train/a.tar", "train/b.tar", "val/a.tar"):
        write_tar(tmp_path / name, {"0.jpg": jpeg(0)})
    found = by_id(read_source(f"{tmp_path}/*/*.tar"))
    names = ("train/a.tar/0.jpg", "train/b.tar/0.jpg", "val/a.tar/0.jpg")
    assert set(found) == {point_id(name) for name in names}


def test_a_zips_samples_may_lie_scattered(tmp_path: Path) -> None:
    """As zip *.jpg *.json makes them; "1-a" sorts before "1"."""
    names = ("1", "1-a", "0")
    images = {f"{name}.jpg": jpeg(0) for name in names}
    notes = {f"{name}.json": json.dumps({"name": name}).encode() for name in names}
    write_zip(tmp_path / "z.zip", {**images, **notes})
    found = by_id(read_source(str(tmp_path / "z.zip")))
    assert {id: row["payload"] for id, row in found.items()} == {
        point_id(f"z.zip/{name}.jpg"): {"name": name} for name in names
    }


def test_of_a_tar_scattered_samples_are_told(tmp_path: Path) -> None:
    images = {f"{n}.jpg": jpeg(0) for n in range(3)}
    write_tar(tmp_path / "a.tar", {**images, "0.json": b"{}", "2.json": b"{}", "x.json": b"{}"})
    source = read_source(str(tmp_path / "a.tar"))
    assert len(source) == 3
    assert not source.complete
    [told] = reasons(source)
    assert told.startswith("the files of 2 samples are not next to each other")


@pytest.mark.parametrize(
    "names",
    [
        ("10.31.jpg", "a.jpg", "10.32.jpg"),
        ("1.jpg", "1.json", "2.jpg", "2.json", "1.seg.png"),
        ("0.jpg", "caf\udce9.jpg", "z.jpg"),
    ],
)
def test_of_a_tar_nothing_else_is_scattered(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_tar(tmp_path / "a.tar", dict.fromkeys(names, b"{}"))
    source = read_source(str(tmp_path / "a.tar"))
    assert not any("together" in one or "to its end" in one for one in reasons(source))
    images = [name for name in names if not name.endswith(".json")]
    rejected = [one for one in reasons(source) if "not clear" not in one]
    assert len(source) + len(rejected) == len(images)


def test_a_note_in_a_zip_that_cannot_be_read(tmp_path: Path) -> None:
    """Deflate64, which Python cannot unpack; an encrypted one is told alike."""
    path = tmp_path / "z.zip"
    write_zip(path, {"0.jpg": jpeg(0), "0.json": b'{"a": 1}', "1.jpg": jpeg(1)})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("0.json").header_offset
    central = data.index(b"PK\x01\x02", data.rindex(b"0.json") - 60)
    data[at + 8 : at + 10] = data[central + 10 : central + 12] = (9).to_bytes(2, "little")
    path.write_bytes(data)
    source = read_source(str(path))
    assert set(by_id(source)) == {point_id("z.zip/1.jpg")}
    assert reasons(source)[0].startswith("'0.json' beside it cannot be read: ")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("1.json", b"[1, 2]", "'1.json' beside it is not a JSON object"),
        ("1.json", b"{oops", "'1.json' beside it cannot be parsed"),
        ("1.json", b"[" * 200_000, "'1.json' beside it cannot be parsed"),
        ("1.cls", b"cat", "'1.cls' beside it cannot be parsed"),
        ("1.txt", b"x" * 1_000_001, "'1.txt' beside it is over 1,000,000 bytes"),
    ],
)
def test_an_image_with_a_bad_note_is_rejected_alone(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    write_tar(tmp_path / "s.tar", {"0.jpg": jpeg(0), "1.jpg": jpeg(1), name: data, "2.jpg": b""})
    source = read_source(str(tmp_path / "s.tar"))
    assert set(by_id(source)) == {point_id("s.tar/0.jpg"), point_id("s.tar/2.jpg")}
    [told] = reasons(source)
    assert told.startswith(reason)


def test_a_truncated_tar_gives_what_it_still_holds_and_is_not_pruned_by(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    write_tar(shard, {f"{n}.jpg": jpeg(n) for n in range(8)})
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    source = read_source(str(shard))
    assert 1 < len(source) < 8
    assert "cannot be read to its end" in reasons(source)[0]
    assert not source.complete
    *good, last = read_batch([row["uri"] for row in source.rows()], allow_urls=False)
    assert good == [jpeg(n) for n in range(len(good))]
    assert last == jpeg(len(good))[: len(last)]  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"\0" * 5000])
def test_what_is_no_zip(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    source = read_source(str(tmp_path / "a.zip"))
    assert len(source) == 0
    assert "cannot be read to its end" in reasons(source)[0]


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", {"0.jpg": jpeg(0)}, "w:gz")
    source = read_source(str(tmp_path / "a.tar.gz"))
    assert reasons(source) == [
        "a compressed tar cannot be read from the middle; unpack it to a .tar"
    ]


def test_links_folders_and_devices_in_a_tar_are_no_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "link.jpg"),
            (tarfile.DIRTYPE, "folder.jpg"),
            (tarfile.FIFOTYPE, "pipe.jpg"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../outside.jpg")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"data"))
    [row] = read_source(str(tmp_path / "a.tar")).rows()
    assert read_one(row["uri"]) == b"data"


def test_a_member_that_would_fill_memory_is_not_read_whole(tmp_path: Path) -> None:
    write_zip(tmp_path / "bomb.zip", {"big.png": b"\0" * 60_000_000})
    [row] = read_source(str(tmp_path / "bomb.zip")).rows()
    assert len(read_one(row["uri"])) == 50_000_001


def test_an_archive_that_goes_between_listing_and_reading(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.jpg": jpeg(0)})
    write_zip(tmp_path / "b.zip", {"0.jpg": jpeg(0)})
    uris = [row["uri"] for row in read_source(str(tmp_path / "*")).rows()]
    for name in ("a.tar", "b.zip"):
        (tmp_path / name).unlink()
    for read in read_batch(uris, allow_urls=False):
        assert isinstance(read, BadImage)
        assert "no such file" in str(read)


def test_rows_of_a_manifest_do_not_reach_into_archives(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"image": "zip://a.jpg::/data/x.zip"}\n{"image": "b.jpg"}\n')
    source = read_source(str(tmp_path / "m.jsonl"))
    assert "ingest the archive itself" in reasons(source)[0]


def test_an_archive_is_ingested_as_its_files_are(tmp_path: Path) -> None:
    images = {f"{n}.jpg": jpeg(n) for n in range(5)}
    notes = {f"{n}.json": json.dumps({"n": n}).encode() for n in range(5)}
    write_tar(
        tmp_path / "s.tar",
        {k: v for pair in zip(images.items(), notes.items()) for k, v in pair} | {"bad.jpg": b"no"},
    )
    (tmp_path / "photos").mkdir()
    for name, data in images.items():
        (tmp_path / "photos" / name).write_bytes(data)
    for source, gallery in (("s.tar", "of-tar"), ("photos", "of-files")):
        run = ingest(source, "--gallery", gallery, cwd=tmp_path)
        assert run.code == 0, run.err
    assert "5 stored, 0 unchanged" in run.line
    [reject] = map(json.loads, (tmp_path / "of-tar" / "rejects.jsonl").read_text().splitlines())
    assert reject["uri"] == f"tar://bad.jpg::{tmp_path}/s.tar"
    with (
        EdgeGallery.open(tmp_path / "of-tar") as tar,
        EdgeGallery.open(tmp_path / "of-files") as files,
    ):
        for n in range(5):
            [inside] = tar.retrieve([point_id(f"s.tar/{n}.jpg")])
            [outside] = files.retrieve([point_id(f"{n}.jpg")])
            assert inside.payload["n"] == n
            assert inside.payload["_fti"]["sha256"] == outside.payload["_fti"]["sha256"]
            assert (inside.vector == outside.vector).all()
    again = ingest("s.tar", "--gallery", "of-tar", cwd=tmp_path)
    assert again.line == "6 images in: 0 stored, 5 unchanged, 1 rejected"


def test_a_folder_with_archives_alone_says_how_to_name_them(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.jpg": jpeg(0)})
    with pytest.raises(BadManifest, match=r"holds no images .* 'shards/\*\.tar'"):
        read_source(str(tmp_path))


def test_pillow_can_read_what_is_listed(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"größe ✓.jpg": jpeg(4)})
    [row] = read_source(str(tmp_path / "a.zip")).rows()
    data = read_one(row["uri"])
    assert Image.open(io.BytesIO(data)).size == (48, 40)
