"""The official annotation files, read in place: counts as published, and scores by definition."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fti_qdrant.benchmarks.fashioniq import CATEGORIES
from fti_qdrant.benchmarks.registry import open_benchmark
from fti_qdrant.cli.evaluate import main
from tests.benchmarks import definitions
from tests.benchmarks.standins import official


def score(name: str, split: str, predictions: Any, folder: Path) -> dict[str, Any]:
    """What ``fti-eval score --json`` says of these ranked lists."""
    path = folder / "lists.json"
    path.write_text(json.dumps(predictions))
    arguments = ["score", name, "--annotations", str(official(name)), "--split", split]
    done = CliRunner().invoke(main, [*arguments, "--predictions", str(path), "--json"])
    assert done.exit_code == 0, done.stderr
    scored: dict[str, Any] = json.loads(done.stdout)
    return scored


@pytest.mark.parametrize(
    ("split", "queries", "images"),
    [
        ("val", {"dress": 2017, "shirt": 2038, "toptee": 1961}, {"dress": 3817, "shirt": 6346}),
        ("test", {"dress": 2024, "shirt": 2038, "toptee": 2056}, {"dress": 3818, "toptee": 5374}),
    ],
)
def test_fashioniq_counts(split: str, queries: dict[str, int], images: dict[str, int]) -> None:
    benchmark = open_benchmark("fashioniq", official("fashioniq"), split)
    parts = [query.part for query in benchmark.queries]
    assert {one: parts.count(one) for one in CATEGORIES} == queries
    held = [part for image in benchmark.gallery() for part in image.parts]
    assert {one: held.count(one) for one in images} == images
    assert benchmark.annotation_deviations() == []
    assert benchmark.has_truth == (split == "val")


@pytest.mark.parametrize(
    ("split", "queries", "images"), [("val", 4181, 2297), ("test1", 4148, 2315)]
)
def test_cirr_counts(split: str, queries: int, images: int) -> None:
    benchmark = open_benchmark("cirr", official("cirr"), split)
    assert len(benchmark.queries) == queries
    assert sum(1 for _ in benchmark.gallery()) == images
    assert {len(query.subset) for query in benchmark.queries} == {5}
    assert benchmark.annotation_deviations() == []


@pytest.mark.parametrize(("split", "queries"), [("val", 220), ("test", 800)])
def test_circo_counts(split: str, queries: int) -> None:
    benchmark = open_benchmark("circo", official("circo"), split)
    assert [query.id for query in benchmark.queries] == [str(n) for n in range(queries)]
    assert benchmark.annotation_deviations() == []
    assert benchmark.has_truth == (split == "val")


def test_fashioniq_captions_are_joined_both_ways() -> None:
    query = open_benchmark("fashioniq", official("fashioniq"), "val").queries[3]
    first, second = "is a plain white feminine t shirt", "is a tan shirt"
    assert query.texts == (f"{first} and {second}", f"{second} and {first}")


def test_annotations_whose_answers_were_changed_are_not_the_official_ones(tmp_path: Path) -> None:
    entries = json.loads((official("circo") / "annotations" / "val.json").read_text())
    answers = [(e["target_img_id"], e["gt_img_ids"]) for e in entries]
    for entry, (target, right) in zip(entries, answers[1:] + answers[:1]):
        entry.update(target_img_id=target, gt_img_ids=right)
    (tmp_path / "val.json").write_text(json.dumps(entries))
    deviations = open_benchmark("circo", tmp_path, "val").annotation_deviations()
    assert deviations
    assert deviations[0].startswith("the annotations differ from the published files")


def shuffled(rng: random.Random, images: list[Any], right: list[Any], length: int) -> list[Any]:
    """A random list that has the right answers early more often than chance would."""
    rest = rng.sample(images, length)
    for one in right:
        if rng.random() < 0.7:
            if one in rest:
                rest.remove(one)
            rest.insert(min(int(rng.expovariate(0.1)), len(rest)), one)
    return rest[:length]


def cirr_list(rng: random.Random, images: list[str], entry: Any) -> list[str]:
    """A random list that holds the query's whole image set, the reference too."""
    found = shuffled(rng, images, [entry["target_hard"]], 60)
    for member in entry["img_set"]["members"]:
        if member not in found:
            found.insert(rng.randrange(len(found) + 1), member)
    return found


def test_circo_scores_are_the_definition(tmp_path: Path) -> None:
    entries = json.loads((official("circo") / "annotations" / "val.json").read_text())
    rng = random.Random(0)
    images = list(range(1_000_000, 1_002_000))
    lists = {str(e["id"]): shuffled(rng, images, e["gt_img_ids"], 50) for e in entries}
    scored = score("circo", "val", lists, tmp_path)
    want = definitions.circo(entries, lists)
    figures = scored["figures"]
    for name, value in want.items():
        group, _, measure = name.rpartition(" ")
        assert figures[group or "all"][measure] == pytest.approx(value, abs=1e-12), name
    assert 0.1 < want["mAP@10"] < 0.9
    assert len(want) == 8 + 9
    assert scored["comparable"]


def test_cirr_scores_are_the_definition(tmp_path: Path) -> None:
    folder = official("cirr")
    entries = json.loads((folder / "captions" / "cap.rc2.val.json").read_text())
    images = list(json.loads((folder / "image_splits" / "split.rc2.val.json").read_text()))
    rng = random.Random(0)
    lists = {str(e["pairid"]): cirr_list(rng, images, e) for e in entries}
    scored = score("cirr", "val", lists, tmp_path)
    want = definitions.cirr(entries, lists)
    assert scored["figures"]["all"] == pytest.approx(want, abs=1e-12)
    assert len(want) == 7
    assert scored["notes"] == [
        "the reference was in 4181 lists and was removed, as CIRR's protocol demands"
    ]


def test_cirr_submission_forms_score_alike(tmp_path: Path) -> None:
    folder = official("cirr")
    entries = json.loads((folder / "captions" / "cap.rc2.val.json").read_text())
    images = list(json.loads((folder / "image_splits" / "split.rc2.val.json").read_text()))
    rng = random.Random(1)
    whole = {
        str(e["pairid"]): [one for one in cirr_list(rng, images, e) if one != e["reference"]]
        for e in entries
    }
    members = {str(e["pairid"]): e["img_set"]["members"] for e in entries}
    recall = {"version": "rc2", "metric": "recall", **{p: one[:50] for p, one in whole.items()}}
    subset = {
        "version": "rc2",
        "metric": "recall_subset",
        **{p: [one for one in found if one in members[p]][:3] for p, found in whole.items()},
    }
    want = definitions.cirr(entries, whole)
    together = {
        **score("cirr", "val", recall, tmp_path)["figures"]["all"],
        **score("cirr", "val", subset, tmp_path)["figures"]["all"],
    }
    assert together == pytest.approx(want, abs=1e-12)


def test_fashioniq_scores_are_the_definition(tmp_path: Path) -> None:
    folder, rng = official("fashioniq"), random.Random(0)
    entries = {
        c: json.loads((folder / "captions" / f"cap.{c}.val.json").read_text()) for c in CATEGORIES
    }
    images = {
        c: json.loads((folder / "image_splits" / f"split.{c}.val.json").read_text())
        for c in CATEGORIES
    }
    lists = {
        c: [shuffled(rng, images[c], [e["target"]], 60) for e in entries[c]] for c in CATEGORIES
    }
    scored = score("fashioniq", "val", lists, tmp_path)["figures"]
    want = definitions.fashioniq(entries, lists)
    got = {f"{group} {m}": value for group, of in scored.items() for m, value in of.items()}
    assert got == pytest.approx(want, abs=1e-12)
    assert len(want) == 8
