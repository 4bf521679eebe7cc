"""The page about serving: its handler answers as printed, and its commands are ours."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fti_qdrant import ComposedSearch
from fti_qdrant.cli.serve import main
from fti_qdrant.errors import Overloaded
from tests.serve.conftest import png

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
TEXT = "a blue square"


def python_blocks() -> list[str]:
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```$", PAGE, re.M | re.S)
    return [
        "\n".join(line.removeprefix(space) for line in text.splitlines()) for space, text in blocks
    ]


@pytest.fixture(scope="module")
def handler(
    shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Any]]:
    """The app of the page, beside a folder \"gallery\"."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(shop / "gallery", folder / "gallery")
    [code] = [block for block in python_blocks() if block.startswith("# shop.py")]
    names: dict[str, Any] = {"__name__": "shop"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, "shop.py", "exec", dont_inherit=True), names)  # annotations as objects
        with TestClient(names["app"]) as client:
            yield client, names["app"]


def test_the_handler_answers(handler: tuple[TestClient, Any], search: ComposedSearch) -> None:
    client, _ = handler
    answer = client.post("/search", params={"text": TEXT}, content=png())
    assert answer.status_code == 200
    expected = search.query(png(), TEXT)
    assert [hit["id"] for hit in answer.json()] == [hit.id for hit in expected]
    assert client.post("/search", params={"text": TEXT}).json()[0]["score"] == pytest.approx(
        search.query(text=TEXT)[0].score, abs=1e-5
    )


def test_its_errors(handler: tuple[TestClient, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    client, app = handler
    refused = client.post("/search", params={"text": TEXT}, content=b"/etc/passwd")
    assert refused.status_code == 400
    assert "not an image" in refused.json()["detail"]

    async def full(*_: Any) -> None:
        raise Overloaded("all places are taken", 1.2)

    monkeypatch.setattr(app.state.search, "query", full)
    busy = client.post("/search", params={"text": TEXT})
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.splitlines()[0])
def test_every_block_is_python(block: str) -> None:
    compile(block, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands() -> list[str]:
    lines = PAGE.replace("\\\n", " ").splitlines()
    return [line.partition("#")[0] for line in lines if line.startswith("fti-serve ")]


@pytest.mark.parametrize("command", commands())
def test_its_commands_are_ours(command: str) -> None:
    _, *arguments = shlex.split(command)
    assert main.make_context("fti-serve", arguments).params["replicas"]


def test_the_files_that_it_names_are_there() -> None:
    assert len(commands()) == 2
    for name in re.findall(r"docs/deploy/[a-z]+\.yaml", PAGE):
        assert (ROOT / name).exists()
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
