"""docs/api.md: its requests are answered, and what it lists is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from starlette.testclient import TestClient

from fti_qdrant.cli.serve import main
from fti_qdrant.serve.documented import DESCRIPTIONS
from fti_qdrant.serve.schemas import EXAMPLE_ID, ItemRequest, SearchRequest
from tests.serve.conftest import id_of, png

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
BODIES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_are_answered(client: TestClient, body: str):
    query = json.loads(body.replace(EXAMPLE_ID, id_of("red", "circle")))
    assert client.post("/search", json=query).status_code == 200


def forms() -> list[tuple[str, dict[str, str]]]:
    """Path and fields of each ``curl -F``."""
    found = []
    for line in PAGE.replace("\\\n", " ").splitlines():
        if line.startswith("curl") and " -F " in line:
            words = shlex.split(line)
            fields = [words[at + 1].split("=", 1) for at, one in enumerate(words) if one == "-F"]
            found.append((words[1].removeprefix("localhost:8000"), dict(fields)))
    return found


@pytest.mark.parametrize("form", forms(), ids=str)
def test_forms_are_answered(client: TestClient, form: tuple[str, dict[str, str]]):
    path, fields = form
    files = {name: ("a.png", png()) for name, value in fields.items() if value.startswith("@")}
    data = {name: value for name, value in fields.items() if name not in files}
    answer = client.post(path, data=data, files=files)
    if path == "/items":  # writing is off here
        assert answer.status_code == 403
        ItemRequest.model_validate_json(data["item"])
    else:
        assert answer.status_code == 200, answer.text


def test_routes_are_those_of_the_api(client: TestClient):
    named = set(re.findall(r"`(GET|POST|DELETE) (/[^`?]*)", PAGE))
    described = client.get("/openapi.json").json()["paths"]
    assert named == {(method.upper(), path) for path, one in described.items() for method in one}


def test_options_arguments_statuses_and_figures_exist(client: TestClient):
    options = {name for one in main.params for name in one.opts}
    allowed = {"--prune"}  # fti-ingest's
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= options | allowed
    paragraph = PAGE[PAGE.index("All arguments of") : PAGE.index("What is not known")]
    arguments = set(re.findall(r"`([a-z_]+)`", paragraph))
    assert arguments == SearchRequest.model_fields.keys() - {"references"}
    statuses = set(map(int, re.findall(r"\b(4\d\d|503)\b", PAGE[PAGE.index("| status") :])))
    assert statuses == DESCRIPTIONS.keys() - {500}
    metrics = client.get("/metrics").text
    for name in re.findall(r"fti_serve_[a-z_]+", PAGE):
        assert name in metrics, name


def test_defaults_are_those_of_the_command():
    options = {one.name: one for one in main.params if isinstance(one, click.Option)}
    assert options["max_body"].default == 32_000_000
    assert options["max_seconds"].default == 30
    assert options["max_requests"].default == options["max_queue"].default == 256
    assert options["host"].default == "127.0.0.1"
