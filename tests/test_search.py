"""``ComposedSearch`` on the embedded engine, with a tiny random model saved to disk.

What the model finds means nothing; what is checked is that every way to ask for the same thing
finds the same, and that the numbers are those of the composer and of a brute force.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from qdrant_client import QdrantClient, models
from safetensors.torch import save_file

from fti_qdrant import ComposedSearch, Composer, EdgeGallery, Query, ServerGallery
from fti_qdrant.errors import (
    BadFilter,
    BadImage,
    BadQuery,
    GalleryNotFound,
    GalleryUnavailable,
    ModelMismatch,
    PromptTooLong,
    UnknownImageId,
)
from fti_qdrant.gallery import GalleryPoint, GallerySpec, WordsSpec, point_id
from fti_qdrant.gallery.words import stacked
from fti_qdrant.hits import Hits
from fti_qdrant.images import open_image

TEXT = "in red, with long sleeves"
WORDS = ["cat", "dog", "house", "tree", "car", "red", "blue", "green"]


def save_model(folder: Path, config: dict[str, Any], seed: int) -> str:
    """A random CLIP as open_clip loads it; returns its name."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    with torch.no_grad():
        model.token_embedding.weight.normal_(std=0.5)
        model.positional_embedding.normal_(std=0.3)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "words.txt").write_text("\n".join(WORDS))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def model(folder: Path, tiny_config_once: dict[str, Any]) -> str:
    return save_model(folder / "model", tiny_config_once, 1)


@pytest.fixture(scope="module")
def tiny_config_once(tiny_clip: Any) -> dict[str, Any]:
    """The session's tiny model as a config of its own."""
    towers = {
        "embed_dim": 64,
        "vision_cfg": dict(image_size=32, patch_size=16, width=48, head_width=16, layers=2),
        "text_cfg": dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=2),
    }
    return {"model_cfg": towers, "preprocess_cfg": tiny_clip.visual.preprocess_cfg}


@pytest.fixture(scope="module")
def inverter(folder: Path, tiny_composer: Composer) -> str:
    assert tiny_composer.inverter is not None
    tiny_composer.inverter.save_pretrained(folder / "inverter")
    return str(folder / "inverter")


@pytest.fixture(scope="module")
def composer(model: str, inverter: str) -> Composer:
    return Composer.load(model, inverter, device="cpu")


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    """Twelve pictures; the last holds the same bytes as the first."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    made = [folder / "pictures" / f"{number}.png" for number in range(12)]
    for path in made[:-1]:
        patches = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        patches.resize((48, 40), Image.Resampling.NEAREST).save(path)
    made[-1].write_bytes(made[0].read_bytes())
    return made


def spec_for(composer: Composer, *, words: bool = True) -> GallerySpec:
    inverter = composer.inverter
    assert inverter is not None
    stored = WordsSpec(inverter=inverter.weights_hash, topk=inverter.topk, token_dim=64)
    return GallerySpec(
        fingerprint=composer.backbone.fingerprint,
        indexes={"price": "float"},
        words=stored if words else None,
    )


def points_of(composer: Composer, paths: list[Path]) -> list[GalleryPoint]:
    loaded = [open_image(path) for path in paths]
    features = composer.backbone.image_features([one.image for one in loaded])
    assert composer.inverter is not None
    with torch.inference_mode():
        words = composer.inverter(features)
    return [
        GalleryPoint(
            point_id(path.name),
            vector.numpy(),
            {
                "name": path.stem,
                "price": float(number),
                "colour": ["red", "blue"][number % 2],
                "shelf": {"row": number},
                "_fti": {"uri": str(path), "sha256": one.sha256, "r": int(words.counts[number])},
            },
            stored,
        )
        for number, (path, one, vector, stored) in enumerate(
            zip(paths, loaded, features.pooled, stacked(words))
        )
    ]


@pytest.fixture(scope="module")
def points(composer: Composer, paths: list[Path]) -> list[GalleryPoint]:
    return points_of(composer, paths)


@pytest.fixture(scope="module")
def search(
    folder: Path, composer: Composer, inverter: str, points: list[GalleryPoint]
) -> Iterator[ComposedSearch]:
    with EdgeGallery.create(folder / "gallery", spec_for(composer)) as gallery:
        gallery.upsert(points)
    with ComposedSearch.open(folder / "gallery", inverter=inverter, device="cpu") as opened:
        yield opened


@pytest.fixture
def memory(composer: Composer) -> Iterator[ServerGallery]:
    """An empty gallery without pseudo-words."""
    with pytest.warns(UserWarning, match="Payload indexes"):
        spec = spec_for(composer, words=False)
        gallery = ServerGallery.create(QdrantClient(":memory:"), "shop", spec)
    yield gallery
    gallery.close()


def scores(hits: Hits) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


def same(first: Hits, second: Hits, tolerance: float = 1e-5) -> None:
    assert [hit.id for hit in first] == [hit.id for hit in second]
    assert scores(first) == pytest.approx(scores(second), abs=tolerance)


def cosines(vector: torch.Tensor, points: list[GalleryPoint]) -> dict[str, float]:
    query = vector.numpy() / np.linalg.norm(vector.numpy())
    return {
        point.id: float(point.vector @ query / np.linalg.norm(point.vector)) for point in points
    }


# --- the numbers


@pytest.mark.parametrize("method", ["fti", "subject", "sum", "slerp"])
def test_scores_are_the_composers(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path], method: str
) -> None:
    hits = search.query(paths[2], TEXT, composer=method, limit=12, exclude_reference=False)
    vector = search.composer.compose([open_image(paths[2]).image], [TEXT], method)[0]
    assert scores(hits) == pytest.approx(cosines(vector, points), abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits.query.composer == method


def test_text_alone(search: ComposedSearch, points: list[GalleryPoint]) -> None:
    hits = search.query(text=f"  {TEXT}\n", limit=12)
    vector = search.composer.backbone.texts([TEXT])[0]
    assert scores(hits) == pytest.approx(cosines(vector, points), abs=1e-5)
    assert hits.query.composer == "text"


@pytest.mark.parametrize("text", [None, "", "  "])
def test_image_alone(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path], text: str | None
) -> None:
    hits = search.query(paths[2], text, limit=12, exclude_reference=False)
    assert (hits[0].id, hits.query.composer) == (points[2].id, "image")
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    expected = cosines(torch.from_numpy(points[2].vector), points)
    assert scores(hits) == pytest.approx(expected, abs=1e-5)


def test_a_list_of_pictures_is_one_query(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path]
) -> None:
    composer = search.composer
    features = composer.backbone.image_features([open_image(path).image for path in paths[2:4]])
    composed = composer.compose_references(composer.references(features, [2]), [TEXT])
    hits = search.query(paths[2:4], TEXT, limit=12, exclude_reference=False)
    assert scores(hits) == pytest.approx(cosines(composed.vectors[0], points), abs=1e-5)
    assert points[2].id not in scores(search.query(paths[2:4], TEXT, limit=12))
    assert points[3].id not in scores(search.query(paths[2:4], TEXT, limit=12))
    same(search.query([paths[2]], TEXT), search.query(paths[2], TEXT))


# --- ways to name the reference


def test_every_source_finds_the_same(search: ComposedSearch, paths: list[Path]) -> None:
    by_path = search.query(paths[3], TEXT, exclude_reference=False)
    picture = Image.open(paths[3])
    with paths[3].open("rb") as file:
        sources = [str(paths[3]), paths[3].read_bytes(), file, picture, np.array(picture)]
        for source in sources:
            same(search.query(source, TEXT, exclude_reference=False), by_path)


def test_a_stored_id_needs_no_picture(
    tmp_path: Path, composer: Composer, paths: list[Path]
) -> None:
    copies = [tmp_path / path.name for path in paths[:6]]
    for path, copy in zip(paths, copies):
        copy.write_bytes(path.read_bytes())
    with EdgeGallery.create(tmp_path / "gallery", spec_for(composer)) as gallery:
        gallery.upsert(points_of(composer, copies))
        search = ComposedSearch(composer, gallery)
        by_picture = [search.query(copy, TEXT) for copy in copies]
        for copy in copies:
            copy.unlink()
        for copy, before in zip(copies, by_picture):
            same(search.query(point_id(copy.name), TEXT), before, 2e-3)  # float16
            same(search.query(uuid.UUID(point_id(copy.name)), TEXT), before, 2e-3)
        without_text = search.query(point_id(copies[0].name))
        assert without_text.query.composer == "image"


def test_stored_and_fresh_references_mix(search: ComposedSearch, paths: list[Path]) -> None:
    fresh = search.query(paths[2:4], TEXT)
    same(search.query([point_id("2.png"), paths[3]], TEXT), fresh, 2e-3)
    same(search.query([paths[2], point_id("3.png").upper()], TEXT), fresh, 2e-3)


def test_unknown_id(search: ComposedSearch) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(UnknownImageId, match=f"holds no image {unknown}"):
        search.query(unknown, TEXT)


def test_the_reference_is_left_out(search: ComposedSearch, paths: list[Path]) -> None:
    """By the content of its file: the last picture is the first under another name."""
    twins = {point_id("0.png"), point_id("11.png")}
    for reference in (paths[0], paths[11], paths[0].read_bytes()):
        assert not twins & scores(search.query(reference, TEXT, limit=12)).keys()
    kept = search.query(paths[0], limit=12, exclude_reference=False)
    assert {hit.id for hit in kept[:2]} == twins
    by_id = search.query(point_id("0.png"), TEXT, limit=12)
    assert point_id("0.png") not in scores(by_id)
    assert len(by_id) == 11
    assert len(search.query(point_id("0.png"), TEXT, limit=12, exclude_reference=False)) == 12


# --- filters, limits, thresholds


def test_filters(search: ComposedSearch, paths: list[Path]) -> None:
    everything = search.query(paths[2], TEXT, limit=12)
    wanted = {"price": {"gte": 3, "lt": 9}, "colour": "blue"}
    hits = search.query(paths[2], TEXT, filter=wanted, limit=12)
    assert [hit.id for hit in hits] == [
        hit.id for hit in everything if hit.payload["name"] in ("3", "5", "7")
    ]
    ready = models.Filter(must=[models.FieldCondition(key="shelf.row", range=models.Range(gt=8))])
    assert {hit.payload["name"] for hit in search.query(text=TEXT, filter=ready)} == {
        *("9", "10", "11")
    }
    assert search.query(text=TEXT, filter={"colour": "green"}) == []


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ({"color": "red"}, "color"),
        ({"colour": "red", "not": {"or": [{"cost": 1}]}}, "cost"),
        ({"shelf.column": 1}, r"shelf\.column"),
        ({"shelf row": 1}, '"shelf row"'),
    ],
)
def test_unknown_field(search: ComposedSearch, filter: dict[str, Any], field: str) -> None:
    fields = "fields are: colour, name, price, shelf"
    with pytest.raises(BadFilter, match=f"{field}: no image has this field; {fields}"):
        search.query(text=TEXT, filter=filter)


def test_bad_filter(search: ComposedSearch) -> None:
    with pytest.raises(BadFilter, match="price: unknown operator 'below'"):
        search.query(text=TEXT, filter={"price": {"below": 3}})


def test_score_threshold(search: ComposedSearch) -> None:
    hits = search.query(text=TEXT, limit=12)
    middle = (hits[4].score + hits[5].score) / 2
    same(search.query(text=TEXT, limit=12, score_threshold=middle), Hits(hits[:5], hits.query))
    assert search.query(text=TEXT, score_threshold=1) == []


def test_with_vectors(search: ComposedSearch, points: list[GalleryPoint]) -> None:
    stored = {point.id: point.vector / np.linalg.norm(point.vector) for point in points}
    for hit in search.query(text=TEXT, limit=3, with_vectors=True):
        assert hit.vector is not None
        np.testing.assert_allclose(hit.vector, stored[hit.id], atol=1e-6)
    assert search.query(text=TEXT, limit=1)[0].vector is None


def test_hits_carry_the_payload_and_the_place(search: ComposedSearch, paths: list[Path]) -> None:
    hit = search.query(paths[4], exclude_reference=False, limit=1)[0]
    assert hit.uri == str(paths[4])
    assert hit.payload == {"name": "4", "price": 4.0, "colour": "red", "shelf": {"row": 4}}


# --- several at once


def test_query_many_equals_one_by_one(search: ComposedSearch, paths: list[Path]) -> None:
    asked: list[Query | dict[str, Any]] = [
        Query(paths[1], TEXT),
        {"image": paths[2], "text": "as a cat", "composer": "sum", "limit": 3},
        Query(text="a dog"),
        Query(paths[1:5], "all of them", filter={"colour": "red"}),
        Query(paths[6]),
        Query(point_id("7.png"), TEXT, exclude_reference=False),
        Query([paths[8], point_id("9.png")], "both", composer="subject", limit=12),
        Query(paths[3], "a long " + "very " * 100 + "text", score_threshold=-0.5),
    ]
    together = search.query_many(asked)
    for one, hits in zip(asked, together):
        alone = search.query_many([one])[0]
        same(alone, hits)
        assert alone.query == hits.query
    assert search.query_many([]) == []
    methods = [hits.query.composer for hits in together]
    assert methods == ["fti", "sum", "text", "fti", "image", "fti", "subject", "fti"]


def test_a_text_that_is_too_long_is_told(search: ComposedSearch, paths: list[Path]) -> None:
    long = "very " * 100 + "red"
    for hits in (search.query(paths[1], long), search.query(text=long)):
        assert len(hits.query.warnings) == 1
        assert "longer than the model's context" in hits.query.warnings[0]
    assert search.query(paths[1], TEXT).query.warnings == ()


def test_too_many_references(search: ComposedSearch, paths: list[Path]) -> None:
    with pytest.raises(PromptTooLong, match="use fewer reference images"):
        search.query(paths * 4, TEXT)


def test_threads_get_the_answers_of_one(search: ComposedSearch, paths: list[Path]) -> None:
    asked = [Query(path, TEXT, limit=5) for path in paths[:8]]
    serial = [search.query_many([one])[0] for one in asked]
    answers: dict[int, list[Hits]] = {}

    def work(number: int) -> None:
        answers[number] = [search.query_many([asked[(number + turn) % 8]])[0] for turn in range(4)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        for turn in range(4):
            same(answers[number][turn], serial[(number + turn) % 8])


# --- explanations


def test_explain(search: ComposedSearch, points: list[GalleryPoint], paths: list[Path]) -> None:
    explanation = search.explain(paths[2], words=3)
    tokens = list(explanation)
    assert len(tokens) == 1 + points[2].payload["_fti"]["r"]
    assert [token.token for token in tokens[:2]] == ["subject", "attribute 1"]
    for token in tokens:
        assert len(token.words) == 3
        assert {word for word, _ in token.words} <= set(WORDS)
        found = [cosine for _, cosine in token.words]
        assert found == sorted(found, reverse=True)
        assert all(-1 <= cosine <= 1 for cosine in found)
    stored = search.explain(points[2].id, words=3)
    for token, other in zip(tokens, stored):
        assert dict(token.words) == pytest.approx(dict(other.words), abs=2e-3)
    assert len(search.explain(paths[2], words=99).subject.words) == len(WORDS)


# --- what cannot be answered


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "nothing to search for"),
        ({"text": "   "}, "nothing to search for"),
        ({"image": [], "text": ""}, "nothing to search for"),
        ({"text": 5}, "text must be a str, not int 5"),
        ({"text": b"red"}, "text must be a str, not bytes"),
        ({"text": ["red"]}, "text must be a str, not list"),
        ({"text": "half \ud83d"}, "is not Unicode"),
        ({"text": "red", "limit": 0}, "at least 1, got 0"),
        ({"text": "red", "limit": -3}, "at least 1, got -3"),
        ({"text": "red", "limit": True}, "at least 1, got True"),
        ({"text": "red", "limit": 2.0}, r"at least 1, got 2\.0"),
        ({"text": "red", "limit": "9"}, "at least 1, got '9'"),
        ({"text": "red", "limit": 2**70}, "more than any gallery"),
        ({"text": "red", "score_threshold": float("nan")}, "score_threshold must be"),
        ({"text": "red", "score_threshold": "0.5"}, "score_threshold must be"),
        ({"text": "red", "composer": "magic"}, "unknown composer 'magic'; use one of fti"),
    ],
    ids=str,
)
def test_bad_queries(search: ComposedSearch, arguments: dict[str, Any], reason: str) -> None:
    for ask in (lambda: search.query(**arguments), lambda: search.query_many([arguments])):
        with pytest.raises(BadQuery, match=reason):
            ask()


@pytest.mark.parametrize("query", [{"picture": "a.jpg"}, {"text": "a", "top": 3}, 5, "red", None])
def test_query_many_takes_queries_only(search: ComposedSearch, query: Any) -> None:
    with pytest.raises(BadQuery, match="is not a query"):
        search.query_many([query])


@pytest.mark.parametrize("image", [5, {"path": "a.jpg"}, [[1, 2]], "missing.jpg", b"no picture"])
def test_bad_images(search: ComposedSearch, image: Any) -> None:
    with pytest.raises(BadImage):
        search.query(image, TEXT)


def test_urls_are_off(search: ComposedSearch) -> None:
    with pytest.raises(BadImage, match="allow_urls=True"):
        search.query("http://127.0.0.1:9/a.jpg", TEXT)


def test_empty_gallery(composer: Composer, memory: ServerGallery, paths: list[Path]) -> None:
    search = ComposedSearch(composer, memory)
    for arguments in ({"text": TEXT}, {"image": paths[0]}, {"text": TEXT, "filter": {"a": 1}}):
        with pytest.raises(BadQuery, match="'shop' at :memory: is empty; fill it with fti-ingest"):
            search.query(**arguments)


# --- models


def test_a_server_answers_alike(
    search: ComposedSearch,
    memory: ServerGallery,
    points: list[GalleryPoint],
    paths: list[Path],
) -> None:
    plain = [GalleryPoint(point.id, point.vector, point.payload) for point in points]
    memory.upsert(plain)
    served = ComposedSearch(search.composer, memory)
    for arguments in (
        {"image": paths[1], "text": TEXT},
        {"text": TEXT, "filter": {"price": {"lt": 5}}},
        {"image": points[3].id, "text": TEXT, "composer": "sum"},
    ):
        same(served.query(**arguments), search.query(**arguments))


def test_an_id_without_stored_pseudo_words(
    composer: Composer, memory: ServerGallery, points: list[GalleryPoint]
) -> None:
    memory.upsert([GalleryPoint(point.id, point.vector, point.payload) for point in points])
    search = ComposedSearch(composer, memory)
    with pytest.raises(BadQuery, match="stores no pseudo-words.*composer='sum'"):
        search.query(points[0].id, TEXT)
    with pytest.raises(BadQuery, match="stores no pseudo-words"):
        search.explain(points[0].id)
    assert len(search.query(points[0].id, TEXT, composer="sum")) == 10


def test_without_an_inverter(
    composer: Composer, memory: ServerGallery, points: list[GalleryPoint], paths: list[Path]
) -> None:
    memory.upsert([GalleryPoint(point.id, point.vector, point.payload) for point in points])
    search = ComposedSearch(Composer(composer.backbone), memory)
    with pytest.raises(BadQuery, match="needs an inverter"):
        search.query(paths[0], TEXT)
    with pytest.raises(BadQuery, match="needs an inverter"):
        search.explain(paths[0])
    assert search.query(paths[0], TEXT, composer="sum").query.composer == "sum"
    assert search.query(paths[0]).query.composer == "image"


def test_a_gallery_of_another_model(
    tmp_path: Path, composer: Composer, model: str, tiny_config_once: dict[str, Any]
) -> None:
    EdgeGallery.create(tmp_path / "gallery", spec_for(composer)).close()
    other = save_model(tmp_path / "other", tiny_config_once, 9)
    with pytest.raises(ModelMismatch) as caught:
        ComposedSearch.open(tmp_path / "gallery", model=other, device="cpu")
    assert f"made with {model} (weights" in str(caught.value)
    assert f"loaded model is {other} (weights" in str(caught.value)
    EdgeGallery.open(tmp_path / "gallery").close()  # the lock is free again


def test_pseudo_words_of_another_inverter(
    search: ComposedSearch, composer: Composer, points: list[GalleryPoint], paths: list[Path]
) -> None:
    torch.manual_seed(5)
    assert composer.inverter is not None
    other = type(composer.inverter).for_backbone(composer.backbone)
    mixed = ComposedSearch(Composer(composer.backbone, other), search.gallery)
    with pytest.raises(ModelMismatch, match=f"of inverter {composer.inverter.weights_hash}"):
        mixed.query(points[0].id, TEXT)
    assert len(mixed.query(paths[0], TEXT, limit=3)) == 3
    assert len(mixed.query(points[0].id, TEXT, composer="sum", limit=3)) == 3


def test_open_and_connect_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFound, match="fti-ingest"):
        ComposedSearch.open(tmp_path / "missing")
    with pytest.raises(GalleryNotFound, match="fti-ingest"):
        ComposedSearch.connect(":memory:", "shop")
    with pytest.raises(GalleryUnavailable, match="does not answer"):
        ComposedSearch.connect("http://127.0.0.1:9", "shop")


def test_open_elsewhere_and_closed(search: ComposedSearch, tmp_path: Path, model: str) -> None:
    assert isinstance(search.gallery, EdgeGallery)
    with pytest.raises(GalleryUnavailable, match="is open already"):
        ComposedSearch.open(search.gallery.path)
    gallery = EdgeGallery.create(tmp_path / "gallery", search.gallery.spec)
    with ComposedSearch(search.composer, gallery) as closed:
        pass
    with pytest.raises(GalleryUnavailable, match="is closed"):
        closed.query(text=TEXT)
