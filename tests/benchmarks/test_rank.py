"""Rankings from Qdrant against cosines computed one by one, and runs that are cut off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pyarrow import parquet
from qdrant_client import QdrantClient

from fti_qdrant.benchmarks import run as runs
from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.gallery_contents import (
    NAME,
    PART,
    is_complete,
    missing_images_error,
    survey,
)
from fti_qdrant.benchmarks.rank import Ranker
from fti_qdrant.benchmarks.rankings import EXACT, INDEX
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage
from fti_qdrant.benchmarks.registry import open_benchmark
from fti_qdrant.benchmarks.run import finish_run, rank_all
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.errors import BadBenchmark, BadImage, ModelMismatch, OutputUnavailable
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    point_id,
)
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.images import open_image
from fti_qdrant.model.fingerprint import Fingerprint
from tests.benchmarks import definitions, standins

NAMES = ("fashioniq", "cirr", "circo")


def fill(
    gallery: Gallery,
    benchmark: Benchmark,
    composer: Composer,
    key: Callable[[GalleryImage], str] = lambda image: image.id,
) -> None:
    """As fti-ingest does, without Ray."""
    images = list(benchmark.gallery())
    pictures = [open_image(str(image.path)).image for image in images]
    vectors = composer.backbone.image_features(pictures).pooled.numpy()
    gallery.upsert(
        [
            GalleryPoint(
                point_id(key(image)),
                vector,
                {
                    NAME: image.id,
                    **({PART: list(image.parts)} if image.parts else {}),
                    "_fti": {"uri": str(image.path), "sha256": sha256(image.path)},
                },
            )
            for image, vector in zip(images, vectors)
        ]
    )


def sha256(path: Path | None) -> str:
    return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()


def ranker_of(
    benchmark: Benchmark,
    composer: Composer,
    gallery: Gallery,
    methods: tuple[str, ...],
    **more: Any,
) -> Ranker:
    return Ranker(benchmark, composer, gallery, survey(gallery, benchmark), methods, **more)


def spec(composer: Composer) -> GallerySpec:
    indexes: Any = {NAME: "keyword", PART: "keyword"}
    return GallerySpec(fingerprint=composer.backbone.fingerprint, indexes=indexes)


@pytest.fixture(scope="module")
def galleries(
    tmp_path_factory: pytest.TempPathFactory, tiny_composer: Composer
) -> Iterator[dict[str, tuple[Benchmark, Gallery]]]:
    made: dict[str, tuple[Benchmark, Gallery]] = {}
    for name in NAMES:
        root = standins.MAKERS[name](tmp_path_factory.mktemp(name))
        gallery = EdgeGallery.create(root / "gallery", spec(tiny_composer))
        made[name] = open_benchmark(name, root), gallery
        fill(gallery, made[name][0], tiny_composer)
    yield made
    for _, gallery in made.values():
        gallery.close()


def slow_ranking(
    benchmark: Benchmark, composer: Composer, query: BenchmarkQuery, method: str
) -> tuple[list[str], list[str]]:
    """All of the query's gallery in order of the cosine, and its subset."""
    reference = open_image(str(benchmark.picture(query.reference))).image
    vectors = [composer.compose([reference], [text], method)[0] for text in query.texts]
    composed = F.normalize(sum(vectors) / len(vectors), dim=0)  # type: ignore[type-var, arg-type]
    cosines = {}
    for image in benchmark.gallery():
        if query.part is not None and query.part not in image.parts:
            continue
        if image.id == query.reference and not benchmark.reference_stays:
            continue
        picture = open_image(str(image.path)).image
        vector = composer.backbone.image_features([picture]).pooled[0]
        cosines[image.id] = float(F.normalize(vector, dim=0) @ composed)
    ordered = sorted(cosines, key=lambda id: -cosines[id])
    return ordered, [id for id in ordered if id in query.subset]


@pytest.mark.parametrize("method", composer_names())
@pytest.mark.parametrize("name", NAMES)
def test_rankings_are_those_of_cosines_one_by_one(
    name: str, method: str, galleries: dict[str, Any], tiny_composer: Composer
) -> None:
    benchmark, gallery = galleries[name]
    queries = benchmark.queries[:2] + benchmark.queries[-2:]
    ranker = ranker_of(benchmark, tiny_composer, gallery, (method,))
    rows = ranker.rank(queries, ranker.keys)[method, EXACT]
    for query, row in zip(queries, rows):
        ids, subset = slow_ranking(benchmark, tiny_composer, query, method)
        assert row["query"] == query.id
        assert row["ids"] == ids[:50]
        assert row["subset"] == subset
        assert (row["r"] is None) == (method not in ("pdv", "fti", "subject"))


def test_a_batch_is_ranked_as_its_queries_one_by_one(
    galleries: dict[str, Any], tiny_composer: Composer
) -> None:
    benchmark, gallery = galleries["cirr"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("fti", "sum"))
    together = ranker.rank(benchmark.queries, ranker.keys)
    for number, query in enumerate(benchmark.queries):
        for run, rows in ranker.rank([query], ranker.keys).items():
            assert rows[0]["ids"] == together[run][number]["ids"]


def test_a_server_ranks_as_the_embedded_engine(
    galleries: dict[str, Any], tiny_composer: Composer
) -> None:
    benchmark, gallery = galleries["fashioniq"]
    server = ServerGallery.create(QdrantClient(":memory:"), "b", spec(tiny_composer))
    fill(server, benchmark, tiny_composer)
    rows = [
        ranker_of(benchmark, tiny_composer, one, ("fti",)).rank(
            benchmark.queries, [("fti", EXACT)]
        )["fti", EXACT]
        for one in (gallery, server)
    ]
    assert [row["ids"] for row in rows[0]] == [row["ids"] for row in rows[1]]


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_a_run_are_the_definition_of_its_own_lists(
    name: str, galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries[name]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("fti", "text"))
    rank_all(ranker, tmp_path)
    measured = finish_run(ranker, tmp_path, [], "a command")
    lists = {
        query.id: slow_ranking(benchmark, tiny_composer, query, "text")[0]
        for query in benchmark.queries
    }
    want = by_definition(benchmark, lists)
    figures = measured.metrics.figures["text"]
    whole = benchmark.whole
    for name_, value in want.items():
        group, _, measure = name_.rpartition(" ")
        if (group or "").endswith("subset"):
            group, measure = group.removesuffix("subset").strip(), f"subset {measure}"
        assert figures[group or whole][measure] == pytest.approx(value, abs=1e-12), name_
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["figures"]["text"] == figures
    assert saved["comparable"]
    assert saved["model"]["weights"] == tiny_composer.backbone.fingerprint.weights
    assert (
        saved["versions"]["torch"] == torch.__version__.split("+")[0] or saved["versions"]["torch"]
    )


def by_definition(benchmark: Benchmark, lists: dict[str, list[str]]) -> dict[str, float]:
    root = benchmark.root
    if benchmark.name == "fashioniq":
        entries = {
            c: json.loads((root / "captions" / f"cap.{c}.val.json").read_text())
            for c in ("dress", "shirt", "toptee")
        }
        by_category = {
            c: [found for id, found in lists.items() if id.startswith(c)] for c in entries
        }
        return definitions.fashioniq(entries, by_category)
    if benchmark.name == "cirr":
        path = root / "captions" / "cap.rc2.val.json"
        return definitions.cirr(json.loads(path.read_text()), lists)
    path = root / "annotations" / "val.json"
    numbers = {id: [int(one) for one in found[:50]] for id, found in lists.items()}
    return definitions.circo(json.loads(path.read_text()), numbers)


def test_per_query_table_says_all_about_a_query(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries["circo"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("fti", "image"))
    rank_all(ranker, tmp_path)
    finish_run(ranker, tmp_path, [], "a command")
    rows = parquet.read_table(tmp_path / "per_query.parquet").to_pylist()
    assert len(rows) == 2 * len(benchmark.queries)
    for row, query in zip(rows, [*benchmark.queries] * 2):
        assert row["query"] == query.id
        assert row["text"] == query.texts[0]
        assert tuple(row["relevant"]) == query.relevant
        assert len(row["ids"]) == len(row["scores"]) == 50
        assert row["scores"] == sorted(row["scores"], reverse=True)
        target = query.relevant[0]
        assert row["rank"] == (row["ids"].index(target) + 1 if target in row["ids"] else None)
        assert row["R@5"] == float(target in row["ids"][:5])
        assert (row["r"] is None) == (row["composer"] == "image")


class Counting(Ranker):
    """Counts what it ranks, and stops after a number of batches."""

    asked: list[tuple[int, tuple[tuple[str, str], ...]]]
    stop_after: int

    def rank(self, queries: Any, runs: Any) -> Any:
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        if runs:
            self.asked.append((len(queries), tuple(runs)))
        return super().rank(queries, runs)


def counting(ranker: Ranker, stop_after: int = 1000) -> Counting:
    made = Counting(**{field.name: getattr(ranker, field.name) for field in fields(ranker)})
    object.__setattr__(made, "asked", [])
    object.__setattr__(made, "stop_after", stop_after)
    return made


def test_a_run_that_is_cut_off_goes_on_and_ends_the_same(
    galleries: dict[str, Any],
    tiny_composer: Composer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "BATCH", 4)
    benchmark, gallery = galleries["fashioniq"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("fti", "sum"))
    batches = -(-len(benchmark.queries) // 4)
    rank_all(ranker, tmp_path / "whole")
    first = counting(ranker, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        rank_all(first, tmp_path / "cut")
    again = counting(ranker)
    rank_all(again, tmp_path / "cut")
    assert len(first.asked) + len(again.asked) == batches
    ends = [finish_run(ranker, tmp_path / name, [], "x") for name in ("whole", "cut")]
    assert ends[0].metrics.figures == ends[1].metrics.figures
    assert ends[0].per_query.equals(ends[1].per_query)


def test_a_composer_that_joins_later_is_all_that_is_ranked(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries["cirr"]
    rank_all(ranker_of(benchmark, tiny_composer, gallery, ("sum",)), tmp_path)
    later = counting(ranker_of(benchmark, tiny_composer, gallery, ("image", "sum")))
    rank_all(later, tmp_path)
    assert later.asked == [(len(benchmark.queries), (("image", EXACT),))]
    assert list(finish_run(later, tmp_path, [], "x").metrics.figures) == ["image", "sum"]


def test_a_folder_with_another_runs_rankings_is_refused(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    for name, message in (("cirr", ""), ("circo", "another benchmark .cirr, now circo.")):
        benchmark, gallery = galleries[name]
        ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",))
        if not message:
            rank_all(ranker, tmp_path)
            continue
        with pytest.raises(OutputUnavailable, match=message):
            rank_all(ranker, tmp_path)


def test_the_index_is_measured_against_exact_search(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries["circo"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",), searches=(EXACT, INDEX))
    rank_all(ranker, tmp_path)
    metrics = finish_run(ranker, tmp_path, [], "x").metrics
    assert metrics.search == "index"
    assert metrics.neighbors_found == {"sum": 1.0}  # so few images are scanned whole
    assert set(metrics.index_loss["sum"].values()) == {0.0}


def test_a_query_without_its_reference_is_missed_or_refused(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path / "data"))
    with EdgeGallery.create(tmp_path / "gallery", spec(tiny_composer)) as gallery:
        fill(gallery, benchmark, tiny_composer)
        lost = benchmark.queries[0].reference
        Path(str(benchmark.picture(lost))).unlink()
        with pytest.raises(BadImage, match=f"reference '{lost}' of cirr has no image file"):
            rank_all(ranker_of(benchmark, tiny_composer, gallery, ("sum",)), tmp_path / "a")
        ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",), allow_missing=True)
        rank_all(ranker, tmp_path / "b")
        ended = finish_run(ranker, tmp_path / "b", [], "x")
        lost_queries = sum(query.reference == lost for query in benchmark.queries)
        note = f"{lost_queries} queries have no readable reference image and count as not found"
        assert ended.metrics.notes == [note]
        assert not ended.metrics.comparable
        rows = ended.per_query.to_pylist()
        assert parquet.read_schema(tmp_path / "b" / "per_query.parquet").metadata[b"notes"]
        for row, query in zip(rows, benchmark.queries):
            assert bool(row["ids"]) == (query.reference != lost)
        assert (tmp_path / "b" / "submission-not-comparable" / "sum").is_dir()


def test_a_gallery_is_complete_or_says_what_it_lacks(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path / "data"))
    place, fingerprint = EmbeddedLocation(tmp_path / "gallery"), tiny_composer.backbone.fingerprint
    assert not is_complete(place, benchmark, fingerprint)
    with EdgeGallery.create(tmp_path / "gallery", spec(tiny_composer)) as gallery:
        fill(gallery, benchmark, tiny_composer)
        assert not survey(gallery, benchmark).missing
        lost = benchmark.queries[0].subset[0]
        gallery.delete([point_id(lost)])
        missing = survey(gallery, benchmark).missing
        assert (missing.count, missing.names) == (1, (lost,))
        assert benchmark.queries[0].id in str(missing_images_error(missing, benchmark))
        assert lost in str(missing_images_error(missing, benchmark))
    assert not is_complete(place, benchmark, fingerprint)


def test_another_models_gallery_and_another_benchmarks_are_refused(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path / "cirr"))
    other = open_benchmark("circo", standins.circo(tmp_path / "circo"))
    place = EmbeddedLocation(tmp_path / "gallery")
    with EdgeGallery.create(tmp_path / "gallery", spec(tiny_composer)) as gallery:
        fill(gallery, benchmark, tiny_composer)
        with pytest.raises(BadBenchmark, match="images that are not of circo val"):
            survey(gallery, other)
        twice = [
            GalleryPoint(
                point_id("elsewhere"),
                np.ones(64, np.float32),
                {NAME: benchmark.queries[0].reference},
            )
        ]
        gallery.upsert(twice)
        with pytest.raises(BadBenchmark, match="holds 1 images of cirr twice, ingested"):
            survey(gallery, benchmark)
    with pytest.raises(ModelMismatch, match="weights ffff"):
        is_complete(place, benchmark, Fingerprint("x", "ffff", "GELU", "p", 64))


def test_a_users_own_gallery_is_refused_without_advice_to_delete_it(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path / "cirr"))
    with EdgeGallery.create(tmp_path / "gallery", spec(tiny_composer)) as gallery:
        ones = np.ones(64, np.float32)
        gallery.upsert([GalleryPoint(point_id(f"{n}"), ones, {"brand": "Acme"}) for n in range(5)])
        with pytest.raises(BadBenchmark, match="was not filled by fti-eval") as raised:
            survey(gallery, benchmark)
    assert "delete" not in str(raised.value)


def test_an_image_of_another_part_is_not_the_same(tiny_composer: Composer, tmp_path: Path) -> None:
    root = standins.fashioniq(tmp_path / "data")
    with EdgeGallery.create(tmp_path / "gallery", spec(tiny_composer)) as gallery:
        before = open_benchmark("fashioniq", root)
        fill(gallery, before, tiny_composer)
        lists = root / "image_splits"
        shirts = json.loads((lists / "split.shirt.val.json").read_text())
        dresses = json.loads((lists / "split.dress.val.json").read_text())
        standins.write_json(lists / "split.dress.val.json", [*dresses, *shirts[:-1]])
        after = open_benchmark("fashioniq", root)
        assert after.digest != before.digest
        with pytest.raises(BadBenchmark, match="or are of another part of it"):
            survey(gallery, after)


def test_changed_pictures_make_another_run_and_changed_references_are_refused(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path / "data"))
    with EdgeGallery.create(tmp_path / "one", spec(tiny_composer)) as gallery:
        fill(gallery, benchmark, tiny_composer)
        rank_all(ranker_of(benchmark, tiny_composer, gallery, ("sum",)), tmp_path / "out")
        path = Path(str(benchmark.picture(benchmark.queries[0].reference)))
        open_image(path).image.rotate(90).save(path)
        with pytest.raises(BadImage, match="has changed since it was ingested"):
            rank_all(ranker_of(benchmark, tiny_composer, gallery, ("sum",)), tmp_path / "new")
    with EdgeGallery.create(tmp_path / "two", spec(tiny_composer)) as gallery:
        fill(gallery, benchmark, tiny_composer)
        with pytest.raises(OutputUnavailable, match="a run with another gallery"):
            rank_all(ranker_of(benchmark, tiny_composer, gallery, ("sum",)), tmp_path / "out")


def test_another_precision_is_another_run(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries["cirr"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",))
    rank_all(ranker, tmp_path)
    identity = json.loads((tmp_path / "run.json").read_text())
    assert identity["precision"] == "fp32"
    (tmp_path / "run.json").write_text(json.dumps({**identity, "precision": "bf16"}))
    with pytest.raises(OutputUnavailable, match="a run with another precision"):
        rank_all(ranker, tmp_path)


def test_other_options_that_the_model_brings_are_another_run(
    galleries: dict[str, Any],
    tiny_composer: Composer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    benchmark, gallery = galleries["cirr"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",))
    rank_all(ranker, tmp_path)
    rank_all(ranker, tmp_path)  # goes on
    monkeypatch.setattr(runs, "model_options", lambda _: {"sum": {"text_weight": 0.3}})
    with pytest.raises(OutputUnavailable, match=r"another composer_options .*0.3"):
        rank_all(ranker, tmp_path)


def test_equal_pictures_are_ranked_by_name_wherever_they_lie(
    tiny_composer: Composer, tmp_path: Path
) -> None:
    found = []
    for place in ("here", "somewhere/else", "third"):
        root = standins.circo(tmp_path / place)
        folder = root / "COCO2017_unlabeled" / "unlabeled2017"
        pictures = sorted(folder.glob("*.jpg"))
        for path in pictures[1::2]:  # every second picture equals the first
            path.write_bytes(pictures[0].read_bytes())
        benchmark = open_benchmark("circo", root)
        with EdgeGallery.create(root / "gallery", spec(tiny_composer)) as gallery:
            fill(gallery, benchmark, tiny_composer, key=lambda image: str(image.path))
            ranker = ranker_of(benchmark, tiny_composer, gallery, ("image",))
            rows = ranker.rank(benchmark.queries, ranker.keys)["image", EXACT]
        found.append([row["ids"] for row in rows])
    assert found[0] == found[1] == found[2]


def test_a_part_that_the_disk_has_lost_is_ranked_again(
    galleries: dict[str, Any], tiny_composer: Composer, tmp_path: Path
) -> None:
    benchmark, gallery = galleries["cirr"]
    ranker = ranker_of(benchmark, tiny_composer, gallery, ("sum",))
    rank_all(ranker, tmp_path)
    before = finish_run(ranker, tmp_path, [], "x").metrics.figures
    next((tmp_path / "rankings").glob("*.parquet")).write_bytes(b"")
    rank_all(ranker, tmp_path)
    assert finish_run(ranker, tmp_path, [], "x").metrics.figures == before
