"""``fti-eval`` end to end: images on disk, ingest, an embedded gallery, figures and a report.

Runs are in this process; one is a process of its own, to be killed.
"""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from fti_ingest.engine.choose import EngineChoice
from fti_qdrant.benchmarks.registry import open_benchmark
from fti_qdrant.cli.evaluate import run as run_module
from fti_qdrant.cli.search import main as search_main
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.gallery import EdgeGallery
from tests.benchmarks import standins
from tests.benchmarks.evaluated_runs import EvaluatedRun, invoke
from tests.commands import start_command

COMPOSERS = list(composer_names())
ORDERED = ["fti", "subject", "sum", "image", "text"]
"""From the best to the worst on emoji; the others would only take time there."""

INGESTED = " stored, "
"""What a run prints where it has ingested."""


class Loads:
    """The names of the models that are loaded, while a test runs."""

    def __init__(self) -> None:
        self.names: list[str] = []


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    from fti_qdrant.model.backbone import Backbone

    found, load = Loads(), Backbone.load

    def counted(name: str, *arguments: Any, **options: Any) -> Backbone:
        found.names.append(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(Backbone, "load", counted)
    return found


@pytest.fixture(scope="module", params=["fashioniq", "cirr", "circo"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    name = request.param
    root = standins.MAKERS[name](tmp_path_factory.mktemp(name))
    out = tmp_path_factory.mktemp("out") / name
    done = invoke("run", name, "--root", root, "--out", out)
    assert done.exit_code == 0, done.output
    return EvaluatedRun(name, root, out, done.stdout)


def test_a_run_leaves_figures_lists_and_a_report(ran: EvaluatedRun) -> None:
    metrics = ran.metrics
    benchmark = open_benchmark(ran.name, ran.root)
    assert list(metrics["figures"]) == COMPOSERS
    assert metrics["protocol"] == benchmark.protocol
    assert metrics["gallery_images"] == sum(1 for _ in benchmark.gallery())
    assert not metrics["comparable"]  # few queries, and the table says so
    assert "not comparable with published figures" in ran.output
    assert "published (SIGIR 2024" in ran.output or ran.name != "fashioniq"
    assert "ICCV 2023" in ran.output
    rows = parquet.read_table(ran.out / "per_query.parquet")
    assert rows.num_rows == len(COMPOSERS) * len(benchmark.queries)
    page = (ran.out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") > 50
    assert "Not comparable with published figures" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # self-contained
    assert page.count('<section class="row"') >= min(4, len(benchmark.queries))


def test_the_lists_that_a_run_wrote_score_the_same(ran: EvaluatedRun) -> None:
    for composer in COMPOSERS:
        scored: dict[str, Any] = {}
        for path in sorted((ran.out / "submission-not-comparable" / composer).iterdir()):
            lists = ("--split", "val", "--predictions", path)
            done = invoke("score", ran.name, "--annotations", ran.root, *lists, "--json")
            assert done.exit_code == 0, done.output
            for group, figures in json.loads(done.stdout)["figures"].items():
                scored.setdefault(group, {}).update(figures)
        assert scored == ran.metrics["figures"][composer]


def test_a_second_run_ingests_and_ranks_nothing(ran: EvaluatedRun) -> None:
    before = ran.metrics
    parts = {path: path.stat().st_mtime_ns for path in (ran.out / "rankings").iterdir()}
    done = invoke("run", ran.name, "--root", ran.root, "--out", ran.out)
    assert done.exit_code == 0, done.output
    assert INGESTED in ran.output
    assert INGESTED not in done.output
    assert ran.metrics["figures"] == before["figures"]
    assert parts == {path: path.stat().st_mtime_ns for path in (ran.out / "rankings").iterdir()}


def test_a_run_compared_with_itself_differs_in_nothing(ran: EvaluatedRun) -> None:
    done = invoke("compare", ran.out, ran.out / "metrics.json", "--json", "--resamples", 100)
    assert done.exit_code == 0, done.output
    for one in json.loads(done.stdout)["differences"]:
        assert (one["low"], one["high"], one["significant"]) == (0.0, 0.0, False)


@pytest.mark.parametrize(("name", "split"), [("cirr", "test1"), ("circo", "test")])
def test_lists_of_a_test_split_are_written_and_checked_without_figures(
    name: str, split: str, tmp_path: Path
) -> None:
    root, out = standins.MAKERS[name](tmp_path / name, split), tmp_path / "out"
    done = invoke("run", name, "--root", root, "--split", split, "--out", out, "--composer", "sum")
    assert done.exit_code == 0, done.output
    no_figures = f"the right answers of {name} {split} are not public"
    assert f"no figures: {no_figures}" in done.stdout
    assert json.loads((out / "metrics.json").read_text())["figures"] == {}
    lists = next((out / "submission-not-comparable" / "sum").iterdir())
    asked = ("score", name, "--annotations", root, "--split", split, "--predictions", lists)
    done = invoke(*asked)
    assert done.exit_code == 0, done.output
    assert "valid ranked lists" in done.stdout
    assert f"the lists were checked, not scored: {no_figures}" in done.stdout
    as_json = json.loads(invoke(*asked, "--json").stdout)
    assert as_json["figures"] == {}
    content = json.loads(lists.read_text())
    content.popitem()
    lists.write_text(json.dumps(content))
    done = invoke(*asked)
    assert done.exit_code == 2
    assert "has no ranked list" in done.stderr


def written(path: Path, lists: object) -> Path:
    path.write_text(json.dumps(lists))
    return path


def test_lists_that_a_server_would_refuse_are_named(tmp_path: Path) -> None:
    root = standins.cirr(tmp_path / "cirr", "test1")
    benchmark = open_benchmark("cirr", root, "test1")
    asked = ("score", "cirr", "--annotations", root, "--split", "test1", "--predictions")
    names = [image.id for image in benchmark.gallery()]
    ranked = {q.id: [one for one in names if one != q.reference][:50] for q in benchmark.queries}
    first, facts = benchmark.queries[0], {"version": "rc2", "metric": "recall"}
    members = {q.id: list(q.subset[:3]) for q in benchmark.queries}
    lists = tmp_path / "lists.json"
    assert invoke(*asked, written(lists, {**ranked, **facts})).exit_code == 0
    subset = {**members, "version": "rc2", "metric": "recall_subset"}
    assert invoke(*asked, written(lists, subset)).exit_code == 0
    least = min(50, len(names) - 1)
    for refused, message in (
        (ranked, "the key 'version' is missing"),
        ({**ranked, "version": "rc2"}, "the key 'metric' is missing"),
        ({**ranked, **facts, first.id: []}, f"{first.id!r} has 0, not at least {least}"),
        ({**subset, first.id: members[first.id][:2]}, f"{first.id!r} has 2, not at least 3"),
        ({**ranked, **facts, first.id: ["unknown"]}, "the gallery has no image 'unknown'"),
        ({**ranked, **facts, first.id: names[:1] * 2}, "is in its list twice"),
        ({**subset, first.id: [names[-1]]}, "is not in its image set"),
        ({**ranked, **facts, "99999": []}, "query '99999' is not in this split"),
    ):
        done = invoke(*asked, written(lists, refused))
        assert done.exit_code == 2, message
        assert message in " ".join(done.stderr.split())
        assert "valid ranked lists" not in done.stdout
    as_json = invoke(*asked, written(lists, ranked), "--json")
    assert as_json.exit_code == 2
    assert len(json.loads(as_json.stdout)["faults"]) == 2


@pytest.mark.parametrize("count", [49, 51])
def test_circo_takes_fifty_images_for_each_query(tmp_path: Path, count: int) -> None:
    root = standins.circo(tmp_path / "circo", "test")
    benchmark = open_benchmark("circo", root, "test")
    names = [int(image.id) for image in benchmark.gallery()]
    lists = {query.id: names[:50] for query in benchmark.queries}
    path = tmp_path / "lists.json"
    asked = ("score", "circo", "--annotations", root, "--split", "test", "--predictions", path)
    written(path, lists)
    assert invoke(*asked).exit_code == 0
    last = benchmark.queries[-1].id
    written(path, {**lists, last: names[:count]})
    done = invoke(*asked)
    assert done.exit_code == 2
    assert f"that of query {last!r} has {count}, not 50" in " ".join(done.stderr.split())


def test_a_run_loads_its_model_once(tmp_path: Path, tiny_clip: Any, loads: Loads) -> None:
    """Ingest and ranking share it."""
    folder = standins.model_folder(tmp_path / "model", tiny_clip)
    root = standins.circo(tmp_path / "circo")
    asked = ("run", "circo", "--root", root, "--out", tmp_path / "out")
    done = invoke(*asked, "--model", f"local-dir:{folder}")
    assert done.exit_code == 0, done.output
    assert INGESTED in done.output
    assert loads.names == [f"local-dir:{folder}"]


def test_the_engine_is_the_one_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr(run_module, "run_ingest", jobs.append)
    root = standins.circo(tmp_path / "circo")
    asked = ("run", "circo", "--root", root, "--out", tmp_path / "out", "--engine", "ray")
    done = invoke(*asked, "--workers", 2, "--gpus-per-worker", 0.5, "--ray-address", "auto")
    assert done.exit_code == 2  # nothing was ingested
    assert [job.engine for job in jobs] == [EngineChoice("ray", 2, 0.5, "auto")]


def test_a_missing_picture_refuses_or_marks_everything(tmp_path: Path) -> None:
    root = standins.cirr(tmp_path / "cirr")
    benchmark = open_benchmark("cirr", root)
    gone, broken = benchmark.queries[0].subset[:2]
    Path(str(benchmark.picture(gone))).unlink()
    path = Path(str(benchmark.picture(broken)))
    path.write_bytes(path.read_bytes()[:70])
    refused = invoke("run", "cirr", "--root", root, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert f"1 images of cirr val are missing: {gone}" in refused.stderr
    assert benchmark.queries[0].id in refused.stderr
    assert "Traceback" not in refused.output
    asked = ("run", "cirr", "--root", root, "--out", tmp_path / "out", "--composer", "sum")
    done = invoke(*asked, "--allow-missing")
    assert done.exit_code == 0, done.output
    assert f"2 gallery images are missing: {gone}, {broken}" in " ".join(done.stdout.split())
    assert "sum (not comparable)" in done.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not metrics["comparable"]
    assert (tmp_path / "out" / "submission-not-comparable" / "sum").is_dir()
    assert not (tmp_path / "out" / "submission").exists()
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text()
    assert path.name in rejects


def test_doctor_lists_files_queries_and_what_to_do(tmp_path: Path) -> None:
    root = standins.circo(tmp_path)
    benchmark = open_benchmark("circo", root)
    path = Path(str(benchmark.picture(benchmark.queries[0].reference)))
    path.unlink()
    done = invoke("doctor", "circo", "--root", root)
    assert done.exit_code == 2
    assert "1 images missing or unreadable, 1 queries affected" in done.stdout
    assert "what to do: download CIRCO's annotations/" in done.stdout
    found = json.loads(invoke("doctor", "circo", "--root", root, "--json").stdout)
    assert not found["healthy"]
    assert found["affected_queries"] == [benchmark.queries[0].id]
    assert found["findings"][0]["reason"] == "missing"


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory, emoji_pictures: Path) -> EvaluatedRun:
    out = tmp_path_factory.mktemp("emoji")
    asked = ("run", "emoji", "--root", emoji_pictures, "--out", out)
    done = invoke(*asked, "--composer", ",".join(ORDERED))
    assert done.exit_code == 0, done.output
    return EvaluatedRun("emoji", emoji_pictures, out, done.stdout)


def test_emoji_is_comparable_and_ordered_as_the_paper(emoji: EvaluatedRun) -> None:
    best = {one: emoji.metrics["figures"][one]["all"]["R@1"] for one in ORDERED}
    assert best["fti"] > best["subject"] > best["sum"] > best["image"] > best["text"]
    assert emoji.metrics["comparable"]
    for kind in ("direction", "gender", "hair", "tone"):
        assert f"│ {kind}" in emoji.output
    assert "subset R@1 by kind of query" in emoji.output


def test_emoji_has_confidences_that_are_reliable_on_other_queries(emoji: EvaluatedRun) -> None:
    measured = emoji.metrics["calibration"]
    missing = emoji.metrics["not_calibrated"]  # text alone finds nearly nothing here
    assert [*measured, *missing] == ORDERED
    assert set(missing) <= {"text"}
    assert all(f"calibration of {one}: not measured: only" in emoji.output for one in missing)
    for composer, found in measured.items():
        assert found["ece"] < 0.03, composer
        assert composer == "text" or found["brier"] < found["base_brier"], composer
        assert f"{100 * found['ece']:.2f}" in emoji.output
    told = {one: found["brier"] / found["base_brier"] for one, found in measured.items()}
    assert told["fti"] < 0.7 < 0.9 < told["sum"]  # how much a score says is the composer's
    page = (emoji.out / "report.html").read_text(encoding="utf-8")
    assert page.index("<h2>Confidence</h2>") > page.index("<h2>Recall</h2>")
    assert page.count("<svg") == 2


def test_a_gallery_that_is_calibrated_on_a_run(emoji: EvaluatedRun) -> None:
    done = invoke("calibrate", emoji.out, "--gallery", emoji.out / "gallery", "--composer", "fti")
    assert done.exit_code == 0, done.output
    asked = ("--gallery", emoji.out / "gallery", "--composer", "fti", "--limit", 5)
    asked = (*asked, "--image", emoji.root / "1f44d.png", "--text", "with dark skin")
    shown, found = search(*asked), json.loads(search(*asked, "--json"))
    assert "confidence" in shown
    hits = found["hits"]
    assert [hit["confidence"] for hit in hits] == sorted(
        (hit["confidence"] for hit in hits), reverse=True
    )
    assert f"{hits[0]['confidence']:.0%}" in shown
    least = hits[2]["confidence"]
    kept = json.loads(search(*asked, "--json", "--min-confidence", least))["hits"]
    assert kept == [hit for hit in hits if hit["confidence"] >= least]
    cut = json.loads(search(*asked, "--json", "--cutoff", 0.9))
    assert cut["cutoff_by"] == "confidence"


def search(*arguments: object) -> str:
    done = CliRunner().invoke(search_main, [str(one) for one in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_emoji_killed_while_ranking_ends_with_the_same_figures(
    emoji: EvaluatedRun, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    asked = ["run", "emoji", "--root", emoji.root, "--gallery", emoji.out / "gallery"]
    asked += ["--out", out, "--composer", "fti,sum"]
    process = start_command("fti_qdrant.cli.evaluate", *asked)
    until = time.monotonic() + 300
    while not list(out.glob("rankings/*.parquet")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ranked = len(list(out.glob("rankings/*.parquet")))
    assert 0 < ranked < 26  # 13 batches by two composers
    done = invoke(*asked)
    assert done.exit_code == 0, done.output
    assert INGESTED not in done.stdout
    again = json.loads((out / "metrics.json").read_text())["figures"]
    assert again == {one: emoji.metrics["figures"][one] for one in ("fti", "sum")}


def test_compare_finds_a_significant_difference_of_composers(emoji: EvaluatedRun) -> None:
    asked = ("compare", emoji.out, emoji.out, "--composer", "sum", "--against", "fti")
    differences = json.loads(invoke(*asked, "--json").stdout)["differences"]
    one = next(one for one in differences if (one["group"], one["measure"]) == ("all", "R@1"))
    assert one["a"] < one["b"]
    assert one["low"] < one["b"] - one["a"] < one["high"]
    assert one["significant"]


def test_compare_refuses_figures_that_are_not_of_these_rankings(
    emoji: EvaluatedRun, tmp_path: Path
) -> None:
    metrics = emoji.metrics
    (tmp_path / "per_query.parquet").write_bytes((emoji.out / "per_query.parquet").read_bytes())
    for change in ({"queries": 7}, {"figures": {"fti": {"all": {"mAP@10": 0.5}}}}):
        (tmp_path / "metrics.json").write_text(json.dumps({**metrics, **change}))
        done = invoke("compare", tmp_path, tmp_path)
        assert done.exit_code == 2, done.output
        assert "is not of the same run" in " ".join(done.stderr.split())
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "per_query.parquet").unlink()
    done = invoke("compare", tmp_path, tmp_path)
    assert "per_query.parquet', which belongs next to metrics.json, cannot be read" in done.stderr


def test_the_servers_key_is_not_written_down() -> None:
    words = ["run", "--api-key", "SECRET", "--root", "my data"]
    assert run_module.command_line(words) == "fti-eval run --api-key ... --root 'my data'"
    assert run_module.command_line(["--api-key=SECRET"]) == "fti-eval --api-key=..."


def test_another_models_gallery_is_refused_before_any_work(
    emoji: EvaluatedRun, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    with EdgeGallery.open(emoji.out / "gallery") as made:
        spec = made.spec
    other = json.loads(spec.model_dump_json())
    other["fingerprint"]["weights"] = "f" * 16
    EdgeGallery.create(gallery, type(spec).model_validate(other)).close()
    asked = ("run", "emoji", "--root", emoji.root, "--gallery", gallery)
    done = invoke(*asked, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "was made with mini (weights ffffffffffffffff" in done.stderr


BAD: dict[str, tuple[list[str], int, str]] = {
    "no root": (["run", "cirr"], 2, "cirr needs --root DIR"),
    "wrong root": (["run", "cirr", "--root", "{folder}/nothing"], 2, "no folder '"),
    "empty root": (
        ["doctor", "fashioniq", "--root", "{folder}"],
        2,
        "image_splits/split.dress.val.json",
    ),
    "split": (["run", "circo", "--root", "{folder}", "--split", "train"], 2, "it has val, test"),
    "name": (["run", "shoes", "--root", "{folder}"], 2, "'shoes' is not one of"),
    "composer": (
        ["run", "circo", "--root", "{circo}", "--composer", "magic"],
        2,
        "unknown composer 'magic'",
    ),
    "no inverter": (
        ["run", "circo", "--root", "{circo}", "--model", "local-dir:{tiny}", "--composer", "fti"],
        2,
        "composer 'fti' needs --inverter",
    ),
    "two places": (
        ["run", "circo", "--root", "{circo}", "--gallery", "g", "--url", "http://x"],
        2,
        "either --gallery DIR or --url URL",
    ),
    "collection alone": (
        ["run", "circo", "--root", "{circo}", "--collection", "x"],
        2,
        "--collection needs --url",
    ),
    "device": (
        ["run", "circo", "--root", "{circo}", "--device", "bogus", "--out", "{folder}/o"],
        2,
        "device 'bogus' cannot be used",
    ),
    "out is a file": (
        ["run", "circo", "--root", "{circo}", "--out", "{folder}/text.json"],
        1,
        "text.json' cannot be written",
    ),
    "no server": (
        ["run", "circo", "--root", "{circo}", "--url", "http://127.0.0.1:9", "--out", "{folder}/o"],
        1,
        "does not answer",
    ),
    "no file": (
        ["score", "circo", "--annotations", "{circo}", "--predictions", "{folder}/no.json"],
        2,
        "no.json' cannot be read",
    ),
    "not JSON": (
        ["score", "circo", "--annotations", "{circo}", "--predictions", "{folder}/text.json"],
        2,
        "text.json' is not JSON",
    ),
    "query twice": (
        ["score", "circo", "--annotations", "{circo}", "--predictions", "{folder}/twice.json"],
        2,
        "query '0' is there twice",
    ),
    "engine": (
        ["run", "circo", "--root", "{circo}", "--engine", "local", "--workers", "4"],
        2,
        "--engine local runs one worker, not --workers 4",
    ),
    "no composer": (["run", "circo", "--root", "{circo}", "--composer", ","], 2, "no composer"),
    "no metrics": (["compare", "{folder}", "{folder}"], 2, "metrics.json' cannot be read"),
    "not metrics": (["compare", "{folder}/text.json", "{folder}"], 2, "is not a metrics.json"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.json").write_text("no JSON")
    (folder / "twice.json").write_text('{"0": [1], "0": [2]}')
    return {
        "folder": folder,
        "circo": standins.circo(tmp_path_factory.mktemp("circo")),
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(
    case: str, places: dict[str, Path], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, code, message = BAD[case]
    monkeypatch.chdir(places["folder"])
    done = invoke(*(one.format(**places, tiny=tiny_folder) for one in arguments))
    assert done.exit_code == code, done.output
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Any) -> Path:
    return standins.model_folder(tmp_path_factory.mktemp("tiny"), tiny_clip)
