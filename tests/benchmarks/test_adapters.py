"""The adapters: folders as they are in the wild, and folders that are not what they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.doctor import examine
from fti_qdrant.benchmarks.fashioniq import CATEGORIES
from fti_qdrant.benchmarks.gallery_contents import MANIFEST, write_manifest
from fti_qdrant.benchmarks.records import Ranked
from fti_qdrant.benchmarks.registry import BENCHMARKS, open_benchmark
from fti_qdrant.errors import BadBenchmark, BadPredictions
from tests.benchmarks import standins
from tests.benchmarks.standins import write_json


def complete(benchmark: Benchmark) -> bool:
    return all(image.path is not None for image in benchmark.gallery())


@pytest.mark.parametrize(
    "folder",
    [
        "images",
        "resized_image",
        "resized_images/{category}",
        "images/{category}",
        "{category}",
        ".",
    ],
)
def test_fashioniq_pictures_lie_in_any_usual_place(folder: str, tmp_path: Path) -> None:
    benchmark = open_benchmark("fashioniq", standins.fashioniq(tmp_path, folder=folder))
    assert complete(benchmark)
    shared = [image for image in benchmark.gallery() if image.id == "SHARED"]
    assert [image.parts for image in shared] == [CATEGORIES]


@pytest.mark.parametrize("folder", [".", "img_raw", "images", "cirr_dataset"])
@pytest.mark.parametrize("split", ["val", "test1", "train"])
def test_cirr_pictures_lie_in_any_usual_place(folder: str, split: str, tmp_path: Path) -> None:
    assert complete(open_benchmark("cirr", standins.cirr(tmp_path, split, folder), split))


def test_cirr_annotations_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    standins.cirr(tmp_path)
    (tmp_path / "cirr").mkdir()
    for name in ("captions", "image_splits"):
        (tmp_path / name).rename(tmp_path / "cirr" / name)
    assert complete(open_benchmark("cirr", tmp_path))


@pytest.mark.parametrize("listed", [True, False])
def test_circo_gallery_is_cocos_list_or_the_folder(listed: bool, tmp_path: Path) -> None:
    benchmark = open_benchmark("circo", standins.circo(tmp_path, listed=listed))
    files = list((tmp_path / "COCO2017_unlabeled" / "unlabeled2017").glob("*.jpg"))
    found = {image.id for image in benchmark.gallery()}
    assert found == {str(int(path.stem)) for path in files}
    assert any("officially 123,403" in one for one in benchmark.deviations())


@pytest.mark.parametrize("name", ["fashioniq", "cirr", "circo"])
def test_a_cut_annotation_file_is_said_not_to_be_comparable(name: str, tmp_path: Path) -> None:
    deviations = open_benchmark(name, standins.MAKERS[name](tmp_path)).annotation_deviations()
    assert deviations
    assert "officially" in deviations[0]


def test_emoji_splits_are_held_out_and_seen_and_all(tmp_path: Path) -> None:
    asked = {
        split: open_benchmark("emoji", tmp_path, split) for split in ("heldout", "seen", "all")
    }
    counts = {split: len(one.queries) for split, one in asked.items()}
    assert counts["all"] == counts["heldout"] + counts["seen"]
    groups = {name: len(rows[0]) for name, rows in asked["all"].groups().items()}
    assert groups["held out"] == counts["heldout"]
    assert groups["seen"] == counts["seen"]
    kinds = [name for name in groups if name.startswith("held out: ")]
    assert sum(groups[name] for name in kinds) == counts["heldout"]


def test_emoji_subsets_hold_the_target_and_not_the_reference(tmp_path: Path) -> None:
    for query in open_benchmark("emoji", tmp_path, "all").queries:
        assert query.relevant[0] in query.subset
        assert query.reference not in query.subset


def test_emoji_unseen_wordings_ask_for_the_same_in_other_words(tmp_path: Path) -> None:
    known, unseen = (
        open_benchmark("emoji", tmp_path, one).queries for one in ("heldout", "wordings")
    )
    assert [query.id for query in known] == [query.id for query in unseen]
    assert not {query.texts for query in known} & {query.texts for query in unseen}


def test_emoji_paraphrases_are_each_held_out_edit_in_six_wordings(tmp_path: Path) -> None:
    known, asked = (open_benchmark("emoji", tmp_path, one) for one in ("heldout", "paraphrases"))
    assert len(asked.queries) == 6 * len(known.queries)
    for number, query in enumerate(known.queries):
        wordings = asked.queries[6 * number : 6 * number + 6]
        assert {(one.reference, one.relevant) for one in wordings} == {
            (query.reference, query.relevant)
        }
        assert len({one.texts for one in wordings}) == 6
        assert len({one.id for one in wordings}) == 6
    half = [[query.relevant[0]] if at % 2 else ["2764"] for at, query in enumerate(asked.queries)]
    measured = asked.measure(Ranked(half))
    means = {name: float(values.mean()) for name, values in measured.items()}
    assert means["R@1"] == means["deviation"] == 0.5
    assert (means["best wording R@1"], means["worst wording R@1"]) == (1, 0)


DAMAGE: dict[str, tuple[str, str, Any, str]] = {
    "no captions": ("cirr", "captions/cap.rc2.val.json", None, "cap.rc2.val.json' is missing"),
    "no splits": ("fashioniq", "image_splits/split.shirt.val.json", None, "split.shirt.val.json"),
    "not JSON": ("circo", "annotations/val.json", "{", "annotations/val.json': it is not JSON"),
    "no target": ("cirr", "captions/cap.rc2.val.json", {"target_hard": None}, "has no target_hard"),
    "no caption": ("cirr", "captions/cap.rc2.val.json", {"caption": 3}, "query number 0 caption"),
    "one caption": (
        "fashioniq",
        "captions/cap.dress.val.json",
        {"captions": ["a"]},
        "query number",
    ),
    "no target dress": ("fashioniq", "captions/cap.dress.val.json", {"target": None}, "no target"),
    "stranger": (
        "fashioniq",
        "captions/cap.toptee.val.json",
        {"candidate": "NOBODY"},
        "query number 0: image 'NOBODY' is not in the toptee gallery",
    ),
    "strange member": (
        "cirr",
        "captions/cap.rc2.val.json",
        {"reference": "dev-0-0-nobody"},
        "image 'dev-0-0-nobody' is not in the gallery of this split",
    ),
    "another target": (
        "circo",
        "annotations/val.json",
        {"target_img_id": 1},
        "query 0: gt_img_ids must begin with target_img_id",
    ),
    "not in COCO": (
        "circo",
        "annotations/val.json",
        {"reference_img_id": 77},
        "query 0: image 77 is not in the gallery that COCO lists",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_annotations_are_refused_by_file_and_query(case: str, tmp_path: Path) -> None:
    name, file, change, message = DAMAGE[case]
    path = standins.MAKERS[name](tmp_path) / file
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    else:
        entries = json.loads(path.read_text())
        entries[0].update(change)
        write_json(path, entries)
    with pytest.raises(BadBenchmark, match=message) as raised:
        assert open_benchmark(name, tmp_path).queries
    assert path.name in str(raised.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cirr", "captions/cap.rc2.val.json"),
        ("circo", "annotations/val.json"),
        ("fashioniq", "captions/cap.dress.val.json"),
    ],
)
def test_an_empty_annotation_file_is_refused(name: str, file: str, tmp_path: Path) -> None:
    write_json(standins.MAKERS[name](tmp_path) / file, [])
    with pytest.raises(BadBenchmark, match="has no queries"):
        assert open_benchmark(name, tmp_path).queries


def test_an_unlisted_circo_picture_that_a_query_needs_is_missing(tmp_path: Path) -> None:
    benchmark = open_benchmark("circo", standins.circo(tmp_path, listed=False))
    query = benchmark.queries[0]
    lost = [query.reference, query.relevant[-1]]
    for id in lost:
        Path(str(benchmark.picture(id))).unlink()
    missing = [image.id for image in benchmark.gallery() if image.path is None]
    assert sorted(missing) == sorted(lost)
    affected = examine(benchmark, decode=False).affected
    assert query.id in affected


def test_a_path_that_no_file_system_takes_is_a_missing_picture(tmp_path: Path) -> None:
    path = standins.cirr(tmp_path) / "image_splits" / "split.rc2.val.json"
    paths = json.loads(path.read_text())
    name = next(iter(paths))
    write_json(path, {**paths, name: "./dev/" + "x" * 5000 + ".png"})
    assert open_benchmark("cirr", tmp_path).picture(name) is None


def test_a_query_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = standins.cirr(tmp_path) / "captions" / "cap.rc2.val.json"
    entries = json.loads(path.read_text())
    write_json(path, [*entries, entries[0]])
    with pytest.raises(BadBenchmark, match="has a pairid twice"):
        assert open_benchmark("cirr", tmp_path).queries


def test_older_cirr_annotations_are_named(tmp_path: Path) -> None:
    path = standins.cirr(tmp_path) / "captions" / "cap.rc2.val.json"
    path.rename(path.with_name("cap.rc1.val.json"))
    with pytest.raises(
        BadBenchmark, match=r"older captions/cap\.rc1\.val\.json, and rc2 is needed"
    ):
        assert open_benchmark("cirr", tmp_path).queries


def test_no_such_folder_and_no_such_split(tmp_path: Path) -> None:
    with pytest.raises(BadBenchmark, match=r"no folder .*download CIRR"):
        open_benchmark("cirr", tmp_path / "nothing")
    with pytest.raises(BadBenchmark, match="cirr has no split 'test'; it has val, test1, train"):
        open_benchmark("cirr", tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "split"), [("cirr", "test1"), ("circo", "test"), ("fashioniq", "test")]
)
def test_a_split_without_answers_has_no_measures(name: str, split: str, tmp_path: Path) -> None:
    benchmark = open_benchmark(name, standins.MAKERS[name](tmp_path, split), split)
    assert not benchmark.has_truth
    assert f"the right answers of {name} {split} are not public" in benchmark.no_truth
    gallery = [image.id for image in benchmark.gallery()]
    with pytest.raises(BadBenchmark, match="has no right answer to measure against"):
        benchmark.measure(Ranked([gallery] * len(benchmark.queries)))


def test_doctor_says_which_queries_a_missing_and_a_broken_picture_affect(tmp_path: Path) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path))
    assert not examine(benchmark, decode=True).findings
    gone, broken, empty = (benchmark.queries[0].subset[n] for n in range(3))
    paths = {id: Path(str(benchmark.picture(id))) for id in (gone, broken, empty)}
    paths[gone].unlink()
    paths[broken].write_bytes(paths[broken].read_bytes()[:60])
    paths[empty].write_bytes(b"")
    users = [q.id for q in benchmark.queries if gone in (q.reference, *q.relevant, *q.subset)]
    found = {one.image: one for one in examine(benchmark, decode=True).findings}
    assert set(found) == {gone, broken, empty}
    assert found[gone].reason == "missing"
    assert list(found[gone].queries) == users
    quick = {one.image: one.reason for one in examine(benchmark, decode=False).findings}
    assert quick == {gone: "missing", empty: "empty file"}


def test_the_manifest_leaves_out_what_is_missing(tmp_path: Path) -> None:
    benchmark = open_benchmark("fashioniq", standins.fashioniq(tmp_path))
    names = [image.id for image in benchmark.gallery()]
    for name in names[:5]:
        Path(str(benchmark.picture(name))).unlink()
    absent = write_manifest(benchmark, tmp_path / MANIFEST)
    assert (absent.count, absent.names) == (5, tuple(names[:3]))
    assert str(absent) == f"{', '.join(names[:3])} and 2 more"
    lines = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert [line["name"] for line in lines] == names[5:]
    assert all(set(line["part"]) <= set(CATEGORIES) for line in lines)


def ranked_by(benchmark: Benchmark) -> Ranked:
    """Every gallery image for each query, the right answer first."""
    gallery = list(benchmark.gallery())
    lists = []
    for query in benchmark.queries:
        rest = [
            image.id
            for image in gallery
            if (query.part in image.parts or not query.part) and image.id not in query.relevant
        ]
        lists.append([*query.relevant, *rest])
    subsets = [
        [one for one in found if one in query.subset]
        for found, query in zip(lists, benchmark.queries)
    ]
    return Ranked(lists, subsets if any(subsets) else None)


@pytest.mark.parametrize("name", ["fashioniq", "cirr", "circo"])
def test_the_files_that_a_run_writes_are_read_again(name: str, tmp_path: Path) -> None:
    benchmark = open_benchmark(name, standins.MAKERS[name](tmp_path))
    ranked = ranked_by(benchmark)
    want = {m: v.tolist() for m, v in benchmark.measure(ranked).items()}
    got: dict[str, Any] = {}
    for content in benchmark.predictions(ranked).values():
        again = benchmark.read_predictions(json.loads(json.dumps(content)))
        got |= {m: v.tolist() for m, v in benchmark.measure(again).items()}
    assert got == want
    assert all(value == 1.0 for column in want.values() for value in column)


def test_circo_submission_has_fifty_numbers_for_each_key(tmp_path: Path) -> None:
    benchmark = open_benchmark("circo", standins.circo(tmp_path, "test"), "test")
    gallery = [image.id for image in benchmark.gallery()]
    content = benchmark.predictions(Ranked([gallery] * len(benchmark.queries)))["circo_test.json"]
    assert list(content) == [str(n) for n in range(len(benchmark.queries))]
    assert all(len(set(one)) == 50 for one in content.values())
    assert all(isinstance(id, int) for id in content["0"])


def test_cirr_submission_is_two_files(tmp_path: Path) -> None:
    benchmark = open_benchmark("cirr", standins.cirr(tmp_path, "test1"), "test1")
    files = benchmark.predictions(ranked_by(benchmark))
    recall, subset = files["cirr_test1_recall.json"], files["cirr_test1_recall_subset.json"]
    assert (recall["version"], recall["metric"]) == ("rc2", "recall")
    assert (subset["version"], subset["metric"]) == ("rc2", "recall_subset")
    for query in benchmark.queries:
        assert len(recall[query.id]) <= 50
        assert len(subset[query.id]) == 3
        assert set(subset[query.id]) <= set(query.subset)


BAD_LISTS: dict[str, tuple[str, Any, str]] = {
    "not an object": ("circo", [1, 2], "the ranked lists are a list"),
    "missing query": ("circo", lambda d: {"1": d["1"]}, "query '0' has no ranked list"),
    "unknown query": ("circo", lambda d: {**d, "9999": [1]}, "query '9999' is not in this split"),
    "image twice": ("circo", lambda d: {**d, "1": d["1"][:2] * 2}, "query '1': image .* twice"),
    "unknown image": (
        "circo",
        lambda d: {**d, "1": [5]},
        "query '1': the gallery has no image '5'",
    ),
    "no number": ("circo", lambda d: {**d, "1": ["hello0"]}, "query '1': 'hello0' is not the id"),
    "negative": ("circo", lambda d: {**d, "1": [-1]}, "query '1': -1 is not the id"),
    "twice, written otherwise": (
        "circo",
        lambda d: {**d, "1": [d["1"][0], f"{d['1'][0]:012d}"]},
        "query '1': image .* twice",
    ),
    "not a list": ("circo", lambda d: {**d, "1": "abc"}, "query '1': 'abc' is not a list"),
    "not an id": ("circo", lambda d: {**d, "1": [1.5]}, "query '1': 1.5 is not the id"),
    "version": (
        "cirr",
        lambda d: {**d, "version": "rc1"},
        "version 'rc1' is not supported; use 'rc2'",
    ),
    "metric": ("cirr", lambda d: {**d, "metric": "mrr"}, "metric 'mrr' is neither"),
    "not of the set": (
        "cirr",
        lambda d: {**d, "metric": "recall_subset"},
        "is not in its image set",
    ),
    "category": (
        "fashioniq",
        lambda d: {"dress": d["dress"]},
        "expected one list for each of dress",
    ),
    "count": (
        "fashioniq",
        lambda d: {**d, "shirt": d["shirt"][:2]},
        r"shirt: 2 ranked lists, but .*cap\.shirt\.val\.json has 6 queries",
    ),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_ranked_lists_are_refused_by_query(case: str, tmp_path: Path) -> None:
    name, change, message = BAD_LISTS[case]
    benchmark = open_benchmark(name, standins.MAKERS[name](tmp_path))
    good = next(iter(benchmark.predictions(ranked_by(benchmark)).values()))
    bad = change(json.loads(json.dumps(good))) if callable(change) else change
    with pytest.raises(BadPredictions, match=message):
        benchmark.read_predictions(bad)


def test_every_benchmark_says_what_to_download() -> None:
    for kind in BENCHMARKS.values():
        assert len(kind.download) > 30
        assert kind.splits
        assert kind.protocol.lower().startswith(kind.name)
