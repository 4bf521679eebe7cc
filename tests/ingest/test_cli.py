"""The whole command in processes of its own: what is stored, rejected, unchanged, and printed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fti_ingest.cli.main import main
from fti_qdrant.gallery import EdgeGallery, GallerySpec, VectorQuery, point_id
from fti_qdrant.model.fingerprint import Fingerprint
from tests.ingest.sources_and_runs import (
    Run,
    ingest,
    picture,
    read_rejects,
    wait_until_gone,
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
    first = ingest(manifest, "--gallery", "gallery", cwd=root)
    uris = {str(pictures / name): reason for name, reason in bad.items()}
    return Shop(root, good, {**uris, url: "--allow-urls"}, first)


def test_the_final_line_counts_every_image(shop: Shop) -> None:
    assert shop.first.code == 0, shop.first.err
    expected = f"{GOOD + BAD} images in: {GOOD} stored, 0 unchanged, {BAD} rejected"
    assert shop.first.line == expected
    first, *others = shop.first.out.splitlines()
    assert re.fullmatch(re.escape(expected) + r"(; [\d,]+\.\d images/s)?", first)
    assert others == ["rejected files are listed in gallery/rejects.jsonl"]


def test_nothing_else_is_printed_and_ray_is_gone(shop: Shop) -> None:
    assert [line for line in shop.first.err.splitlines() if "images" not in line] == []
    assert f"{GOOD + BAD}/{GOOD + BAD}" in shop.first.err
    assert wait_until_gone(shop.first.mark) == []


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
    from fti_qdrant.filters import as_filter

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


def test_running_again_changes_nothing_then_only_what_changed(
    shop: Shop, ray_cluster: dict[str, str]
) -> None:
    before, rejects = shop.contents(), read_rejects(shop.gallery / "rejects.jsonl")
    arguments = (shop.manifest, "--gallery", "gallery")
    again = ingest(*arguments, cwd=shop.root, **ray_cluster)
    assert again.line == f"{GOOD + BAD} images in: 0 stored, {GOOD} unchanged, {BAD} rejected", (
        again.err
    )
    assert shop.contents() == before
    assert read_rejects(shop.gallery / "rejects.jsonl") == rejects

    text = shop.manifest.read_text()
    row = next(line for line in text.splitlines() if shop.good[2] in line)
    shop.manifest.write_text(text.replace(row, row.replace("Umbra", "Zenith")))
    picture(999).save(shop.root / "pictures" / shop.good[1])
    changed = ingest(*arguments, cwd=shop.root, **ray_cluster)
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


def test_a_folder_with_pseudo_words(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.gallery.pseudo_words import stacked
    from fti_qdrant.images import open_image

    names = write_pictures(tmp_path / "photos" / "deep", 10)
    arguments = ("photos", "--gallery", "g", "--pseudo-words")
    run = ingest(*arguments, cwd=tmp_path, **ray_cluster)
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
    without = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert without.code == 2
    assert "created with pseudo-words" in without.error


def test_only_bad_files_is_an_error_of_the_input(
    tmp_path: Path, ray_cluster: dict[str, str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    arguments = ("photos", "--gallery", "g")
    run = ingest(*arguments, "--rejects", "bad.jsonl", cwd=tmp_path, **ray_cluster)
    assert run.code == 2
    assert run.line == "1 images in: 0 stored, 0 unchanged, 1 rejected"
    assert "no image could be stored" in run.error
    assert list(read_rejects(tmp_path / "bad.jsonl")) == [str(tmp_path / "photos" / "a.jpg")]


def test_a_gallery_of_another_model_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    other = Fingerprint("other", "0123", "gelu", "targetpad", 512)
    EdgeGallery.create(tmp_path / "g", GallerySpec(fingerprint=other)).close()
    run = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert run.code == 2
    assert "was made with other (weights 0123" in run.error
    assert "the loaded model is mini" in run.error


def test_a_gallery_that_is_open_elsewhere_is_a_failure(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    other = Fingerprint("other", "0123", "gelu", "targetpad", 512)
    with EdgeGallery.create(tmp_path / "g", GallerySpec(fingerprint=other)):
        run = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert run.code == 1
    assert "is open already" in run.error


def test_gpus_that_are_not_there(tmp_path: Path) -> None:
    """Ray would wait for them for ever; to a cluster that is joined they may come."""
    write_pictures(tmp_path / "photos", 1)
    asked = ("photos", "--gallery", "g", "--workers", "2", "--gpus-per-worker", "500")
    run = ingest(*asked, cwd=tmp_path)
    assert run.code == 2
    assert "workers=2 with gpus_per_worker=500 need 1000 GPUs; the cluster has" in run.error


def test_a_cluster_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    arguments = ("photos", "--gallery", "g", "--ray-address", "127.0.0.1:1")
    run = ingest(*arguments, cwd=tmp_path)
    assert run.code == 1
    assert "Ray cluster 127.0.0.1:1: it does not answer" in run.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos"], "either --gallery DIR, or --url URL"),
        (["photos", "--url", "http://localhost:1"], "either --gallery DIR, or --url URL"),
        (["photos", "--gallery", "g", "--url", "u", "--collection", "c"], "either --gallery DIR"),
        (["nowhere", "--gallery", "g"], "no such file or folder"),
        (["photos", "--gallery", "g", "--model", "ViT-Z"], "unknown model 'ViT-Z'"),
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


def test_the_manifest_may_be_jsonl_with_missing_fields(
    tmp_path: Path, ray_cluster: dict[str, str]
) -> None:
    names = write_pictures(tmp_path, 3)
    rows = [{"image": names[0], "size": "L"}, {"image": names[1], "size": 42}, {"image": names[2]}]
    lines = [*map(json.dumps, rows), "{broken"]
    (tmp_path / "shop.jsonl").write_text("\n".join(lines))
    arguments = ("shop.jsonl", "--gallery", "g")
    run = ingest(*arguments, cwd=tmp_path, **ray_cluster)
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


def test_status_of_nothing_is_one_line(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["status", "--gallery", str(tmp_path / "none")])
    assert told.exit_code == 2
    assert "no gallery at" in told.output
