"""``fti-eval`` end to end: pictures on disk, fti-ingest, the embedded engine, figures, report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from fti_qdrant.benchmarks.registry import open_benchmark
from fti_qdrant.cli.evaluate import main
from fti_qdrant.gallery import EdgeGallery
from tests.benchmarks import standins
from tests.commands import run_command, start_command

COMPOSERS = ["fti", "subject", "sum", "image", "text"]


def evaluate(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "COLUMNS": "200", **(env or {})}
    return run_command("fti_qdrant.cli.evaluate", *arguments, environment=full)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module", params=["fashioniq", "cirr", "circo"])
def ran(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: dict[str, str],
) -> tuple[str, Path, Path, str]:
    """Name, root, output folder and what was told, of a whole run over stand-in pictures."""
    name = request.param
    root = standins.MAKERS[name](tmp_path_factory.mktemp(name))
    out = tmp_path_factory.mktemp("out") / name
    done = evaluate("run", name, "--root", root, "--out", out, env=ray_cluster)
    assert done.returncode == 0, done.stderr
    return name, root, out, done.stdout


def test_a_run_leaves_figures_lists_and_a_report(ran: tuple[str, Path, Path, str]) -> None:
    name, root, out, told = ran
    metrics = json.loads((out / "metrics.json").read_text())
    benchmark = open_benchmark(name, root)
    assert list(metrics["figures"]) == COMPOSERS
    assert metrics["protocol"] == benchmark.protocol
    assert metrics["gallery_images"] == sum(1 for _ in benchmark.gallery())
    assert not metrics["comparable"]  # few queries, and the table says so
    assert "not comparable with published figures" in told
    assert "published (SIGIR 2024" in told or name != "fashioniq"
    assert "ICCV 2023" in told
    rows = parquet.read_table(out / "per_query.parquet")
    assert rows.num_rows == len(COMPOSERS) * len(benchmark.queries)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") > 50
    assert "Not comparable with published figures" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # self-contained
    assert page.count('<section class="row"') >= min(4, len(benchmark.queries))


def test_the_lists_that_a_run_wrote_score_the_same(ran: tuple[str, Path, Path, str]) -> None:
    name, root, out, _ = ran
    metrics = json.loads((out / "metrics.json").read_text())
    for composer in COMPOSERS:
        told: dict[str, Any] = {}
        for path in sorted((out / "submission-not-comparable" / composer).iterdir()):
            asked = ("score", name, "--annotations", root, "--split", "val", "--predictions", path)
            done = invoke(*asked, "--json")
            assert done.exit_code == 0, done.output
            for group, figures in json.loads(done.stdout)["figures"].items():
                told.setdefault(group, {}).update(figures)
        assert told == metrics["figures"][composer]


def test_a_second_run_ingests_and_ranks_nothing(ran: tuple[str, Path, Path, str]) -> None:
    name, root, out, told = ran
    before = json.loads((out / "metrics.json").read_text())
    parts = {path: path.stat().st_mtime_ns for path in (out / "rankings").iterdir()}
    done = invoke("run", name, "--root", root, "--out", out)
    assert done.exit_code == 0, done.output
    assert "$ fti-ingest" in told
    assert "$ fti-ingest" not in done.output
    after = json.loads((out / "metrics.json").read_text())
    assert after["figures"] == before["figures"]
    assert parts == {path: path.stat().st_mtime_ns for path in (out / "rankings").iterdir()}


def test_a_run_compared_with_itself_differs_in_nothing(ran: tuple[str, Path, Path, str]) -> None:
    _, _, out, _ = ran
    done = invoke("compare", out, out / "metrics.json", "--json", "--resamples", 100)
    assert done.exit_code == 0, done.output
    for one in json.loads(done.stdout)["differences"]:
        assert (one["low"], one["high"], one["significant"]) == (0.0, 0.0, False)


def test_a_missing_picture_refuses_or_marks_everything(
    tmp_path: Path, ray_cluster: dict[str, str]
) -> None:
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
    done = evaluate(*asked, "--allow-missing", env=ray_cluster)
    assert done.returncode == 0, done.stderr
    assert f"2 gallery images are missing: {gone}, {broken}" in " ".join(done.stdout.split())
    assert "sum (not comparable)" in done.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not metrics["comparable"]
    assert (tmp_path / "out" / "submission-not-comparable" / "sum").is_dir()
    assert not (tmp_path / "out" / "submission").exists()
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text()
    assert path.name in rejects


def test_doctor_tells_files_queries_and_what_to_do(tmp_path: Path) -> None:
    root = standins.circo(tmp_path)
    benchmark = open_benchmark("circo", root)
    path = Path(str(benchmark.picture(benchmark.queries[0].reference)))
    path.unlink()
    done = invoke("doctor", "circo", "--root", root)
    assert done.exit_code == 2
    assert "1 pictures missing or unreadable, 1 queries affected" in done.stdout
    assert "what to do: download CIRCO's annotations/" in done.stdout
    told = json.loads(invoke("doctor", "circo", "--root", root, "--json").stdout)
    assert not told["healthy"]
    assert told["affected_queries"] == [benchmark.queries[0].id]
    assert told["findings"][0]["reason"] == "missing"


@pytest.fixture(scope="module")
def emoji(
    tmp_path_factory: pytest.TempPathFactory, ray_cluster: dict[str, str]
) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("emoji")
    done = evaluate("run", "emoji", "--root", out / "pictures", "--out", out, env=ray_cluster)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def figures(out: Path) -> Any:
    return json.loads((out / "metrics.json").read_text())["figures"]


def test_emoji_is_comparable_and_ordered_as_the_paper(emoji: tuple[Path, str]) -> None:
    out, told = emoji
    measured = figures(out)
    best = {one: measured[one]["all"]["R@1"] for one in COMPOSERS}
    assert best["fti"] > best["subject"] > best["sum"] > best["image"] > best["text"]
    assert json.loads((out / "metrics.json").read_text())["comparable"]
    for kind in ("direction", "gender", "hair", "tone"):
        assert f"│ {kind}" in told
    assert "subset R@1 by kind of query" in told


def test_emoji_killed_while_ranking_ends_with_the_same_figures(
    emoji: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = emoji
    asked = ["--root", out / "pictures", "--gallery", out / "gallery", "--out", tmp_path / "again"]
    process = start_command("fti_qdrant.cli.evaluate", "run", "emoji", *asked)
    parts = tmp_path / "again" / "rankings"
    until = time.monotonic() + 300
    while not list(parts.glob("*.parquet")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ranked = len(list(parts.glob("*.parquet")))
    assert 0 < ranked < 65  # 13 batches by five composers
    done = evaluate("run", "emoji", *asked)
    assert done.returncode == 0, done.stderr
    assert "$ fti-ingest" not in done.stdout
    assert figures(tmp_path / "again") == figures(out)


def test_compare_tells_composers_apart(emoji: tuple[Path, str]) -> None:
    out, _ = emoji
    done = invoke("compare", out, out, "--composer", "sum", "--against", "fti", "--json")
    told = {(one["group"], one["measure"]): one for one in json.loads(done.stdout)["differences"]}
    one = told["all", "R@1"]
    assert one["a"] < one["b"]
    assert one["low"] < one["b"] - one["a"] < one["high"]
    assert one["significant"]


def test_compare_refuses_figures_that_are_not_of_these_rankings(
    emoji: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = emoji
    metrics = json.loads((out / "metrics.json").read_text())
    (tmp_path / "per_query.parquet").write_bytes((out / "per_query.parquet").read_bytes())
    for change in ({"queries": 7}, {"figures": {"fti": {"all": {"mAP@10": 0.5}}}}):
        (tmp_path / "metrics.json").write_text(json.dumps({**metrics, **change}))
        done = invoke("compare", tmp_path, tmp_path)
        assert done.exit_code == 2, done.output
        assert "is not of the same run" in " ".join(done.stderr.split())
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "per_query.parquet").unlink()
    done = invoke("compare", tmp_path, tmp_path)
    assert "per_query.parquet', which belongs beside metrics.json, cannot be read" in done.stderr


def test_the_servers_key_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from fti_qdrant.cli.evaluate.run import _command

    monkeypatch.setattr(sys, "argv", ["x", "run", "--api-key", "SECRET", "--root", "my data"])
    assert _command() == "fti-eval run --api-key ... --root 'my data'"
    monkeypatch.setattr(sys, "argv", ["x", "run", "--api-key=SECRET"])
    assert "SECRET" not in _command()


def test_another_models_gallery_is_refused_before_any_work(
    emoji: tuple[Path, str], tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    with EdgeGallery.open(emoji[0] / "gallery") as made:
        spec = made.spec
    other = json.loads(spec.model_dump_json())
    other["fingerprint"]["weights"] = "f" * 16
    EdgeGallery.create(gallery, type(spec).model_validate(other)).close()
    asked = ("run", "emoji", "--root", emoji[0] / "pictures", "--gallery", gallery)
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
    "no answers": (
        ["score", "circo", "--annotations", "{test}", "--split", "test", "--predictions", "x"],
        2,
        "right answers are not public",
    ),
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
        "test": standins.circo(tmp_path_factory.mktemp("test"), "test"),
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
    """The tiny model as open_clip loads it."""
    from safetensors.torch import save_file

    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    weights = {name: value.contiguous() for name, value in tiny_clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("command", ["", "doctor", "run", "score", "compare"])
def test_help_shows_examples(command: str) -> None:
    done = invoke(*([command] if command else []), "--help")
    assert done.exit_code == 0
    assert "Examples:" in done.output
