"""What the OpenAPI document says beside what FastAPI finds in the routes by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fti_qdrant.serve.bodies import JSON, MULTIPART
from fti_qdrant.serve.pictures import MEDIA_TYPES
from fti_qdrant.serve.problems import MEDIA_TYPE, Problem
from fti_qdrant.serve.schemas import (
    BatchRequest,
    ComposeRequest,
    ItemRequest,
    SearchRequest,
)

REF = "#/components/schemas/{model}"

BODIES: tuple[type[BaseModel], ...] = (SearchRequest, BatchRequest, ComposeRequest, ItemRequest)

DESCRIPTIONS = {
    401: "No API key, or a wrong one.",
    403: "Writing is off, or a page of another site sent the request.",
    404: "No such image, or its picture cannot be read.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "Another content type.",
    422: "The request cannot be answered: the detail says why, and what to do.",
    431: "Path and headers are too long.",
    429: "Too many requests; Retry-After says when to ask again.",
    500: "A bug.",
    503: "Too much to do, or the gallery does not answer; Retry-After says when to ask again.",
}

Responses = dict[int | str, dict[str, Any]]

PROBLEMS: Responses = {
    status: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
    }
    for status, description in DESCRIPTIONS.items()
}

PICTURE: Responses = {
    200: {
        "description": "The picture.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in MEDIA_TYPES.values()
        },
        "headers": {
            "ETag": {"schema": {"type": "string"}},
            "Cache-Control": {"schema": {"type": "string"}},
        },
    },
    304: {"description": "The client holds it already (If-None-Match)."},
}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that takes JSON."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _ref(model)}}}}


def json_or_multipart_body(model: type[BaseModel], json_field: str) -> dict[str, Any]:
    """The same of a route that takes pictures as files too."""
    form = {
        "type": "object",
        "description": f"The JSON in `{json_field}`, and each picture as a file in a field of its "
        "own name.",
        "properties": {
            json_field: {
                "type": "string",
                "contentMediaType": JSON,
                "contentSchema": _ref(model),
            }
        },
        "additionalProperties": {"type": "string", "format": "binary"},
    }
    content = {JSON: {"schema": _ref(model)}, MULTIPART: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def document(app: FastAPI) -> None:
    """Has ``/openapi.json`` hold the schemas of bodies that the routes read themselves."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            asked = [(model, "validation") for model in BODIES]
            _, bodies = models_json_schema(asked, ref_template=REF)  # type: ignore[arg-type]
            problem = Problem.model_json_schema(ref_template=REF)
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(bodies["$defs"])
            schemas.update(problem.pop("$defs"))
            schemas["Problem"] = problem
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
