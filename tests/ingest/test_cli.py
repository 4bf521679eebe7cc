"""The whole command in processes of its own: what is stored, rejected, unchanged, and printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fti_ingest.cli.main import main
from fti_ingest.stages import embed
from fti_qdrant.gallery import EdgeGallery, GallerySpec, VectorQuery, point_id
from fti_qdrant.model.fingerprint import Fingerprint
from tests.ingest.sources_and_runs import (
    Run,
    ingest,
    ingest_process,
    marked_processes,
    picture,
    read_rejects,
    small_disk,
    write_bad_pictures,
    write_csv,
    write_odd_pictures,
    write_pictures,
)

GOOD, BAD = 60, 8


@dataclass(frozen=True)
class Shop:
    """A manifest of good and bad pictures, and its first run.

    Attributes:
        bad: name -> a word of its reason.
    """

    root: Path
    good: list[str]
    bad: dict[str, str]
    first: Run

    @property
    def manifest(self) -> Path:
        return self.root / "products.csv"

    @property
    def gallery(self) -> Path:
        return self.root / "gallery"

    def contents(self) -> dict[str, dict[str, Any]]:
        """Point id -> payload."""
        with EdgeGallery.open(self.gallery) as gallery:
            return dict(gallery.scroll())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("shop")
    pictures = root / "pictures"
    good = [*write_pictures(pictures, GOOD - 5), *write_odd_pictures(pictures)]
    bad = write_bad_pictures(pictures)
    names = [name for pair in zip(good, [*bad, *good]) for name in pair]  # the bad among the good
    names = list(dict.fromkeys([*names, *good]))
    rows = [
        {
            "image": f"pictures/{name}",
            "id": number,
            "brand": "Acme" if number % 2 else "Umbra",
            "price": f"{number / 4}",
            "sku": f"{number:05d}",
            "in_stock": str(number % 3 == 0).lower(),
        }
        for number, name in enumerate(names)
    ]
    url = "https://example.org/remote.jpg"
    manifest = write_csv(root / "products.csv", [*rows, {**rows[0], "image": url}])
    first = ingest_process(manifest, "--gallery", "gallery", cwd=root)
    uris = {str(pictures / name): reason for name, reason in bad.items()}
    return Shop(root, good, {**uris, url: "--allow-urls"}, first)


def test_the_final_line_counts_every_image(shop: Shop) -> None:
    assert shop.first.code == 0, shop.first.err
    expected = f"{GOOD + BAD} images in: {GOOD} stored, 0 unchanged, {BAD} rejected"
    assert shop.first.line == expected
    first, *others = shop.first.out.splitlines()
    assert re.fullmatch(re.escape(expected) + r"(; [\d,]+\.\d images/s)?", first)
    assert others == [
        "columns: id integer, brand keyword, price float, sku keyword, in_stock bool",
        "rejected files are listed in gallery/rejects.jsonl",
    ]


def test_nothing_else_is_printed_and_no_process_is_left(shop: Shop) -> None:
    assert [line for line in shop.first.err.splitlines() if "images" not in line] == []
    assert f"{GOOD + BAD}/{GOOD + BAD}" in shop.first.err
    assert marked_processes(shop.first.mark) == {}


def test_each_bad_file_is_listed_with_its_reason(shop: Shop) -> None:
    rejects = read_rejects(shop.gallery / "rejects.jsonl")
    assert set(rejects) == set(shop.bad)
    for uri, reason in shop.bad.items():
        assert reason in rejects[uri]
        assert "\n" not in rejects[uri]


def test_payloads_keep_the_users_fields_and_add_ours(shop: Shop) -> None:
    contents = shop.contents()
    assert set(contents) == {point_id(f"pictures/{name}") for name in shop.good}
    payload = contents[point_id(f"pictures/{shop.good[0]}")]
    ours = payload.pop("_fti")
    assert payload == {"id": 0, "brand": "Umbra", "price": 0.0, "sku": "00000", "in_stock": True}
    assert ours["uri"] == str(shop.root / "pictures" / shop.good[0])
    assert (ours["width"], ours["height"]) == (48, 40)
    assert re.fullmatch("[0-9a-f]{64}", ours["sha256"])


def test_fields_are_indexed_by_type_and_filters_find(shop: Shop) -> None:
    from fti_qdrant.filters.grammar import as_filter

    with EdgeGallery.open(shop.gallery) as gallery:
        assert gallery.spec.indexes == {
            "id": "integer",
            "brand": "keyword",
            "price": "float",
            "sku": "keyword",
            "in_stock": "bool",
        }
        [stored] = gallery.retrieve([point_id(f"pictures/{shop.good[0]}")])
        wanted = as_filter({"brand": "Umbra", "in_stock": True, "price": {"lt": 1}})
        hits = gallery.search(VectorQuery(stored.vector, filter=wanted))
        assert hits[0].id == stored.id
        assert {hit.payload["brand"] for hit in hits} == {"Umbra"}


def test_vectors_are_those_of_the_pictures(shop: Shop) -> None:
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.images import open_image

    names = [shop.good[0], *shop.good[-5:]]
    images = [open_image(shop.root / "pictures" / name).image for name in names]
    expected = Composer.load("mini").backbone.image_features(images).pooled.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with EdgeGallery.open(shop.gallery) as gallery:
        stored = gallery.retrieve([point_id(f"pictures/{name}") for name in names])
    assert np.allclose([one.vector for one in stored], expected, atol=1e-5)


def test_running_again_changes_nothing_then_only_what_changed(shop: Shop) -> None:
    before, rejects = shop.contents(), read_rejects(shop.gallery / "rejects.jsonl")
    arguments = (shop.manifest, "--gallery", "gallery")
    again = ingest(*arguments, cwd=shop.root)
    assert again.line == f"{GOOD + BAD} images in: 0 stored, {GOOD} unchanged, {BAD} rejected", (
        again.err
    )
    assert shop.contents() == before
    assert read_rejects(shop.gallery / "rejects.jsonl") == rejects

    text = shop.manifest.read_text()
    row = next(line for line in text.splitlines() if shop.good[2] in line)
    shop.manifest.write_text(text.replace(row, row.replace("Umbra", "Zenith")))
    picture(999).save(shop.root / "pictures" / shop.good[1])
    changed = ingest(*arguments, cwd=shop.root)
    assert changed.line == (
        f"{GOOD + BAD} images in: 1 stored, {GOOD - 2} unchanged, {BAD} rejected, "
        "1 updated (payload only)"
    )
    after = shop.contents()
    ids = {point_id(f"pictures/{name}") for name in shop.good[1:3]}
    assert {id for id in after if after[id] != before[id]} == ids
    then, now = (one[point_id(f"pictures/{shop.good[2]}")] for one in (before, after))
    assert now["brand"] == "Zenith"
    assert now["_fti"] == {**then["_fti"], "revision": now["_fti"]["revision"]}
    assert len(set(now) ^ set(then)) == 0


def test_a_folder_with_pseudo_words(tmp_path: Path) -> None:
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.gallery.pseudo_words import stacked
    from fti_qdrant.images import open_image

    names = write_pictures(tmp_path / "photos" / "deep", 10)
    arguments = ("photos", "--gallery", "g", "--pseudo-words")
    run = ingest(*arguments, cwd=tmp_path)
    assert run.line == "10 images in: 10 stored, 0 unchanged, 0 rejected", run.err
    assert not (tmp_path / "g" / "rejects.jsonl").exists()
    with EdgeGallery.open(tmp_path / "g") as gallery:
        [stored] = gallery.retrieve([point_id(f"deep/{names[3]}")])
    composer = Composer.load("mini")
    image = open_image(tmp_path / "photos" / "deep" / names[3]).image
    references = composer.references(composer.backbone.image_features([image]), (1,))
    assert references.words is not None
    assert stored.words is not None
    assert np.allclose(stored.words, stacked(references.words)[0], atol=2e-3)
    assert stored.payload["_fti"]["r"] == references.words.counts[0]
    again = ingest("photos", "--gallery", "g", cwd=tmp_path)  # the gallery knows that it has them
    assert again.line == "10 images in: 0 stored, 10 unchanged, 0 rejected", again.err


def test_a_gallery_without_pseudo_words_gets_none(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    assert ingest("photos", "--gallery", "g", cwd=tmp_path).code == 0
    run = ingest("photos", "--gallery", "g", "--pseudo-words", cwd=tmp_path)
    assert run.code == 2
    assert "was made without pseudo-words; leave out --pseudo-words" in run.error


def test_only_bad_files_is_an_error_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    arguments = ("photos", "--gallery", "g")
    run = ingest(*arguments, "--rejects", "bad.jsonl", cwd=tmp_path)
    assert run.code == 2
    assert "no image could be stored, see bad.jsonl; the first one, " in run.error
    assert "0 bytes" in run.error
    assert list(read_rejects(tmp_path / "bad.jsonl")) == [str(tmp_path / "photos" / "a.jpg")]


def test_a_folder_that_holds_other_things_is_not_taken_for_a_gallery(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    before = sorted((tmp_path / "photos").iterdir())
    run = ingest("photos", "--gallery", "photos", cwd=tmp_path)
    assert run.code == 1
    assert (
        "'photos' is not a gallery, and it is not empty: it contains 'picture-000.jpg'" in run.error
    )
    assert sorted((tmp_path / "photos").iterdir()) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_folder_is_a_failure(tmp_path: Path, exists: bool) -> None:
    """As a mounted file system that allows no writing."""
    write_pictures(tmp_path / "photos", 1)
    disk = tmp_path / "disk"
    with small_disk(disk, 300):
        if exists:
            assert ingest("photos", "--gallery", "disk/g", cwd=tmp_path).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        run = ingest("photos", "--gallery", "disk/g", cwd=tmp_path)
    assert run.code == 1
    assert "Read-only file system" in run.error


def test_a_gallery_of_another_model_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    other = Fingerprint("other", "0123", "gelu", "targetpad", 512)
    EdgeGallery.create(tmp_path / "g", GallerySpec(fingerprint=other)).close()
    run = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert run.code == 2
    assert "was made with other (weights 0123" in run.error
    assert "the loaded model is mini" in run.error


def test_a_preprocessing_is_chosen_once_and_kept(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 2)
    new = ["photos", "--gallery", "g", "--model", "mini", "--preprocess", "squash"]
    assert ingest(*new, cwd=tmp_path).code == 0
    with EdgeGallery.open(tmp_path / "g") as gallery:
        assert gallery.spec.fingerprint.preprocess == "bicubic/squash-64"
    write_pictures(tmp_path / "photos", 3)
    again = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert again.line == "3 images in: 1 stored, 2 unchanged, 0 rejected"
    other = ingest("photos", "--gallery", "g", "--preprocess", "target-pad", cwd=tmp_path)
    assert other.code == 2
    assert "bicubic/squash-64, not with target-pad; leave out --preprocess" in other.error
    unknown = ingest("photos", "--gallery", "g", "--preprocess", "crop", cwd=tmp_path)
    assert unknown.code == 2
    assert "'target-pad', 'center-crop', 'squash'" in unknown.err


def test_a_gallery_that_is_open_elsewhere_is_a_failure(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    other = Fingerprint("other", "0123", "gelu", "targetpad", 512)
    with EdgeGallery.create(tmp_path / "g", GallerySpec(fingerprint=other)):
        run = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert run.code == 1
    assert "is open already" in run.error


def test_a_new_gallery_needs_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photographer must never get vectors of emoji drawings by default."""
    write_pictures(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["photos", "--gallery", "g"])
    assert done.exit_code == 2
    assert "a new gallery needs --model: for photos ViT-B-32/laion2b_s34b_b79k" in done.stderr
    assert not (tmp_path / "g").exists()
    assert ingest("photos", "--gallery", "g", "--model", "mini", cwd=tmp_path).code == 0
    done = CliRunner().invoke(main, ["photos", "--gallery", "g"])
    assert done.stdout.startswith("1 images in: 0 stored, 1 unchanged")


def test_no_model_is_loaded_where_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 3)
    assert ingest("photos", "--gallery", "g", cwd=tmp_path).code == 0

    def refuse(choice: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(embed, "_loaded", refuse)
    again = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert again.line == "3 images in: 0 stored, 3 unchanged, 0 rejected", again.err
    dry = ingest("photos", "--gallery", "g", "--dry-run", cwd=tmp_path)
    assert dry.code == 0, dry.err


@pytest.mark.parametrize("option", [("--help",), ("run", "--help")])
def test_help_shows_all_options(option: tuple[str, ...]) -> None:
    text = CliRunner().invoke(main, option).output
    for name in ("--gallery", "--model", "--engine", "--prune-at-most", "--metrics-port"):
        assert name in text
    assert "quantisation" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos"], "either --gallery DIR, or --url URL"),
        (["photos", "--url", "http://localhost:1"], "either --gallery DIR, or --url URL"),
        (["photos", "--gallery", "g", "--url", "u", "--collection", "c"], "either --gallery DIR"),
        (["nowhere", "--gallery", "g", "--model", "mini"], "no such file or folder"),
        (["photos", "--gallery", "g", "--model", "ViT-Z"], "unknown model 'ViT-Z'"),
        (["photos", "--gallery", "g", "--engine", "local", "--workers", "4"], "runs one worker"),
        (["photos", "--gallery", "g", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_manifest_may_be_jsonl_with_missing_fields(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 3)
    rows = [{"image": names[0], "size": "L"}, {"image": names[1], "size": 42}, {"image": names[2]}]
    lines = [*map(json.dumps, rows), "{broken"]
    (tmp_path / "shop.jsonl").write_text("\n".join(lines))
    arguments = ("shop.jsonl", "--gallery", "g")
    run = ingest(*arguments, cwd=tmp_path)
    assert run.line == "4 images in: 3 stored, 0 unchanged, 1 rejected", run.err
    assert list(read_rejects(tmp_path / "g" / "rejects.jsonl")) == ["shop.jsonl:4"]
    with EdgeGallery.open(tmp_path / "g") as gallery:
        payloads = [payload for _, payload in gallery.scroll()]
    for payload in payloads:
        del payload["_fti"]
    assert sorted(payloads, key=str) == [{"size": "L"}, {"size": 42}, {}]


def test_status_tells_what_the_gallery_holds(shop: Shop) -> None:
    told = CliRunner().invoke(main, ["status", "--gallery", str(shop.gallery), "--json"])
    assert told.exit_code == 0, told.output
    state = json.loads(told.output)
    assert (state["points"], state["indexed"]) == (GOOD, 0)
    assert state["spec"]["fingerprint"]["model"] == "mini"
    plain = CliRunner().invoke(main, ["status", "--gallery", str(shop.gallery)]).output
    assert re.search(rf"^points: +{GOOD}$", plain, re.MULTILINE)
    assert "price: float" in plain


def test_status_into_a_pipe_that_closes_is_silent(shop: Shop) -> None:
    """As ``fti-ingest status ... | head -3``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fti_ingest.cli", "status", "--gallery", str(shop.gallery)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_status_of_a_folder_that_can_be_no_gallery_advises_none(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    told = CliRunner().invoke(main, ["status", "--gallery", str(tmp_path / "photos")])
    assert told.exit_code == 1
    assert "is not a gallery, and it is not empty" in told.output
    assert "create one with" not in told.output


def test_status_of_nothing_is_one_line(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["status", "--gallery", str(tmp_path / "none")])
    assert told.exit_code == 2
    assert "no gallery at" in told.output
