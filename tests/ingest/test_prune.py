"""What has left the source: told by --dry-run, deleted by --prune, and never by mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fti_ingest.run.gallery_contents import Departed
from fti_ingest.run.prune import check_prunable
from fti_ingest.sources.read_source import read_source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import EdgeGallery, point_id
from tests.ingest.sources_and_runs import ingest, picture, write_pictures


def ids(gallery: Path) -> set[str]:
    with EdgeGallery.open(gallery) as opened:
        return {id for id, _ in opened.scroll()}


def test_dry_run_says_what_prune_does(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "photos", 12)
    asked = ("photos", "--gallery", "gallery")
    before = ingest(*asked, "--dry-run", cwd=tmp_path)
    assert before.code == 0, before.err
    assert before.out.startswith("12 images: 12 new and 0 changed would be stored")
    assert not (tmp_path / "gallery").exists()

    assert ingest(*asked, cwd=tmp_path).code == 0
    for name in names[:3]:
        (tmp_path / "photos" / name).unlink()
    picture(500).save(tmp_path / "photos" / names[4])
    picture(501).save(tmp_path / "photos" / "new.jpg")
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    held = ids(tmp_path / "gallery")
    prune = ("--prune", "--prune-at-most", "0.25")
    told = ingest(*asked, *prune, "--dry-run", cwd=tmp_path)
    assert "1 new and 1 changed would be stored, 8 are unchanged, 1 would be rejected" in told.out
    assert "3 in the gallery are no longer in the source. Nothing was written" in told.out
    gone = {line for line in told.out.splitlines() if line.startswith("no longer in the source: ")}
    assert gone == {f"no longer in the source: {tmp_path / 'photos' / name}" for name in names[:3]}
    assert f"would be rejected: {tmp_path / 'photos' / 'bad.jpg'}: " in told.out
    assert ids(tmp_path / "gallery") == held

    done = ingest(*asked, *prune, cwd=tmp_path)
    assert done.line == "11 images in: 2 stored, 8 unchanged, 1 rejected, 3 pruned"
    kept = [*names[3:], "new.jpg"]
    assert ids(tmp_path / "gallery") == {point_id(name) for name in kept}


def test_more_than_a_tenth_is_not_pruned_unless_asked_for(tmp_path: Path) -> None:
    """As where the wrong source is named."""
    write_pictures(tmp_path / "photos", 20)
    write_pictures(tmp_path / "wrong", 2, "other")
    asked = ("--gallery", "gallery", "--prune")
    assert ingest("photos", *asked, cwd=tmp_path).code == 0
    held = ids(tmp_path / "gallery")
    for option in ((), ("--dry-run",)):
        run = ingest("wrong", *asked, *option, cwd=tmp_path)
        assert run.code == 2
        assert "--prune would delete 20 of the 20 images in gallery 'gallery'" in run.error
        assert "more than 10%" in run.error
        assert "pass --prune-at-most 1" in run.error
        assert ids(tmp_path / "gallery") == held
    for name in ("picture-000.jpg", "picture-001.jpg"):  # exactly a tenth
        (tmp_path / "photos" / name).unlink()
    run = ingest("photos", *asked, cwd=tmp_path)
    assert run.line == "18 images in: 0 stored, 18 unchanged, 0 rejected, 2 pruned", run.err
    run = ingest("wrong", *asked, "--prune-at-most", "1", cwd=tmp_path)
    assert run.line == "2 images in: 2 stored, 0 unchanged, 0 rejected, 18 pruned", run.err


def test_a_picture_that_cannot_be_read_now_keeps_its_point(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "photos", 4)
    asked = ("photos", "--gallery", "gallery", "--prune")
    assert ingest(*asked, cwd=tmp_path).code == 0
    (tmp_path / "photos" / names[0]).write_bytes(b"")
    done = ingest(*asked, cwd=tmp_path)
    assert done.line == "4 images in: 0 stored, 3 unchanged, 1 rejected"
    assert ids(tmp_path / "gallery") == {point_id(name) for name in names}


def test_nothing_is_pruned_where_a_row_could_not_be_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2)
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text('{"image": "picture-000.jpg"}\n{"image": \n')
    source = read_source(str(manifest))
    with pytest.raises(BadManifest, match=r"rows\.jsonl:2: not JSON.*leave out --prune"):
        check_prunable(source, str(manifest))
    done = ingest(manifest, "--gallery", "gallery", "--prune", cwd=tmp_path)
    assert done.code == 2
    assert not (tmp_path / "gallery").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_nothing_is_pruned_where_a_folder_cannot_be_read(tmp_path: Path) -> None:
    write_pictures(tmp_path / "shut", 2)
    (tmp_path / "shut").chmod(0)
    try:
        with pytest.raises(BadManifest, match="the folder cannot be read"):
            check_prunable(read_source(str(tmp_path)), str(tmp_path))
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_duplicates_do_not_stop_pruning(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text('{"image": "picture-000.jpg"}\n{"image": "./picture-000.jpg"}\n')
    source = read_source(str(manifest))
    assert source.reject_count == 1
    check_prunable(source, str(manifest))


def test_departed_are_those_that_the_source_does_not_list(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 3)

    names = ["picture-001.jpg", "elsewhere.jpg", "picture-000.jpg"]
    held: list[tuple[str, dict[str, object]]] = [(point_id(name), {}) for name in names]
    source = read_source(str(tmp_path / "photos"))
    for stay in (True, False):
        told: list[str] = []
        departed = Departed(source, stay, report=told.append)
        passed = [id for id, _ in departed.watch(held)]
        assert list(departed.ids()) == told == [point_id("elsewhere.jpg")]
        assert passed == [id for id, _ in held if stay or id not in told]
