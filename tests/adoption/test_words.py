"""``fti-ingest words``: pseudo-words for galleries that were made without them, on every store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from qdrant_client import QdrantClient, models

from fti_ingest.cli.main import main
from fti_ingest.run.words import WordsJob, add_words
from fti_qdrant import ComposedSearch
from fti_qdrant.adoption.attach import adopt
from fti_qdrant.adoption.declaration import Declaration
from fti_qdrant.errors import BadCollection, ModelMismatch
from fti_qdrant.gallery import Gallery, ServerGallery, connect
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.model.inverter_loading import load_inverter, save_inverter
from tests.adoption.collections import make_collection
from tests.qdrant_standin import Standin, serving_standin

FEW = 8

WRITES = ("PUT ", "PATCH ", "DELETE ")


@dataclass
class Shop:
    """An adopted collection of eight images, two of which cannot be read.

    Attributes:
        standin: where it is.
    """

    client: QdrantClient
    url: str
    grpc_port: int | None
    standin: Standin
    folder: Path

    def open(self) -> ServerGallery:
        return ServerGallery.open(self.client, "shop")

    def words(self, *more: str) -> Result:
        location = ["--url", self.url, "--collection", "shop"]
        if self.grpc_port is not None:
            location += ["--grpc", "--grpc-port", str(self.grpc_port)]
        rejects = ["--rejects", str(self.folder / "rejects.jsonl")]
        return CliRunner().invoke(main, ["words", *location, *rejects, *more])


STORES = ["1.18.3", "1.17.0", "grpc"]


@pytest.fixture(params=STORES)
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, vectors: np.ndarray, paths: list[Path]
) -> Iterator[Shop]:
    standin = Standin(str(tmp_path / "server"))
    if request.param != "grpc":
        standin.version = request.param
    (tmp_path / "text.png").write_text("no picture")
    with ExitStack() as stack:
        if request.param == "grpc":
            port = stack.enter_context(serving_standin(standin, grpc=True))
            url = "http://127.0.0.1:1"
            client = connect(url, grpc_port=port)
        else:
            url, port = f"http://127.0.0.1:{stack.enter_context(serving_standin(standin))}", None
            client = connect(url)
        places: list[Any] = [*paths[: FEW - 2], tmp_path / "gone.png", tmp_path / "text.png"]
        make_collection(client, vectors[:FEW], places)
        adopt(client, "shop", Declaration("mini", uri_field="image_url", key_field="sku"))
        yield Shop(client, url, port, standin, tmp_path)


def expected_words(paths: list[Path]) -> dict[int, np.ndarray]:
    """Subject and used attributes by id, straight from the model."""
    import torch
    from PIL import Image

    from fti_qdrant import Composer

    composer = Composer.load("mini", device="cpu")
    with torch.inference_mode():
        images = [Image.open(path).convert("RGB") for path in paths]
        assert composer.inverter is not None
        recipe = composer.backbone.preprocess.by(composer.inverter.preprocess)
        words = composer.inverter(composer.backbone.image_features(images, recipe))
    both = torch.cat([words.subject[:, None], words.attributes], 1).numpy()
    return {100 + row: both[row, : 1 + int(words.counts[row])] for row in range(len(paths))}


def stored(gallery: Gallery) -> dict[Any, np.ndarray | None]:
    return {one.id: one.words for one in gallery.retrieve([id for id, _ in gallery.scroll()])}


def check_stored(gallery: Gallery, paths: list[Path]) -> None:
    """Those of the readable images, in float16, and none of the others."""
    found, expected = stored(gallery), expected_words(paths[: FEW - 2])
    assert {id for id, words in found.items() if words is not None} == set(expected)
    for id, rows in expected.items():
        words = found[id]
        assert words is not None
        assert words.shape == rows.shape
        assert np.allclose(words, rows, atol=2e-3, rtol=2e-3)


def test_words_are_added_and_used(shop: Shop, paths: list[Path]) -> None:
    before = {one.id: one.payload for one in shop.client.scroll("shop", limit=99)[0]}
    done = shop.words()
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("6 images got pseudo-words, 0 had them, 2 rejected;")
    rows = [json.loads(line) for line in (shop.folder / "rejects.jsonl").read_text().splitlines()]
    assert {Path(row["uri"]).name: row["reason"] for row in rows} == {
        "gone.png": "no such file",
        "text.png": "it is not an image (a text file)"
        if "text file" in rows[1]["reason"]
        else rows[1]["reason"],
    }
    gallery = shop.open()
    check_stored(gallery, paths)
    beside = gallery.spec.layout.words_collection
    assert beside == ("shop-pseudo-words" if shop.standin.version == "1.17.0" else None)
    assert {one.id: one.payload for one in shop.client.scroll("shop", limit=99)[0]} == before

    search = ComposedSearch.connect(shop.client, "shop", device="cpu")
    hits = search.query(101, "in red")
    assert (hits.composer, hits.query.warnings) == ("pdv", ())
    same = search.query(paths[1], "in red", exclude_reference=False)
    scores = {hit.id: hit.score for hit in same}
    assert all(abs(scores[hit.id] - hit.score) < 5e-3 for hit in hits)
    lacking = search.query(106, "in red")
    assert lacking.composer == "sum"
    assert "stores no pseudo-words for image 106" in lacking.query.warnings[0]
    assert "fti-ingest words" in lacking.query.warnings[0]


def test_a_second_run_does_only_what_is_missing(shop: Shop, paths: list[Path]) -> None:
    assert shop.words().exit_code == 0
    shop.standin.asked.clear()
    again = shop.words()
    assert again.exit_code == 2, "the two that are left cannot be read"
    assert "no image got pseudo-words" in again.stderr
    assert [one for one in shop.standin.asked if one.startswith(WRITES)] == []
    (shop.folder / "gone.png").write_bytes(paths[6].read_bytes())
    third = shop.words()
    assert third.stdout.startswith("1 images got pseudo-words, 6 had them, 1 rejected;")
    assert stored(shop.open())[106] is not None


def test_a_new_vector_is_kept_out_of_the_index_before_anything_is_in_it(shop: Shop) -> None:
    shop.standin.asked.clear()
    shop.words()
    writes = [one for one in shop.standin.asked if one.startswith(WRITES)]
    if shop.standin.version == "1.17.0":
        assert writes[0] == "PUT /collections/shop-pseudo-words"
        params = shop.client.get_collection("shop-pseudo-words").config.params.vectors
    else:
        assert writes[:3] == [
            "PUT /collections/shop/vectors/pseudo_words",
            "PATCH /collections/shop",
            "PATCH /collections/shop",
        ]
        params = shop.client.get_collection("shop").config.params.vectors
    assert set(writes[3:]) <= {
        "PUT /collections/shop/points/vectors",
        "PUT /collections/shop-pseudo-words/points",
    }
    words = params["pseudo_words"]  # type: ignore[index]
    assert words.hnsw_config.m == 0
    assert words.on_disk is True
    assert words.multivector_config is not None
    assert words.datatype == models.Datatype.FLOAT16


@pytest.mark.parametrize("shop", ["1.18.3"], indirect=True)
def test_a_killed_run_goes_on(
    shop: Shop, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its writes in turn, until nothing is left to stop."""
    import fti_qdrant.gallery.server as server

    class Killed(BaseException):
        pass

    plain = server.ServerGallery._write
    left = 0

    def write(self: ServerGallery, *args: Any, **options: Any) -> Any:
        nonlocal left
        result = plain(self, *args, **options)
        left -= 1
        if left == 0:
            raise Killed
        return result

    monkeypatch.setattr("fti_ingest.run.words.PAGE", 3)
    monkeypatch.setattr(server.ServerGallery, "_write", write)
    kills = 0
    for stop in (1, 2, 1, 1):
        left = stop
        try:
            done = shop.words()
        except Killed:
            kills += 1
        else:
            kills += isinstance(done.exception, Killed)
    assert kills >= 3
    monkeypatch.undo()
    shop.words()
    check_stored(shop.open(), paths)


@pytest.mark.parametrize("shop", ["1.17.0", "grpc"], indirect=True)
def test_ingest_goes_on_with_pseudo_words(shop: Shop, paths: list[Path], tmp_path: Path) -> None:
    """A new image gets them, and a deleted one leaves none behind."""
    from tests.ingest.sources_and_runs import ingest

    shop.words()
    manifest = tmp_path / "new.jsonl"
    rows = [{"image": str(paths[9]), "sku": 900, "brand": "Neu"}, {"image": "x.png", "sku": 101}]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    location = ["--url", shop.url, "--collection", "shop"]
    if shop.grpc_port is not None:
        location += ["--grpc", "--grpc-port", str(shop.grpc_port)]
    done = ingest(manifest, *location, "--model", "mini", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.line == (
        "2 images in: 1 stored, 0 unchanged, 0 rejected, 1 left as another program stored them"
    )
    [new] = shop.open().retrieve([900])
    assert new.words is not None
    assert new.payload["image_url"] == str(paths[9])
    assert new.payload["brand"] == "Neu"
    shop.open().delete([900, 101])
    assert set(stored(shop.open())) == set(range(100, 108)) - {101}


@pytest.mark.parametrize("shop", ["1.17.0"], indirect=True)
def test_a_collection_beside_may_go(shop: Shop) -> None:
    """Its images can be searched on, as if none had been made."""
    shop.words()
    search = ComposedSearch.connect(shop.client, "shop", device="cpu")
    assert search.query(103, "in red").composer == "pdv"
    shop.client.delete_collection("shop-pseudo-words")
    assert search.query(103, "in red").composer == "sum"


@dataclass
class Here:
    """The location of a collection in this process's memory."""

    client: QdrantClient

    def open(self) -> ServerGallery:
        gallery = ServerGallery.open(self.client, "shop")
        gallery.owns_client = False
        return gallery


def test_in_local_mode_too(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, vectors[:FEW], paths[:FEW], vector="photo")
    adopt(client, "shop", Declaration("mini", uri_field="image_url"))
    report = add_words(WordsJob(Here(client)))  # type: ignore[arg-type]
    assert (report.stored, report.rejected) == (FEW, 0)
    search = ComposedSearch.connect(client, "shop", device="cpu")
    assert search.query(103, "in red").composer == "pdv"


def test_an_embedded_gallery_gets_them_in_place(tmp_path: Path, paths: list[Path]) -> None:
    from tests.ingest.sources_and_runs import ingest

    manifest = tmp_path / "images.jsonl"
    lines = [json.dumps({"image": str(path), "n": n}) for n, path in enumerate(paths[:FEW])]
    manifest.write_text("\n".join(lines))
    ingest(manifest, "--gallery", "plain", cwd=tmp_path)
    done = CliRunner().invoke(main, ["words", "--gallery", str(tmp_path / "plain")])
    assert done.stdout.startswith("8 images got pseudo-words, 0 had them, 0 rejected;"), done.stderr
    again = CliRunner().invoke(main, ["words", "--gallery", str(tmp_path / "plain")])
    assert again.stdout.startswith("0 images got pseudo-words, 8 had them, 0 rejected;")
    ingest(manifest, "--gallery", "made", "--pseudo-words", cwd=tmp_path)
    with ComposedSearch.open(tmp_path / "plain", device="cpu") as plain:
        [id] = [id for id, payload in plain.gallery.scroll() if payload["n"] == 2]
        added = plain.query(id, "in red", limit=5)
        plain.gallery.build_index()
    with ComposedSearch.open(tmp_path / "made", device="cpu") as made:
        wanted = made.query(id, "in red", limit=5)
    assert added.composer == wanted.composer == "pdv"
    assert [hit.id for hit in added] == [hit.id for hit in wanted]
    assert np.allclose([hit.score for hit in added], [hit.score for hit in wanted], atol=1e-3)
    more = [*lines, json.dumps({"image": str(paths[FEW]), "n": 8})]
    manifest.write_text("\n".join([*more[:2], more[2].replace('"n": 2', '"n": 22'), *more[3:]]))
    third = ingest(manifest, "--gallery", "plain", cwd=tmp_path)
    assert third.line.startswith("9 images in: 1 stored, 7 unchanged, 0 rejected, 1 updated")
    with EmbeddedLocation(tmp_path / "plain").open() as gallery:
        assert all(words is not None for words in stored(gallery).values())


def test_what_words_refuses(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], tmp_path: Path
) -> None:
    job = WordsJob(Here(client), rejects=tmp_path / "rejects.jsonl")  # type: ignore[arg-type]
    make_collection(client, vectors[:4], paths[:4])
    adopt(client, "shop", Declaration("mini"))
    with pytest.raises(BadCollection, match=r"nothing says where the images .* --uri-field"):
        add_words(job)
    client.delete_collection("shop")
    theirs = models.VectorParams(size=8, distance=models.Distance.COSINE)
    make_collection(client, vectors[:4], paths[:4], vector="photo", pseudo_words=theirs)
    adopt(client, "shop", Declaration("mini", vector="photo", uri_field="image_url"))
    with pytest.raises(BadCollection, match=r"vector 'pseudo_words' of another program \(8 dimen"):
        add_words(job)
    client.delete_collection("shop")
    make_collection(client, vectors[:4], paths[:4])
    adopt(client, "shop", Declaration("mini", uri_field="image_url"))
    add_words(job)
    other = load_inverter("mini")
    next(iter(other.parameters())).data.add_(1)
    save_inverter(other, tmp_path / "other")
    with pytest.raises(ModelMismatch, match=r"stores pseudo-words of inverter .* leave out --inv"):
        add_words(replace(job, inverter=str(tmp_path / "other")))


@pytest.mark.parametrize("shop", ["1.17.0"], indirect=True)
def test_a_taken_name_is_refused(shop: Shop) -> None:
    shop.client.create_collection(
        "shop-pseudo-words",
        vectors_config=models.VectorParams(size=3, distance=models.Distance.DOT),
    )
    done = shop.words()
    assert done.exit_code == 2
    assert (
        "exists, and does not hold the pseudo-words of 'shop'; rename or remove it" in done.stderr
    )
