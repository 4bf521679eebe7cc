"""The page about composers and benchmarks of one's own: its code runs as it is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fti_qdrant.benchmarks import registry as benchmarks
from fti_qdrant.cli.evaluate import main
from fti_qdrant.composers import registry
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.description import ComposerInputs
from fti_qdrant.errors import BadBenchmark, BadQuery
from fti_training.fit.benchmark_validation import BenchmarkValidation
from tests.benchmarks.standins import paint, write_json

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def blocks_with(text: str) -> list[str]:
    """The page's Python code that holds a text."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in found if text in block]


@pytest.fixture
def names(monkeypatch):
    """What the page's code about composers defines, registered for one test."""
    monkeypatch.setattr(registry, "COMPOSERS", dict(registry.COMPOSERS))
    made: dict[str, object] = {}
    for block in blocks_with("omposer"):
        exec(block, made)
    return made


@pytest.fixture
def shop_class(monkeypatch):
    """The benchmark of the page, registered for one test."""
    monkeypatch.setattr(benchmarks, "BENCHMARKS", dict(benchmarks.BENCHMARKS))
    made: dict[str, object] = {}
    for block in blocks_with("Benchmark"):
        exec(block, made)
    return made["Shop"]


def test_the_code_of_the_page_runs(names, tiny_composer, pictures):
    assert isinstance(names["composer"], Composer)
    image, prompt, bare = (
        torch.nn.functional.normalize(made, dim=-1)
        for made in (
            tiny_composer.compose(pictures[:2], ["in red"] * 2, "image"),
            tiny_composer.compose(pictures[:2], ["in red"] * 2, "fti"),
            tiny_composer.compose(pictures[:2], [""] * 2, "fti"),
        )
    )
    made = tiny_composer.compose(pictures[:2], ["in red"] * 2, "pushed", options={"push": 2.0})
    expected = torch.nn.functional.normalize(image + 2 * (prompt - bare), dim=-1)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadQuery, match="'pushed': push must be at most 5"):
        tiny_composer.options("pushed", {"push": 9})


def test_every_need_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    needs = [name for name, one in vars(ComposerInputs).items() if isinstance(one, property)]
    assert len(needs) == 7
    for need in needs:
        assert f"`{need}`" in text, need


@pytest.fixture
def shop(tmp_path):
    """Photos of a shop, and questions whose answers are the references themselves."""
    for number in range(8):
        paint(tmp_path / "shop" / "photos" / f"p{number}.png")
    questions = [
        {"id": f"q{number}", "photo": f"p{number}", "text": "in red", "answer": f"p{number + 4}"}
        for number in range(4)
    ]
    write_json(tmp_path / "shop" / "questions.json", questions)
    return tmp_path / "shop"


def invoke(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_the_benchmark_of_the_page_runs_through_every_command(shop_class, shop, tmp_path):
    (block,) = blocks_with("class Shop")
    assert len([line for line in block.splitlines() if line.strip()]) <= 25
    out = tmp_path / "out"
    done = invoke("run", "shop", "--root", shop, "--out", out, "--composer", "image")
    assert done.exit_code == 0, done.output
    figures = json.loads((out / "metrics.json").read_text())["figures"]["image"]["all"]
    assert list(figures) == ["R@1", "R@5", "R@10", "R@50"]
    assert figures["R@10"] == 1.0  # the gallery has 8 photos
    (lists,) = (out / "submission-not-comparable" / "image").iterdir()
    assert set(json.loads(lists.read_text())["q0"]) == {f"p{n}" for n in range(1, 8)}
    done = invoke("score", "shop", "--annotations", shop, "--predictions", lists, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["figures"]["all"] == figures
    validation = BenchmarkValidation.open("shop", str(shop), None)
    assert validation.figure_names() == ("shop_R@1", "shop_R@5", "shop_R@10", "shop_R@50")
    (shop / "photos" / "p5.png").write_bytes(b"")
    found = json.loads(invoke("doctor", "shop", "--root", shop, "--json").stdout)
    assert [(one["image"], one["queries"]) for one in found["findings"]] == [("p5", ["q1"])]


class Point:
    """An entry point of an installed package."""

    name, value = "boots", "boots_package:Boots"

    def __init__(self, found):
        self.found = found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def installed(monkeypatch, found):
    monkeypatch.setattr(benchmarks, "_installed", lambda: {"boots": Point(found)})


def test_a_package_brings_a_benchmark_by_an_entry_point(shop_class, monkeypatch, shop):
    boots = type("Boots", (shop_class,), {"name": "boots"})
    installed(monkeypatch, boots)
    assert benchmarks.benchmark_names()[-2:] == ("shop", "boots")
    assert "boots" not in benchmarks.BENCHMARKS  # not loaded for its name
    done = invoke("doctor", "boots", "--root", shop, "--quick", "--json")
    assert json.loads(done.stdout)["queries"] == 4
    assert benchmarks.BENCHMARKS["boots"] is boots


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (ImportError("no module named feet"), "cannot be loaded: no module named feet"),
        (dict, "which is not a Benchmark of that name"),
        (benchmarks.CIRR, "which is not a Benchmark of that name"),
    ],
)
def test_a_package_that_is_broken_is_named(monkeypatch, tmp_path, found, message):
    monkeypatch.setattr(benchmarks, "BENCHMARKS", dict(benchmarks.BENCHMARKS))
    installed(monkeypatch, found)
    done = invoke("doctor", "boots", "--root", tmp_path)
    assert done.exit_code == 2
    assert message in done.output
    assert "boots_package:Boots" in done.output


def test_a_second_benchmark_of_one_name_is_refused(shop_class):
    with pytest.raises(BadBenchmark, match="there is a benchmark 'shop' already"):
        benchmarks.register(type("Other", (shop_class,), {}))
    assert benchmarks.register(shop_class) is shop_class
    with pytest.raises(BadBenchmark, match="benchmark Nameless has no name and no splits and no"):
        benchmarks.register(type("Nameless", (benchmarks.Benchmark,), {}))


def test_a_reference_that_the_gallery_lacks_is_one_line(shop_class, shop, tmp_path):
    questions = [{"id": "q0", "photo": "nowhere", "text": "in red", "answer": "p1"}]
    write_json(shop / "questions.json", questions)
    asked = ("run", "shop", "--root", shop, "--out", tmp_path / "out", "--composer", "image")
    done = invoke(*asked)
    assert done.exit_code == 2
    assert "reference 'nowhere' of shop has no image file" in done.output
