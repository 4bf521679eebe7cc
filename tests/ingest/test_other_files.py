"""Links to folders, and files whose names do not say that they are images: nothing goes unsaid."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from fti_ingest.run.prune import check_prunable
from fti_ingest.sources.image_files import is_image
from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import EdgeGallery, point_id
from fti_qdrant.images.fetch import read_batch
from tests.ingest.sources_and_runs import ingest, picture, read_rejects
from tests.ingest.test_archives import jpeg, reasons
from tests.ingest.test_hostile import FORMATS, encoded

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
ORDINARY = {
    "a.json": b"{}",
    "b.JSON": b"{}",
    "c.txt": b"text",
    ".DS_Store": b"\x00\x00\x00\x01Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "._photo.jpg": APPLE_DOUBLE,
    "__MACOSX/._photo": APPLE_DOUBLE,
    "empty": b"",
}
COUNTED = {".json": 2, ".txt": 1, ".ds_store": 1, ".db": 1, "._*": 2, "no suffix": 1}
IMAGES = {"photo.jpg": jpeg(1), "photo": jpeg(2), "x.jpg_large": jpeg(3), "deep/y.xyz": jpeg(4)}
UNKNOWN = {"z.xyz": b"neither", "deep/w": b"nor"}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def keys(source: Source, *names: str) -> bool:
    """Whether these are the images of a source."""
    return {row["id"] for row in source.rows()} == {point_id(name) for name in names}


def as_source(kind: str, root: Path, files: dict[str, bytes]) -> tuple[str, str]:
    """The files in a folder, below a glob, or in an archive; and what their keys begin with."""
    if kind in ("folder", "glob"):
        write(root / "p", files)
        return (str(root / "p"), "") if kind == "folder" else (f"{root}/p/**/*", "")
    path = root / f"a.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
    return str(path), f"{path.name}/"


@pytest.mark.parametrize("kind", ["folder", "glob", "tar", "zip"])
def test_content_decides_where_the_name_does_not(kind: str, tmp_path: Path) -> None:
    place, prefix = as_source(kind, tmp_path, {**ORDINARY, **IMAGES, **UNKNOWN})
    source = read_source(place)
    assert keys(source, *(prefix + name for name in IMAGES))
    uris = [row["uri"] for row in source.rows()]
    assert sorted(map(str, read_batch(uris, False))) == sorted(map(str, IMAGES.values()))
    rejects = {one.uri: one.reason for one in source.rejects()}
    assert {"z.xyz", "w"} == {Path(uri.partition("::")[0]).name for uri in rejects}
    assert set(rejects.values()) == {
        "no image: neither its name nor its first bytes are those of one"
    }
    expected = {**COUNTED, ".xyz": 1, "no suffix": 2}
    if kind == "glob":  # as in a shell, hidden names do not match
        del expected[".ds_store"], expected["._*"]
    assert source.other_files == expected
    check_prunable(source, place)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_known_by_its_first_bytes(form: str) -> None:
    assert is_image(encoded(form)[:64])


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\0" * 64, b"plain text, and more of it", b"%PDF-1.7", b'{"a": 1}', b"#!/bin/sh\n"),
        *(
            APPLE_DOUBLE,
            b"PK\x03\x04\x14\0",
            b"\x7fELF\x02",
            b"\x1f\x8b\x08",
            b"ID3\x03",
            b"SQLite",
        ),
    ],
)
def test_what_is_surely_none(head: bytes) -> None:
    assert not is_image(head)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"avif"])
def test_pictures_of_phones_go_to_the_decoder_whatever_they_are_called(
    brand: bytes, tmp_path: Path
) -> None:
    """It says what is missing to read them."""
    data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0"
    write(tmp_path, {"IMG_1": data, "IMG_2.HEIC": data, "IMG_3.hif": b""})
    assert keys(read_source(str(tmp_path)), "IMG_1", "IMG_2.HEIC", "IMG_3.hif")


def test_a_run_counts_and_lists_them(tmp_path: Path) -> None:
    write(tmp_path / "p", {**ORDINARY, **IMAGES, **UNKNOWN})
    told = "files that are no images: 2 no suffix, 2 .json, 2 ._*, 1 .xyz, 1 .txt, 1 .ds_store"
    dry = ingest("p", "--gallery", "g", "--dry-run", cwd=tmp_path)
    assert "4 new and 0 changed would be stored, 0 are unchanged, 2 would be rejected" in dry.out
    run = ingest("p", "--gallery", "g", cwd=tmp_path)
    assert run.line == "6 images in: 4 stored, 0 unchanged, 2 rejected", run.err
    for out in (dry.out, run.out):
        [line] = [one for one in out.splitlines() if one.startswith("files that are no images")]
        assert set(line.split(": ")[1].split(", ")) == {*told.split(": ")[1].split(", "), "1 .db"}
    report = json.loads((tmp_path / "g" / "report.json").read_text())
    assert report["other_files"] == {**COUNTED, ".xyz": 1, "no suffix": 2}
    rejects = read_rejects(tmp_path / "g" / "rejects.jsonl")
    assert set(rejects) == {str(tmp_path / "p" / name) for name in UNKNOWN}


class TestPruning:
    """What is there and was not looked at keeps its point."""

    def test_files_that_were_images_once(self, tmp_path: Path) -> None:
        names = ["a.jpg", "b", "c.txt"]
        write(tmp_path / "p", dict.fromkeys(names, jpeg(1)))
        (tmp_path / "m.jsonl").write_text(
            "".join(json.dumps({"image": f"p/{name}"}) + "\n" for name in names)
        )
        assert ingest("m.jsonl", "--gallery", "g", cwd=tmp_path).code == 0
        write(tmp_path / "p", {"b": b"no picture now"})
        run = ingest("*/*", "--gallery", "g", "--prune", cwd=tmp_path)
        assert run.line == "2 images in: 0 stored, 1 unchanged, 1 rejected", run.out + run.err

    def test_images_of_an_archive_in_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "p").mkdir()
        place, _ = as_source("zip", tmp_path / "p", {"x.jpg": jpeg(1)})
        write(tmp_path / "p", {"a.jpg": jpeg(2)})
        assert ingest("p/*", "--gallery", "g", cwd=tmp_path).code == 0
        run = ingest("p", "--gallery", "g", "--prune", cwd=tmp_path)
        assert run.line == "2 images in: 0 stored, 1 unchanged, 1 rejected", run.err
        told = read_rejects(tmp_path / "g" / "rejects.jsonl")
        assert list(told) == [place]
        assert "by its name or by a glob" in told[place]
        with EdgeGallery.open(tmp_path / "g") as gallery:
            assert gallery.count() == 2

    def test_a_link_whose_folder_is_away(self, tmp_path: Path) -> None:
        """As where a disk is not mounted: its images must not go."""
        write(tmp_path / "p", {"a.jpg": b""})
        (tmp_path / "p" / "more").symlink_to(tmp_path / "unmounted")
        source = read_source(str(tmp_path / "p"))
        with pytest.raises(BadManifest, match=r"p/more: a link to .*unmounted', which is not"):
            check_prunable(source, "p")


class TestLinksToFolders:
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path, {"p/a.jpg": b"", "p/sub/b.jpg": b"", "elsewhere/c.jpg": b""})
        (tmp_path / "p" / "link").symlink_to(tmp_path / "elsewhere")
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("source", ["p", "p/**/*.jpg", "p/**", "file://{}/p"])
    def test_they_are_followed(self, source: str, tmp_path: Path) -> None:
        found = read_source(source.format(tmp_path))
        assert keys(found, "a.jpg", "sub/b.jpg", "link/c.jpg")
        assert not found.reject_count

    @pytest.mark.parametrize("source", ["p", "p/**/*.jpg"])
    @pytest.mark.parametrize("target", [".", "..", "../p", "sub/../../p"])
    def test_a_loop_is_told_and_costs_nothing(
        self, source: str, target: str, tmp_path: Path
    ) -> None:
        (tmp_path / "p" / "loop").symlink_to(target)
        (tmp_path / "p" / "sub" / "up").symlink_to("..")
        (tmp_path / "p" / "self").symlink_to("self")
        found = read_source(source)
        assert keys(found, "a.jpg", "sub/b.jpg", "link/c.jpg")
        told = {Path(one.uri).name: one.reason for one in found.rejects()}
        assert "a link back to " in told["loop"]
        assert "a link back to " in told["up"]
        assert ("self" in told) == (source == "p")
        check_prunable(found, "p") if source != "p" else None

    def test_folders_that_link_to_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "p" / "sub")
        (tmp_path / "p" / "sub" / "again").symlink_to(tmp_path / "elsewhere")
        found = read_source("p")
        images = ["a.jpg", "sub/b.jpg", "sub/again/c.jpg", "link/c.jpg", "link/back/b.jpg"]
        assert keys(found, *images)
        assert {os.path.relpath(one.uri, tmp_path) for one in found.rejects()} == {
            "p/link/back/again",
            "p/sub/again/back",
        }

    def test_many_that_all_link_to_each_other_have_an_end(self, tmp_path: Path) -> None:
        names = [f"d{n}" for n in range(5)]
        for name in names:
            write(tmp_path / "q" / name, {f"{name}.jpg": b""})
            for other in names:
                (tmp_path / "q" / name / f"to-{other}").symlink_to(tmp_path / "q" / other)
        found = read_source("q")
        assert 5 < len(found) < 1000
        assert not found.complete
        assert any("inside 3 others" in one for one in reasons(found))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_links_in_archives_are_read_or_told(kind: str, tmp_path: Path) -> None:
    links = {
        "d/sym.jpg": "../a.jpg",
        "sym2.jpg": "d/sym.jpg",
        "no-suffix": "a.jpg",
        "gone.jpg": "nowhere.jpg",
        "outside.jpg": "/etc/hostname",
        "above.jpg": "../../etc/hostname",
        "round.jpg": "round.jpg",
        "folder": "d",
    }
    files = {"a.jpg": jpeg(1), "a.json": b'{"n": 1}', "sym2.json": b'{"n": 2}', "d/x.txt": b""}
    path = tmp_path / f"s.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as tar:
            for name, data in sorted({**files, **dict.fromkeys(links, b"")}.items()):
                info = tarfile.TarInfo(f"./{name}")
                if name in links:
                    info.type, info.linkname = tarfile.SYMTYPE, links[name]
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for name, target in (("hard.png", "./a.jpg"), ("hard.json", "a.json")):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.LNKTYPE, target
                tar.addfile(info)
    else:
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
            for name, target in links.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                zipped.writestr(entry, target)
    source = read_source(str(path))
    rows = {row["id"]: row for row in source.rows()}
    hard = ["hard.png"] if kind == "tar" else []
    read = ["a.jpg", "d/sym.jpg", "sym2.jpg", "no-suffix", *hard]
    assert set(rows) == {point_id(f"s.{kind}/{name}") for name in read}
    assert read_batch([row["uri"] for row in rows.values()], False) == [jpeg(1)] * len(read)
    assert rows[point_id(f"s.{kind}/sym2.jpg")]["payload"] == {"n": 2}
    if kind == "tar":
        assert rows[point_id("s.tar/hard.png")]["payload"] == {"n": 1}
    told = {one.uri.partition("::")[0].rpartition("/")[2]: one.reason for one in source.rejects()}
    assert set(told) == {"gone.jpg", "outside.jpg", "above.jpg", "round.jpg", "folder"}
    assert told["gone.jpg"] == "a link to 'nowhere.jpg', which is no file in the archive"
    assert "'/etc/hostname'" in told["outside.jpg"]
    assert "leads back to itself" in told["round.jpg"]


def test_what_is_no_file_in_a_tar_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("pipe.jpg", tarfile.FIFOTYPE), ("device", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        for name in ("inner.zip", "inner.TAR"):
            info = tarfile.TarInfo(name)
            archive.addfile(info)
    source = read_source(str(tmp_path / "a.tar"))
    assert sorted(reasons(source)) == [
        *["a pipe or a device, not a file"] * 2,
        *["an archive inside an archive; unpack it"] * 2,
    ]


@pytest.mark.parametrize("name", ["socket", "pipe.xyz"])
def test_what_would_be_read_without_an_end_is_not_opened(name: str, tmp_path: Path) -> None:
    write(tmp_path / "p", {"a.jpg": b""})
    os.mkfifo(tmp_path / "p" / name)
    [reason] = reasons(read_source(str(tmp_path / "p")))
    assert reason == "a pipe or a device, not a file"


def test_a_bucket_is_tried_by_content_too() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    for name, data in {**ORDINARY, **IMAGES, **UNKNOWN}.items():
        fs.pipe(f"/tried/{name}", data)
    source = read_source("memory://tried")
    assert keys(source, *IMAGES)
    assert source.other_files == {**COUNTED, ".xyz": 1, "no suffix": 2}
    assert {one.uri for one in source.rejects()} == {f"memory:///tried/{name}" for name in UNKNOWN}


def test_pictures_of_a_name_that_says_otherwise_are_embedded(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    picture(7).save(tmp_path / "p" / "download", "WEBP")
    picture(8).save(tmp_path / "p" / "scan.dat", "TIFF")
    Image.open(tmp_path / "p" / "download").verify()
    run = ingest("p", "--gallery", "g", cwd=tmp_path)
    assert run.line == "2 images in: 2 stored, 0 unchanged, 0 rejected", run.err
