"""i-CIR, GeneCIS and PinPoint: whole runs and scores against slow transcriptions, bad folders."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pyarrow import parquet

from fti_qdrant.benchmarks.base import Benchmark, summarize
from fti_qdrant.benchmarks.crops import Box, cropped
from fti_qdrant.benchmarks.genecis import TASKS
from fti_qdrant.benchmarks.records import Ranked
from fti_qdrant.benchmarks.registry import open_benchmark
from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import BadBenchmark, BadPredictions
from fti_qdrant.images import open_image
from tests.benchmarks import definitions
from tests.benchmarks.evaluated_runs import EvaluatedRun, invoke
from tests.benchmarks.later_standins import DEEP, LATER, genecis, icir, pinpoint
from tests.benchmarks.standins import write_json

NAMES = ("icir", "genecis", "pinpoint")


class LaterRun(EvaluatedRun):
    @property
    def benchmark(self) -> Benchmark:
        return open_benchmark(self.name, self.root)

    def figures(self, composer: str) -> dict[str, float]:
        """Every figure, those of a group with its name in front, as the definitions name them."""
        groups = self.metrics["figures"][composer]
        whole = groups[self.metrics["whole"]]
        named = {f"{group} {m}": value for group, of in groups.items() for m, value in of.items()}
        return {**named, **whole, **self.metrics["set_figures"].get(composer, {})}


@pytest.fixture(scope="module", params=NAMES)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LaterRun:
    name = request.param
    root, out = LATER[name](tmp_path_factory.mktemp(name)), tmp_path_factory.mktemp("out")
    done = invoke("run", name, "--root", root, "--out", out, "--composer", "image")
    assert done.exit_code == 0, done.output
    return LaterRun(name, root, out, done.stdout)


@pytest.fixture(scope="module")
def mini() -> Composer:
    return Composer.load("mini", device="cpu")


def slow_lists(benchmark: Benchmark, mini: Composer) -> list[list[str]]:
    """The whole ranking of each query, by cosines of the mean image vector, one query at a time."""
    paths = {image.id: image.path for image in (*benchmark.gallery(), *benchmark.query_images())}
    pictures = [open_image(str(path)).image for path in paths.values()]
    made = F.normalize(mini.backbone.image_features(pictures).pooled, dim=1)
    vectors = dict(zip(paths, made))
    gallery = list(benchmark.gallery())
    lists = []
    for query in benchmark.queries:
        own = [vectors[id] for id in query.references]
        asked = F.normalize(torch.stack(own).mean(dim=0), dim=0)
        scored = [
            (-float(asked @ vectors[image.id]), image.id)
            for image in gallery
            if query.part is None or query.part in image.parts
        ]
        lists.append([id for _, id in sorted(scored)])
    return lists


def definition(name: str, root: Path, lists: list[list[str]]) -> dict[str, float]:
    """The figures by the slow transcription, which reads the annotation files itself."""
    if name == "icir":
        rows = [
            list(csv.reader((root / f"{kind}_files.csv").open())) for kind in ("query", "database")
        ]
        return definitions.icir(*rows, lists)
    if name == "pinpoint":
        rows_of = parquet.read_table(root / "pinpoint_licensed.parquet").to_pylist()
        return definitions.pinpoint(rows_of, lists)
    places: dict[str, list[int]] = {}
    ranked = iter(lists)
    for task in TASKS:
        for template in json.loads((root / "genecis" / f"{task}.json").read_text()):
            if len(template["gallery"]) == 4:
                target = template["target"]
                box = target["instance_bbox"]
                id = (
                    f"coco-{target['val_image_id']}"
                    if box is None
                    else "-".join(map(str, ["vg", target["image_id"], *box]))
                )
                places.setdefault(task, []).append(next(ranked).index(id) + 1)
    return definitions.genecis(places)


def test_the_figures_of_a_run_are_the_definition(ran: LaterRun, mini: Composer) -> None:
    lists = slow_lists(ran.benchmark, mini)
    if ran.name == "pinpoint":
        lists = [found[:50] for found in lists]  # as many as the published code retrieves
    want = definition(ran.name, ran.root, lists)
    got = ran.figures("image")
    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-9)
    assert f"the checksum of the published annotations of {ran.name} is not known" in ran.output


def test_a_run_shows_its_figures_and_its_pictures(ran: LaterRun) -> None:
    page = (ran.out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") > 20
    shown = {"icir": "minmAP", "genecis": "focus_attribute", "pinpoint": "P@10 range"}[ran.name]
    assert shown in page
    assert shown in ran.output


def test_two_images_a_query_and_a_changed_one_outside_the_gallery(
    tmp_path: Path, mini: Composer
) -> None:
    root, out = pinpoint(tmp_path / "pinpoint"), tmp_path / "out"
    asked = ("run", "pinpoint", "--root", root, "--out", out, "--composer", "fti")
    assert invoke(*asked).exit_code == 0
    for path in (out / "rankings").iterdir():  # as an earlier version wrote them
        parquet.write_table(parquet.read_table(path).drop_columns(["right_ranks"]), path)
    parts = {path: path.stat().st_mtime_ns for path in (out / "rankings").iterdir()}
    assert invoke(*asked).exit_code == 0
    assert parts == {path: path.stat().st_mtime_ns for path in (out / "rankings").iterdir()}
    benchmark = open_benchmark("pinpoint", root)
    rows = parquet.read_table(out / "per_query.parquet").to_pylist()
    assert [len(row["more_references"]) for row in rows[2:4]] == [0, 1]
    for row, query in list(zip(rows, benchmark.queries))[2:4]:
        pictures = [open_image(str(benchmark.picture(id))).image for id in query.references]
        words = mini.image_references(pictures).words
        assert words is not None
        assert row["r"] == int(words.counts.sum())  # of all of its images
    outside = next(benchmark.query_images()).path
    Image.new("RGB", (64, 64), "red").save(str(outside))
    done = invoke(*asked)
    assert done.exit_code == 1, done.output
    assert "holds a run with another gallery" in done.output


def shuffled(benchmark: Benchmark, seed: int) -> list[list[str]]:
    """Random whole rankings of the images that each query searches."""
    rng, gallery, lists = random.Random(seed), list(benchmark.gallery()), []
    for query in benchmark.queries:
        own = [one.id for one in gallery if query.part is None or query.part in one.parts]
        lists.append(rng.sample(own, len(own)))
    return lists


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_random_lists_are_the_definition(name: str, tmp_path: Path) -> None:
    root = LATER[name](tmp_path / name)
    benchmark = open_benchmark(name, root)
    lists = shuffled(benchmark, 1)
    data = {query.id: found for query, found in zip(benchmark.queries, lists)}
    if name == "pinpoint":
        assert benchmark.queries[0].id == "00001"
        data = {id: {"retrieved_items": found} for id, found in data.items()}  # type: ignore[misc]
    write_json(tmp_path / "lists.json", data)
    done = invoke(
        "score", name, "--annotations", root, "--predictions", tmp_path / "lists.json", "--json"
    )
    assert done.exit_code == 0, done.output
    scored = json.loads(done.stdout)
    figures = scored["figures"]
    whole = figures[benchmark.whole]
    got = {
        **{f"{group} {m}": value for group, of in figures.items() for m, value in of.items()},
        **whole,
        **scored["set_figures"],
    }
    want = definition(name, root, lists)
    assert {one: got[one] for one in want} == pytest.approx(want, abs=1e-12)
    assert any("checksum of the published" in note for note in scored["notes"])


@pytest.mark.parametrize("name", NAMES)
def test_the_lists_that_a_benchmark_writes_are_read_again(name: str, tmp_path: Path) -> None:
    benchmark = open_benchmark(name, LATER[name](tmp_path))
    ranked = Ranked(shuffled(benchmark, 2))
    (content,) = benchmark.predictions(ranked).values()
    assert benchmark.read_predictions(json.loads(json.dumps(content))).images == ranked.images


def test_icir_ranks_whole_databases_and_stores_fifty(tmp_path: Path) -> None:
    benchmark = open_benchmark("icir", icir(tmp_path))
    depths = [benchmark.depth(query) for query in benchmark.queries]
    assert max(depths) == DEEP
    assert [query.part for query in benchmark.queries[:2]] == ["temple", "temple"]
    assert len(list(benchmark.query_images())) == 6


@pytest.mark.parametrize("prefix", ["icir/", "", "icir_v1/"])
def test_icir_paths_may_begin_with_the_folder(prefix: str, tmp_path: Path) -> None:
    benchmark = open_benchmark("icir", icir(tmp_path / "icir", prefix))
    assert all(image.path for image in benchmark.files())


@pytest.mark.parametrize(
    ("genome", "coco"),
    [("VG_100K", "val2017"), ("Visual_Genome/VG_All", "coco2017/val2017"), ("vg", "coco/val2017")],
)
def test_genecis_photos_lie_in_any_usual_place(genome: str, coco: str, tmp_path: Path) -> None:
    benchmark = open_benchmark("genecis", genecis(tmp_path, genome, coco))
    assert all(image.path for image in benchmark.files())
    assert len(benchmark.queries) == 4 * 5  # those with a shorter gallery are left out


def test_one_task_of_genecis_is_a_split_of_its_own(tmp_path: Path) -> None:
    benchmark = open_benchmark("genecis", genecis(tmp_path), "focus_object")
    assert {query.aspects for query in benchmark.queries} == {("focus_object",)}
    lists = shuffled(benchmark, 3)
    done = [query.relevant[0] == found[0] for query, found in zip(benchmark.queries, lists)]
    figures = summarize(benchmark.measure(Ranked(lists)), benchmark.groups())
    assert figures["all"]["R@1"] == pytest.approx(np.mean(done))


@pytest.mark.parametrize("nested", [True, False])
def test_pinpoint_images_lie_flat_or_as_their_address_has_them(
    nested: bool, tmp_path: Path
) -> None:
    benchmark = open_benchmark("pinpoint", pinpoint(tmp_path, nested))
    assert all(image.path for image in benchmark.files())
    assert [len(query.references) for query in benchmark.queries] == [1] * 3 + [2] * 3 + [1] * 4
    assert benchmark.queries[0].aspects == ("fashion", "one image")
    assert benchmark.has_truth  # though one query has no right answer


def test_crops_are_the_published_ones() -> None:
    """Against a transcription that works pixel by pixel."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        pixels = rng.integers(1, 256, (30, 46, 3), dtype=np.uint8)
        x, y = rng.integers(0, 40), rng.integers(0, 26)
        w, h = rng.integers(1, 30), rng.integers(1, 30)
        left, top = max(0, x - 0.7 * w), max(0, y - 0.7 * h)
        right, bottom = min(46, left + 1.7 * w), min(30, top + 1.7 * h)
        part = pixels[round(top) : round(bottom), round(left) : round(right)]
        side = max(part.shape[:2])
        want = np.zeros((side, side, 3), dtype=np.uint8)
        down, over = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
        want[down : down + part.shape[0], over : over + part.shape[1]] = part
        got = np.asarray(cropped(Image.fromarray(pixels), Box(x, y, w, h)))
        assert np.array_equal(got, want)
    with pytest.raises(BadBenchmark, match="box 100, 3, 5, 5 is outside of its photo of 46 x 30"):
        cropped(Image.fromarray(pixels), Box(100, 3, 5, 5))


def test_a_box_outside_of_its_photo_is_named_before_any_work(tmp_path: Path) -> None:
    root = genecis(tmp_path / "genecis")
    template(target={"image_id": 100, "instance_bbox": [900, 9, 5, 5]})(root)
    done = invoke("run", "genecis", "--root", root, "--out", tmp_path / "out")
    assert done.exit_code == 2
    told = " ".join(done.output.split())
    assert "100.jpg': box 900, 9, 5, 5 is outside of its photo of 64 x 64" in told


def test_doctor_looks_at_photos_and_at_query_images_outside_the_gallery(tmp_path: Path) -> None:
    root = genecis(tmp_path / "genecis")
    (root / "VG_100K_2" / "0.jpg").unlink()
    done = invoke("doctor", "genecis", "--root", root, "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert [one["image"] for one in found["findings"]] == ["vg-0"]
    assert found["affected_queries"] == ["focus_attribute/0"]
    assert not (root / "genecis_crops").exists()
    root = icir(tmp_path / "icir")
    lost = next(open_benchmark("icir", root).query_images())
    Path(str(lost.path)).write_bytes(b"")
    found = json.loads(invoke("doctor", "icir", "--root", root, "--json").stdout)
    assert [(one["image"], one["queries"]) for one in found["findings"]] == [(lost.id, ["0", "1"])]
    assert found["deviations"] == ["10 queries, officially 1883"]


def test_a_run_without_a_query_image_stops_and_names_it(tmp_path: Path) -> None:
    root = icir(tmp_path / "icir")
    lost = next(open_benchmark("icir", root).query_images())
    Path(str(lost.path)).unlink()
    done = invoke("run", "icir", "--root", root, "--out", tmp_path / "out", "--composer", "image")
    assert done.exit_code == 2
    assert f"1 images of icir test are missing: {lost.id}" in done.output


def csv_row(row: str) -> Any:
    def damage(root: Path) -> None:
        path = root / "query_files.csv"
        path.write_text(row + path.read_text())

    return damage


def template(**changes: Any) -> Any:
    def damage(root: Path) -> None:
        path = root / "genecis" / "change_attribute.json"
        entries = json.loads(path.read_text())
        entries[1].update(changes)
        path.write_text(json.dumps(entries))

    return damage


def column(**changes: Any) -> Any:
    def damage(root: Path) -> None:
        path = root / "pinpoint_licensed.parquet"
        rows = parquet.read_table(path).to_pylist()
        parquet.write_table(pa.Table.from_pylist([{**row, **changes} for row in rows]), path)

    return damage


DAMAGE: dict[str, tuple[str, Any, str]] = {
    "four cells": ("icir", csv_row("a.png,red, big,mug\n"), "row 1: .* is not image path, text"),
    "no instance": ("icir", csv_row("a.png,red,\n"), "row 1: .* is not image path, text, instance"),
    "stranger": ("icir", csv_row("a.png,red,car\n"), "row 1: .* no images of instance 'car'"),
    "no answer": ("icir", csv_row("a.png,red,mug\n"), "no database image of 'mug' has the text"),
    "no file": (
        "icir",
        lambda root: (root / "database_files.csv").unlink(),
        "is missing; download",
    ),
    "binary": (
        "icir",
        lambda root: (root / "database_files.csv").write_bytes(b"\xff\xfe\x00a"),
        "database_files.csv' cannot be read",
    ),
    "empty": ("icir", lambda root: (root / "query_files.csv").write_text(""), "has no rows"),
    "no box": (
        "genecis",
        template(target={"image_id": 3}),
        r"change_attribute.json', query number 1: an image has neither",
    ),
    "no gallery": ("genecis", template(gallery=[]), "query number 1 gallery"),
    "no condition": ("genecis", template(condition=None), "query number 1 condition"),
    "no task": (
        "genecis",
        lambda root: (root / "genecis" / "focus_object.json").unlink(),
        "focus_object.json' is missing",
    ),
    "same id": ("pinpoint", column(query_id="7"), "has a query_id twice"),
    "no list": (
        "pinpoint",
        column(positive_candidates="abc"),
        "query number 0 positive_candidates",
    ),
    "no image": ("pinpoint", column(query_image_signature=None), "query_image_signature"),
    "not Parquet": (
        "pinpoint",
        lambda root: (root / "pinpoint_licensed.parquet").write_bytes(b"x"),
        "cannot be read",
    ),
    "no index": (
        "pinpoint",
        lambda root: (root / "index_signatures.txt").unlink(),
        "index_signatures.txt' is missing",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_annotations_are_refused_by_file_and_query(case: str, tmp_path: Path) -> None:
    name, damage, message = DAMAGE[case]
    damage(LATER[name](tmp_path))
    with pytest.raises(BadBenchmark, match=message):
        list(open_benchmark(name, tmp_path).files())


@pytest.mark.parametrize(
    ("name", "list_of", "message"),
    [
        ("icir", ["icir/database/mug/hn/mug-0001.png"], "the gallery has no image"),
        ("genecis", ["coco-7"], "the gallery has no image 'coco-7'"),
        ("pinpoint", {"retrieved": []}, "is not a list of images"),
        ("pinpoint", ["abc"], "the gallery has no image 'abc'"),
    ],
)
def test_lists_with_images_of_another_gallery_are_refused(
    name: str, list_of: Any, message: str, tmp_path: Path
) -> None:
    benchmark = open_benchmark(name, LATER[name](tmp_path))
    data: dict[str, Any] = {query.id: [] for query in benchmark.queries}
    data[benchmark.queries[0].id] = list_of
    with pytest.raises(BadPredictions, match=message):
        benchmark.read_predictions(data)
