"""Galleries on read-only mounts are searched, and nothing is written there."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
from fti_qdrant.filters.grammar import as_filter
from fti_qdrant.gallery import EdgeGallery, GalleryPoint, GallerySpec, VectorQuery, read_only

Points = list[GalleryPoint]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files of the test go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def writable(tmp_path: Path, words_spec: GallerySpec, points: Points) -> Path:
    spec = words_spec.model_copy(update={"words": None, "indexes": {"brand": "keyword"}})
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:
        gallery.upsert(points)
    return tmp_path / "gallery"


@pytest.fixture
def mounted(tmp_path: Path, writable: Path) -> Iterator[Path]:
    """The same folder, where nobody can write."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for options in (["--bind", str(writable), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a folder")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_it_is_searched_as_where_it_can_be_written(
    mounted: Path, writable: Path, points: Points, temporary: Path
) -> None:
    queries = [
        VectorQuery(points[3].vector, limit=7),
        VectorQuery(points[9].vector, as_filter({"brand": "Acme"}), limit=50, with_vectors=True),
    ]
    with EdgeGallery.open(writable) as gallery:
        expected = [[hit.id for hit in hits] for hits in gallery.search_many(queries)]
        contents = list(gallery.scroll())
    with EdgeGallery.open(mounted) as gallery:
        found = gallery.search_many(queries)
        assert [[hit.id for hit in hits] for hits in found] == expected
        assert list(gallery.scroll()) == contents
        assert gallery.count() == gallery.state().points == len(points)
        assert gallery.retrieve([points[0].id])[0].payload == points[0].payload
        assert gallery.has_field("brand")
        assert gallery.name == repr(str(mounted))
        assert len(list(temporary.iterdir())) == 1
    assert list(temporary.iterdir()) == []


def test_it_cannot_be_changed(mounted: Path, points: Points, temporary: Path) -> None:
    with EdgeGallery.open(mounted) as gallery:
        for change in (
            lambda: gallery.upsert(points[:1]),
            lambda: gallery.delete([points[0].id]),
            gallery.build_index,
        ):
            with pytest.raises(GalleryUnavailable, match="is read-only: its folder cannot be"):
                change()
        gallery.flush()
        assert gallery.count() == len(points)


def test_several_may_read_it_and_none_while_it_is_written(
    mounted: Path, writable: Path, points: Points, temporary: Path
) -> None:
    with EdgeGallery.open(mounted) as first, EdgeGallery.open(mounted) as second:
        assert first.count() == second.count() == len(points)
        with EdgeGallery.open(writable) as writer:
            writer.delete([points[0].id])
            with pytest.raises(GalleryUnavailable, match="is open already"):
                EdgeGallery.open(mounted)
        assert first.count() == len(points)
    with EdgeGallery.open(mounted) as later:
        assert later.count() == len(points) - 1
    assert list(temporary.iterdir()) == []


def test_a_folder_without_its_lock_file(mounted: Path, writable: Path, temporary: Path) -> None:
    (writable / "gallery.lock").unlink()
    with EdgeGallery.open(mounted) as gallery:
        assert gallery.count()


def test_holes_are_not_copied(mounted: Path, temporary: Path) -> None:
    with EdgeGallery.open(mounted):
        [copy] = temporary.iterdir()
        files = [path.stat() for path in copy.rglob("*") if path.is_file()]
    assert sum(file.st_size for file in files) > 50_000_000
    assert sum(file.st_blocks * 512 for file in files) < 20_000_000


def test_no_space_for_the_copy(
    mounted: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_only.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(GalleryUnavailable, match=r"a copy to search in needs \d+ MB.*set TMPDIR"):
        EdgeGallery.open(mounted)
    assert list(temporary.iterdir()) == []


def test_no_folder_for_the_copy(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(GalleryUnavailable, match=r"no copy to search in can be made.*set TMPDIR"):
        EdgeGallery.open(mounted)


def test_a_damaged_one_leaves_no_copy(mounted: Path, writable: Path, temporary: Path) -> None:
    segment = next(writable.rglob("segment.json"))
    segment.write_bytes(b"{")
    with pytest.raises(GalleryUnavailable, match="gallery"):
        EdgeGallery.open(mounted)
    assert list(temporary.iterdir()) == []


def test_a_forked_child_leaves_the_copy_to_its_parent(
    mounted: Path, points: Points, temporary: Path
) -> None:
    with EdgeGallery.open(mounted) as gallery:
        child = os.fork()
        if child == 0:
            gallery.close()
            assert isinstance(gallery._held, read_only.PrivateCopy)
            gallery._held.remove()
            os._exit(0)
        os.waitpid(child, 0)
        assert len(list(temporary.iterdir())) == 1
        assert gallery.count() == len(points)


def test_a_read_only_folder_that_is_no_gallery(mounted: Path, writable: Path) -> None:
    (writable / "gallery.json").unlink()
    with pytest.raises(GalleryNotFound, match="no gallery at"):
        EdgeGallery.open(mounted)
