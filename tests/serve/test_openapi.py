"""The API against its own description, by schemathesis: nothing breaks, nothing is undocumented."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import TypeAdapter
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

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="session")
def api(search: ComposedSearch) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(AsyncComposedSearch(search)))


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_route_keeps_to_its_description(case: schemathesis.Case):
    case.call_and_validate(checks=CHECKS)


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
