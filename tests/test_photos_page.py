"""docs/quickstart-photos.md: all its commands, with small random models for those that it names.

What a random model finds means nothing; that each command does what the page says is checked.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fti_qdrant import Composer
from fti_qdrant.composers import defaults
from fti_qdrant.serve.settings import ServeSettings
from tests.benchmarks import standins
from tests.ingest.sources_and_runs import picture
from tests.model.transformers_models import save_clip

PAGE = Path(__file__).parents[1] / "docs" / "quickstart-photos.md"
SERVICE = "fti-serve"
COMMANDS, PYTHON, TABLE = "console", "python", "csv"
BGE, VIT_L, FTI4CIR = "hf:BAAI/BGE-VL-base", "ViT-L-14-quickgelu/openai", "fti4cir"
WORDS = ["dress", "shirt", "red", "blue"]


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks(COMMANDS) for line in block.splitlines()]


@dataclass(frozen=True)
class Done:
    """The folder after all commands, and what each has printed."""

    folder: Path
    printed: dict[str, str]

    def of(self, *parts: str) -> str:
        """The output of the one command that has all of these parts."""
        (found,) = (out for line, out in self.printed.items() if all(p in line for p in parts))
        return found


def run(line: str, models: dict[str, str]) -> str:
    """What a command prints; asserts that it succeeds."""
    program, *arguments = shlex.split(line)
    (point,) = entry_points(group="console_scripts", name=program)
    given = [models.get(argument, argument) for argument in arguments]
    if program == SERVICE:
        given += ["--port", "0"]  # one that is free
    done = CliRunner().invoke(point.load(), given, env={"COLUMNS": "200"})
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.output if program == SERVICE else done.stdout


def look(app: FastAPI, listening: socket.socket, settings: ServeSettings) -> None:
    """In place of serving: what a browser would get."""
    with listening, TestClient(app, base_url="http://127.0.0.1") as browser:
        print(browser.get("/").text)
        print(json.dumps(browser.post("/search", json={"text": "red", "limit": 2}).json()))


def photos(folder: Path) -> None:
    """A user's photos and table, as on the page."""
    (table,) = blocks(TABLE)
    folder.mkdir()
    (folder / "products.csv").write_text(table)
    for number, row in enumerate(table.splitlines()[1:]):
        picture(number, (90, 120)).save(folder / row.split(",")[0], quality=90)


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, tiny_clip: torch.nn.Module, tiny_composer: Composer
) -> dict[str, str]:
    """The names on the page -> small random models of the same kinds."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "bge").mkdir()
    save_clip(folder / "bge")
    vit = standins.model_folder(folder / "vit", tiny_clip)
    (vit / "words.txt").write_text("\n".join(WORDS))
    assert tiny_composer.inverter is not None
    tiny_composer.inverter.save_pretrained(folder / "inverter")
    return {
        BGE: f"local-dir:{folder / 'bge'}",
        VIT_L: f"local-dir:{vit}",
        FTI4CIR: str(folder / "inverter"),
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> Done:
    folder = tmp_path_factory.mktemp("shop")
    photos(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        own = {models[BGE]: defaults.MODEL_COMPOSERS[BGE]}
        patch.setattr(defaults, "MODEL_COMPOSERS", {**defaults.MODEL_COMPOSERS, **own})
        patch.setattr("fti_qdrant.serve.server.run", look)
        printed = {line: run(line, models) for line in commands()}
        (code,) = blocks(PYTHON)
        with redirect_stdout(StringIO()) as out:
            exec(compile(code, str(PAGE), "exec"), {})
    return Done(folder, {**printed, PYTHON: out.getvalue()})


def prices(output: str) -> list[float]:
    return [float(price) for price in re.findall(r"price=([\d.]+)", output)]


def test_every_command_is_one_of_ours() -> None:
    assert len(commands()) >= 11
    assert {line.split()[0] for line in commands()} == {"fti-ingest", "fti-search", SERVICE}
    named = set(re.findall(r"(?:--model|--inverter) (\S+)", "\n".join(commands())))
    assert named == {BGE, VIT_L, FTI4CIR}


def test_the_page_is_served(done: Done) -> None:
    served = done.of(SERVICE)
    assert "open http://127.0.0.1:" in served
    assert "<title>" in served
    answer = json.loads(next(line for line in served.splitlines() if line.startswith('{"hits"')))
    assert len(answer["hits"]) == 2


def test_ingest_stores_every_photo_and_a_table_embeds_none_again(done: Done) -> None:
    assert "6 images in: 6 stored" in done.of("photos/ --gallery shop")
    again = done.of("products.csv --gallery shop")
    assert "6 images in: 0 stored" in again
    assert json.loads((done.folder / "shop" / "report.json").read_text())["rejected"] == 0


def test_the_named_models_bring_their_composers(done: Done) -> None:
    assert "composer: raw-sum" in done.of("--sheet")
    assert "composer: sum" in done.of("--text-weight")
    assert "composer: pdv" in done.of("--explain")
    assert re.search(r"^in words: a photo of \[\w+\].* but in red", done.of("--explain"), re.M)


def test_the_sheet_shows_the_photo_and_the_results(done: Done) -> None:
    page = (done.folder / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 1 + 5
    assert "in red, with long sleeves" in page


def test_filters_hold(done: Done) -> None:
    cheap = prices(done.of('"lt": 50'))
    assert sorted(cheap) == [24.9, 29.0, 39.9]  # without the reference
    kept = prices(done.of('"gte": 80'))
    assert sorted(kept) == [24.9, 29.0, 39.9, 45.5]


def test_several_photos_are_one_reference(done: Done) -> None:
    output = done.of("--weight 3")
    assert output.count("price=") == 4
    assert "shirt-1.jpg" not in output
    assert "shirt-3.jpg" not in output


def test_the_python_example_prints_hits_and_a_table(done: Done) -> None:
    printed = done.printed[PYTHON]
    assert printed.startswith("Hits(3, composer='raw-sum')\n")
    assert "Linen shirt" in printed
    assert "29.0" in printed


def test_figures_on_the_page_are_those_that_a_command_prints() -> None:
    listed = run("fti-search models", {})
    page = PAGE.read_text(encoding="utf-8")
    figures = re.findall(r"mAP@5 ([\d.]+\d)|FTI4CIR\s+([\d.]+\d)", page)
    assert len(figures) == 2
    for figure in figures:
        assert f"mAP@5 {''.join(figure)}" in listed
