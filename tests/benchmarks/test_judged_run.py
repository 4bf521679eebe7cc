"""Chances fitted on the rankings of a run: which hits are judged, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_qdrant import EdgeGallery
from fti_qdrant.benchmarks.judged_run import fit_run, judged, reliabilities
from fti_qdrant.errors import BadBenchmark, BadCalibration, CheckpointError
from fti_qdrant.gallery import GallerySpec
from fti_qdrant.model.fingerprint import Fingerprint
from tests.benchmarks.evaluated_runs import invoke

FINGERPRINT = Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", 8)
METRICS: dict[str, Any] = {
    **dict.fromkeys(("protocol", "annotations", "gallery"), "x"),
    **dict.fromkeys(("gallery_digest", "precision", "device", "command"), "x"),
    "benchmark": "toy",
    "split": "val",
    "whole": "all",
    "averaged_over": [],
    "comparable": True,
    "notes": [],
    "search": "exact",
    "queries": 60,
    "gallery_images": 40,
    "model": FINGERPRINT.as_dict(),
    "inverter": "fedcba9876543210",
    "figures": {"pdv": {"all": {"R@1": 0.5}}, "sum": {"all": {"R@1": 0.5}}},
    "composer_options": {"pdv": {"text_weight": 0.8}, "sum": {"text_weight": 0.5}},
    "vocabulary": "words",
    "versions": {},
    "made": "2026-01-01T00:00:00Z",
}


def rows(composer: str, queries: int = 60, search: str = "exact") -> list[dict[str, Any]]:
    """Queries with two references, of which one is the first hit; each third has no second."""
    rng = np.random.default_rng(len(composer))
    made = []
    for number in range(queries):
        ids = [f"{number % 30}", *(f"i{place}" for place in rng.permutation(40)[:15])]
        scores = np.sort(rng.uniform(0, 1, 16))[::-1].astype(np.float32)
        right = [id for id, score in zip(ids[1:], scores[1:]) if rng.random() < score]
        more = [f"m{number}"] if number % 3 else None
        facts = {"composer": composer, "search": search, "query": f"q{number}", "ids": ids}
        facts |= {"scores": scores.tolist(), "relevant": right or ["i1"]}
        made.append({**facts, "reference": f"{number % 30}", "more_references": more})
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", [*rows("pdv"), *rows("sum"), *rows("sum", search="index")])


def write_run(folder: Path, lines: list[dict[str, Any]], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({**METRICS, **changes}))
    parquet.write_table(pa.Table.from_pylist(lines), folder / "per_query.parquet")
    return folder


def test_the_first_hits_are_judged_without_the_references() -> None:
    lines = rows("pdv")
    lines[0] |= {"ids": ["a", "m", "b", "0", "c"], "scores": [0.5, 0.4, 0.3, 0.2, 0.1]}
    lines[0] |= {"relevant": ["b", "z"], "more_references": ["m"]}
    lines[1] |= {"ids": [], "scores": []}
    lines[2] |= {"relevant": []}
    hits = judged(pa.Table.from_pylist(lines[:3]), depth=2)
    assert hits.scores.tolist() == pytest.approx([0.5, 0.3])
    assert hits.right.tolist() == [False, True]
    assert hits.queries == 1
    assert len(judged(pa.Table.from_pylist(lines[3:]), depth=4)) == 57 * 4


def test_a_run_is_fitted_for_each_composer(run: Path) -> None:
    _, found = fit_run(run)
    assert found.missing == {}
    assert [one.maker.composer for one in found.fitted] == ["pdv", "sum"]
    pdv, other = found.fitted
    assert pdv.maker.fingerprint.matches(FINGERPRINT)
    assert (pdv.maker.inverter, other.maker.inverter) == ("fedcba9876543210", None)
    assert pdv.maker.options == {"text_weight": 0.8}
    assert (pdv.maker.vocabulary, pdv.maker.kind) == ("words", "image and text")
    assert (pdv.queries, pdv.hits, pdv.most_references) == (60, 600, 2)
    assert pdv.fitted_on == "toy val"
    table = parquet.read_table(run / "per_query.parquet", filters=[("composer", "=", "pdv")])
    measured, _ = reliabilities({"pdv": table})
    assert (pdv.ece, pdv.brier) == (measured["pdv"].ece, measured["pdv"].brier)
    assert fit_run(run / "metrics.json", ["sum"], 5)[1].fitted[0].hits == 300


def test_a_composer_with_too_little_is_named_and_the_others_fitted(tmp_path: Path) -> None:
    never = [{**line, "relevant": ["nothing"]} for line in rows("pdv")]
    run = write_run(tmp_path / "run", [*never, *rows("sum")])
    _, found = fit_run(run)
    assert [one.maker.composer for one in found.fitted] == ["sum"]
    assert "only 0 of 600 judged hits are right" in found.missing["pdv"]
    with pytest.raises(BadCalibration, match=r"pdv: only 0 of 600 judged hits are right"):
        fit_run(run, ["pdv"])


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadBenchmark, match="no composer 'fti'; it has pdv, sum"):
        fit_run(run, ["fti"])
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit_run(tmp_path / "none")
    earlier = write_run(tmp_path / "earlier", rows("pdv"), composer_options=None)
    with pytest.raises(CheckpointError, match="its rankings are kept"):
        fit_run(earlier)
    nameless = write_run(tmp_path / "nameless", rows("pdv"), model={})
    with pytest.raises(CheckpointError, match="does not say which model"):
        fit_run(nameless)
    partly = write_run(tmp_path / "partly", rows("pdv"), composer_options={"pdv": {}})
    with pytest.raises(CheckpointError, match="its rankings are kept"):
        fit_run(partly)
    secret = write_run(tmp_path / "secret", rows("pdv"), figures={})
    with pytest.raises(BadBenchmark, match="the right answers of toy val are not public"):
        fit_run(secret)
    (run / "per_query.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"per_query\.parquet.*cannot be read"):
        fit_run(run)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    EdgeGallery.create(tmp_path / "gallery", GallerySpec(fingerprint=FINGERPRINT)).close()
    return tmp_path / "gallery"


def test_the_command_stores_it_with_a_gallery(run: Path, gallery: Path) -> None:
    done = invoke("calibrate", run, "--gallery", gallery, "--composer", "sum")
    assert done.exit_code == 0, done.output
    assert "sum (image and text)" in done.stdout
    assert "stored in the gallery" in done.stdout
    again = invoke("calibrate", run, "--gallery", gallery, "--json", "--depth", 5)
    assert [one["depth"] for one in json.loads(again.stdout)["fitted"]] == [5, 5]
    with EdgeGallery.open(gallery) as opened:
        made = {one.maker.composer: one.hits for one in opened.calibration.composers}
    assert made == {"pdv": 300, "sum": 300}  # each in place of the one before


def test_the_command_writes_a_file(run: Path, tmp_path: Path) -> None:
    from fti_qdrant.gallery.calibration import Calibration

    done = invoke("calibrate", run, "--out", tmp_path / "shop.json")
    assert done.exit_code == 0, done.output
    assert len(Calibration.read(tmp_path / "shop.json").composers) == 2


def test_a_gallery_of_another_model_is_left_alone(run: Path, tmp_path: Path) -> None:
    other = Fingerprint("other", "f" * 16, "GELU", "targetpad", 8)
    EdgeGallery.create(tmp_path / "other", GallerySpec(fingerprint=other)).close()
    done = invoke("calibrate", run, "--gallery", tmp_path / "other")
    assert done.exit_code == 2
    assert "cannot be compared" in done.stderr
    assert not (tmp_path / "other" / "calibration.json").exists()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("--gallery", "{gallery}"), "either RUN"),
        (("{run}", "--pairs", "a.jsonl", "--gallery", "{gallery}"), "either RUN"),
        (("{run}",), "pass either --gallery DIR, or --url URL"),
        (("{run}", "--gallery", "{gallery}", "--composer", "best"), "unknown composer 'best'"),
        (("{run}", "--gallery", "{gallery}", "--composer", ","), "names no composer"),
        (("{run}", "--gallery", "{gallery}", "--model", "mini"), "are for --pairs"),
        (("{run}", "--gallery", "{gallery}", "--depth", "0"), "1<=x<=50"),
        (("none", "--gallery", "{gallery}"), "cannot be read"),
        (("--pairs", "none.jsonl", "--gallery", "{gallery}"), "cannot be read"),
        (("--pairs", "{run}/metrics.json", "--gallery", "{gallery}"), "has no query; line 1"),
        (("{run}", "--gallery", "nowhere"), "no gallery at 'nowhere'"),
    ],
)
def test_bad_arguments_are_one_line(
    run: Path, gallery: Path, asked: tuple[str, ...], why: str
) -> None:
    done = invoke("calibrate", *(one.format(run=run, gallery=gallery) for one in asked))
    assert done.exit_code == 2, done.output
    assert why in done.stderr
    assert "Traceback" not in done.output
    assert not (gallery / "calibration.json").exists()
