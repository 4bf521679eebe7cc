"""The API against its own description, by schemathesis: nothing breaks, nothing is undocumented."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.schemas import BatchRequest, ComposeRequest, ItemRequest, SearchRequest
from tests.serve.conftest import id_of

EXAMPLES = 10
"""Requests of each kind to each route."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


OPERATIONS = (
    "POST /search",
    "POST /search/batch",
    "POST /compose",
    "GET /similar/{id}",
    "GET /facets/{field}",
    "GET /images/{id}",
    "GET /images/{id}/thumbnail",
    "GET /items",
    "GET /items/{id}",
    "POST /items",
    "DELETE /items/{id}",
    "GET /info",
    "GET /metrics",
    "GET /health",
    "GET /ready",
)


@pytest.fixture(scope="module")
def operations(search: ComposedSearch) -> dict[str, Any]:
    app = create_app(AsyncComposedSearch(search))
    found = [
        one.ok()
        for one in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()
    ]
    return {one.label: one for one in found}


def test_all_routes_are_tried(operations: dict[str, Any]):
    assert set(operations) == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", OPERATIONS)
def test_a_route_keeps_to_its_description(
    operations: dict[str, Any], label: str, mode: GenerationMode
):
    """Requests that the schema allows, and others that it does not."""
    cases = operations[label].as_strategy(generation_mode=mode)

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def keeps(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    try:
        keeps()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing can be wrong with such a request"


def test_the_description_is_complete(client: TestClient):
    described = client.get("/openapi.json").json()
    text = json.dumps(described)
    references = {
        part.partition('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]
    }
    assert references <= described["components"]["schemas"].keys()
    for path, operations in described["paths"].items():
        for method, one in operations.items():
            assert one["description"], (method, path)
            if method == "post":
                assert one["requestBody"]["content"], path
    assert described["components"]["securitySchemes"].keys() == {"APIKeyHeader", "HTTPBearer"}


@pytest.mark.parametrize("model", [SearchRequest, ComposeRequest, BatchRequest, ItemRequest])
def test_the_examples_are_valid(model: Any):
    examples = model.model_json_schema().get("examples", [])
    assert examples or model is BatchRequest
    for example in examples:
        TypeAdapter(model).validate_python(example)


def test_an_example_is_answered(client: TestClient):
    [example] = ComposeRequest.model_json_schema()["examples"]
    example["references"] = [{"id": id_of("red", "circle")}]
    assert client.post("/compose", json=example).status_code == 200
