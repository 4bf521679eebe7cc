"""What the embedded gallery promises beyond the common protocol: locks, kills, damage, forks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery import (
    EdgeGallery,
    GalleryPoint,
    GallerySpec,
    VectorQuery,
    edge_engine,
    point_id,
)

Points = list[GalleryPoint]

WRITER = """
import sys
import numpy as np
from fti_qdrant.gallery import EdgeGallery, GalleryPoint, point_id

with EdgeGallery.open(sys.argv[1]) as gallery:
    print("open", flush=True)
    for batch in range(100_000):
        names = [f"{batch}-{row}" for row in range(20)]
        vectors = np.random.default_rng(batch).normal(size=(20, 8)).astype(np.float32)
        gallery.upsert([GalleryPoint(point_id(n), v, {"name": n}) for n, v in zip(names, vectors)])
        print(batch, flush=True)
        if batch % 7 == 0:
            gallery.flush()
"""

DIES_WHILE_CREATING = """
import os, signal, sys
import qdrant_edge
from pathlib import Path
from fti_qdrant.gallery import EdgeGallery, GallerySpec

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
EdgeGallery.create(sys.argv[1], GallerySpec.model_validate_json(sys.argv[2]))
"""

OPENS = """
import sys
from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery import EdgeGallery
try:
    EdgeGallery.open(sys.argv[1])
except GalleryUnavailable as error:
    print(error)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path, spec: GallerySpec, points: Points) -> Path:
    """A closed gallery of fifty images."""
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:
        gallery.upsert(points)
    return tmp_path / "gallery"


def still_works(gallery: EdgeGallery, points: Points) -> None:
    assert gallery.count() == len(points)
    assert gallery.search(VectorQuery(points[5].vector, limit=1))[0].id == points[5].id
    gallery.upsert([points[0]])
    gallery.flush()


def test_opened_twice_in_one_process(folder: Path, points: Points, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    with EdgeGallery.open(folder) as holder:
        for path in (folder, str(folder), link):
            with pytest.raises(GalleryUnavailable, match="is open already"):
                EdgeGallery.open(path)
        with pytest.raises(GalleryUnavailable, match="is open already"):
            EdgeGallery.create(folder, holder.spec)
        still_works(holder, points)
    with EdgeGallery.open(folder) as again:
        still_works(again, points)


def test_opened_from_another_process(folder: Path, points: Points) -> None:
    with EdgeGallery.open(folder) as holder:
        other = python(OPENS, str(folder))
        assert "is open already" in other.stdout, other.stderr
        still_works(holder, points)


def test_a_failed_opening_lets_go_of_the_lock(folder: Path, points: Points) -> None:
    spec_file = folder / "gallery.json"
    saved = spec_file.read_bytes()
    spec_file.write_text("{}")
    with pytest.raises(GalleryUnavailable):
        EdgeGallery.open(folder)
    spec_file.write_bytes(saved)
    with EdgeGallery.open(folder) as gallery:
        still_works(gallery, points)


@pytest.mark.parametrize("seconds", [0.02, 0.3])
def test_sigkill_loses_no_acknowledged_point(
    tmp_path: Path, spec: GallerySpec, seconds: float
) -> None:
    path = tmp_path / "gallery"
    EdgeGallery.create(path, spec).close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    assert writer.stdout.readline() == "0\n"
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    lines = writer.stdout.read().splitlines(keepends=True)
    writer.wait()
    acknowledged = 1 + sum(line.endswith("\n") for line in lines)
    names = [f"{batch}-{row}" for batch in range(acknowledged) for row in range(20)]
    with EdgeGallery.open(path) as gallery:
        found = gallery.retrieve([point_id(name) for name in names])
        assert [image.payload["name"] for image in found] == names
        # the last batch may be there unacknowledged, whole
        assert gallery.count() in (len(names), len(names) + 20)
        gallery.upsert([GalleryPoint(point_id("after"), found[0].vector, {})])
        assert gallery.retrieve([point_id("after")])


def test_killed_creation_leaves_a_creatable_folder(tmp_path: Path, spec: GallerySpec) -> None:
    path = tmp_path / "gallery"
    killed = python(DIES_WHILE_CREATING, str(path), spec.model_dump_json())
    assert killed.returncode == -signal.SIGKILL
    assert (path / "shard").is_dir()
    with pytest.raises(GalleryNotFound):
        EdgeGallery.open(path)
    with EdgeGallery.create(path, spec) as gallery:
        assert gallery.count() == 0
    with EdgeGallery.open(path) as gallery:
        assert gallery.spec == spec


def test_creation_deletes_no_foreign_shard_folder(tmp_path: Path, spec: GallerySpec) -> None:
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard" / "thesis.txt").write_text("years of work")
    with pytest.raises(GalleryUnavailable, match="choose another folder"):
        EdgeGallery.create(tmp_path, spec)
    assert (tmp_path / "shard" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["holiday.jpg", "products.csv", "photos/", ".git/", "segments/"])
def test_a_folder_with_other_things_is_not_taken(
    tmp_path: Path, spec: GallerySpec, name: str
) -> None:
    other = tmp_path / name
    other.mkdir() if name.endswith("/") else other.write_text("mine")
    (tmp_path / "rejects.jsonl").touch()
    with pytest.raises(GalleryUnavailable) as caught:
        EdgeGallery.create(tmp_path, spec)
    assert f"contains '{name.rstrip('/')}'; choose a new or empty folder" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"rejects.jsonl", name.rstrip("/")}
    (tmp_path / "another").touch()
    with pytest.raises(GalleryUnavailable, match="and 1 more; choose a new or empty folder"):
        EdgeGallery.create(tmp_path, spec)


def test_what_our_own_tools_leave_does_not_stop_a_gallery(
    tmp_path: Path, spec: GallerySpec
) -> None:
    for name in ("rejects.jsonl", "duplicates.jsonl.part", "report.json", "gallery.lock"):
        (tmp_path / name).write_text("kept")
    (tmp_path / "lost+found").mkdir()
    with EdgeGallery.create(tmp_path, spec) as gallery:
        assert gallery.count() == 0
    assert (tmp_path / "report.json").read_text() == "kept"


@pytest.mark.parametrize("version", ["0.8.0", "0.10.0", "1.0", "0.10.0.dev1", "nonsense"])
def test_an_engine_of_another_version(
    folder: Path, tmp_path: Path, spec: GallerySpec, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(edge_engine.metadata, "version", lambda package: version)
    for call in (
        lambda: EdgeGallery.open(folder),
        lambda: EdgeGallery.create(tmp_path / "new", spec),
    ):
        with pytest.raises(GalleryUnavailable) as caught:
            call()
        assert f"qdrant-edge-py {version} is installed" in str(caught.value)
        assert "pip install 'qdrant-edge-py>=0.9,<0.10'" in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("version", ["0.9.0", "0.9.17", "0.9.1rc1"])
def test_any_patch_release_of_a_tested_engine(
    folder: Path, points: Points, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(edge_engine.metadata, "version", lambda package: version)
    with EdgeGallery.open(folder) as gallery:
        still_works(gallery, points)


def test_the_package_requires_the_versions_that_are_checked() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"qdrant-edge-py{edge_engine.requirement()}"' in project


def test_a_gallery_that_lost_its_json_keeps_its_points(folder: Path, points: Points) -> None:
    spec_file = folder / "gallery.json"
    saved = spec_file.read_bytes()
    spec = GallerySpec.read(saved, "here")
    spec_file.unlink()
    reason = r"without a gallery\.json beside it; restore that file"
    with pytest.raises(GalleryNotFound, match=reason):
        EdgeGallery.open(folder)
    with pytest.raises(GalleryUnavailable, match=reason):
        EdgeGallery.create(folder, spec)
    spec_file.write_bytes(saved)
    with EdgeGallery.open(folder) as gallery:
        still_works(gallery, points)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe rubbish",
        b"[]",
        b'{"format": 1}',
        b'{"format": 2, "fingerprint": {}}',
    ],
)
def test_damaged_json(folder: Path, content: bytes) -> None:
    (folder / "gallery.json").write_bytes(content)
    with pytest.raises(GalleryUnavailable, match=r"gallery\.json does not describe"):
        EdgeGallery.open(folder)


def test_json_of_a_newer_format_is_refused(folder: Path) -> None:
    spec_file = folder / "gallery.json"
    spec = json.loads(spec_file.read_bytes())
    spec_file.write_text(json.dumps({**spec, "format": 2}))
    with pytest.raises(GalleryUnavailable, match="format"):
        EdgeGallery.open(folder)


@pytest.mark.parametrize("damaged", ["segment.json", "deleted/status.dat"])
def test_damaged_shard(folder: Path, points: Points, damaged: str) -> None:
    """The second file makes the engine panic, with an exception beside ``Exception``."""
    file = next(
        path for path in folder.rglob(Path(damaged).name) if path.as_posix().endswith(damaged)
    )
    saved = file.read_bytes()
    file.write_bytes(saved[: len(saved) // 2])
    with pytest.raises(GalleryUnavailable, match="gallery"):
        EdgeGallery.open(folder)
    file.write_bytes(saved)
    with EdgeGallery.open(folder) as gallery:
        still_works(gallery, points)


def test_missing_shard(folder: Path) -> None:
    shutil.rmtree(folder / "shard")
    with pytest.raises(GalleryUnavailable, match=r"shard|path|exist"):
        EdgeGallery.open(folder)


def test_places_without_a_gallery(tmp_path: Path, spec: GallerySpec) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path, tmp_path / "missing", file):
        with pytest.raises(GalleryNotFound, match="no gallery at"):
            EdgeGallery.open(path)
    for path in (file, file / "below"):
        with pytest.raises(GalleryUnavailable, match="cannot be opened"):
            EdgeGallery.create(path, spec)


def test_advice_where_there_is_no_gallery_works_there(tmp_path: Path, spec: GallerySpec) -> None:
    new = tmp_path / "my new shop"
    with pytest.raises(GalleryNotFound, match=f"fti-ingest IMAGES --gallery '{new}'"):
        EdgeGallery.open(new)
    EdgeGallery.create(new, spec).close()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    for path, reason in ((photos, "it contains 'a.jpg', and is not"), (photos / "a.jpg", "a file")):
        with pytest.raises(GalleryNotFound, match=reason) as caught:
            EdgeGallery.open(path)
        assert "fti-ingest" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork(folder: Path, points: Points) -> None:
    with EdgeGallery.open(folder) as gallery:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            calls = [
                gallery.check_open,
                gallery.count,
                gallery.state,
                gallery.flush,
                gallery.build_index,
                gallery.sample,
                lambda: list(gallery.scroll()),
                lambda: gallery.has_field("brand"),
                lambda: gallery.retrieve([points[0].id]),
                lambda: gallery.search(VectorQuery(points[0].vector)),
                lambda: gallery.upsert(points[:1]),
                lambda: gallery.delete([points[0].id]),
            ]
            told = 0
            for call in calls:
                try:
                    call()
                except GalleryUnavailable as error:
                    told += "opened before a fork; open it in each process" in str(error)
            gallery.close()
            os.write(writer, f"{told} of {len(calls)}".encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            assert pipe.read() == "12 of 12"
        os.waitpid(child, 0)
        with pytest.raises(GalleryUnavailable, match="is open already"):
            EdgeGallery.open(folder)
        still_works(gallery, points)


def test_threads(tmp_path: Path, spec: GallerySpec, points: Points) -> None:
    failures: list[BaseException] = []
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:

        def work(number: int) -> None:
            try:
                for at in range(0, 50, 10):
                    gallery.upsert(
                        [
                            replace(point, id=point_id(f"{number}-{point.id}"))
                            for point in points[at : at + 10]
                        ]
                    )
                    hits = gallery.search(VectorQuery(points[at].vector, limit=1))
                    assert hits[0].score == pytest.approx(1, abs=1e-5)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert gallery.count() == 4 * len(points)


def test_a_large_gallery_gets_an_index_that_finds_what_is_near(
    tmp_path: Path, spec: GallerySpec
) -> None:
    dim, count = 256, 12_000  # the engine indexes segments of more than 10 MB
    wide = spec.model_copy(update={"fingerprint": replace(spec.fingerprint, dim=dim)})
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    with EdgeGallery.create(tmp_path / "gallery", wide) as gallery:
        for start in range(0, count, 1000):
            rows = range(start, start + 1000)
            gallery.upsert([GalleryPoint(point_id(str(row)), vectors[row], {}) for row in rows])
        assert gallery.build_index() > count / 2
        near = vectors[:20] + rng.normal(size=(20, dim)).astype(np.float32) / 4
        for exact in (True, False):
            found = gallery.search_many([VectorQuery(one, limit=1, exact=exact) for one in near])
            assert [hits[0].id for hits in found] == [point_id(str(row)) for row in range(20)]
