"""``fti-search models``, and the program around it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from fti_qdrant.cli.search import main
from fti_qdrant.model.pretrained import KNOWN_INVERTERS, KNOWN_MODELS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "220"})


def test_the_tables():
    done = run("models")
    assert done.exit_code == 0
    for row in (*KNOWN_MODELS.values(), KNOWN_INVERTERS["fti4cir"]):
        line = next(one for one in done.stdout.splitlines() if one.startswith(f"│ {row.name} "))
        assert row.purpose in line
        assert row.license in line
    assert "mAP@5 39.2" in done.stdout
    assert "arXiv 2412.14475" in done.stdout
    assert "R@10 29.39, R@50 50.88" in done.stdout


def test_as_json():
    done = run("models", "--json")
    listed = json.loads(done.stdout)
    assert [row["name"] for row in listed["models"]] == list(KNOWN_MODELS)
    assert [row["name"] for row in listed["inverters"]] == list(KNOWN_INVERTERS)
    by_name = {row["name"]: row for row in listed["models"]}
    large = by_name["hf:BAAI/BGE-VL-large"]
    assert large["composer"] == "raw-sum"
    assert large["preprocess"] == "center-crop"
    assert large["parameters"] == 427_616_513
    figures = {one["benchmark"]: one["figures"] for one in large["published"]}
    assert figures == {"cirr": {"R@1": 38.0}, "circo": {"mAP@5": 39.2}}
    assert by_name["ViT-B-16-SigLIP2/webli"]["preprocess"] == "squash"
    assert by_name["PE-Core-B-16/meta"]["published"] == []
    fti4cir = listed["inverters"][1]
    assert fti4cir["backbone"] == "ViT-L-14-quickgelu/openai"
    assert fti4cir["repository"] == "iLearn-Lab/SIGIR24-FTI4CIR"


@pytest.mark.parametrize("name", [[], ["query"]], ids=["left out", "named"])
def test_the_query_command_may_be_left_out(tmp_path, name):
    done = run(*name, "--gallery", str(tmp_path / "models"), "--text", "a dress")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: no gallery at")


@pytest.mark.parametrize(
    "arguments", [[], ["--text", "x"], ["--text", "models"], ["--json"], ["--limit", "3"]]
)
def test_a_query_without_a_gallery_says_so(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "pass either --gallery DIR" in done.stderr


def test_help_lists_the_options_and_the_commands():
    done = run("--help")
    for shown in ("--gallery", "--image", "--composer", "--version", "models", "query"):
        assert shown in done.stdout


def test_an_unknown_command():
    done = run("modles")
    assert done.exit_code == 2
    assert "modles" in done.stderr
