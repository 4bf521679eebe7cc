"""Request bodies: JSON, or multipart with JSON in one field and pictures as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from fti_qdrant.errors import BadQuery
from fti_qdrant.serve.problems import Refusal
from fti_qdrant.serve.threads import in_thread
from fti_qdrant.unique_names import unique_names

MOST_DEPTH = 32
MOST_VALUES = 100_000
MOST_FILES = 16
MOST_FIELD_BYTES = 1_000_000
"""Of a field of a multipart request that is not a file."""

JSON, MULTIPART = "application/json", "multipart/form-data"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Sent:
    """A request's body.

    Attributes:
        values: its JSON.
        files: its pictures by the names of their form fields, in their order.
    """

    values: Any
    files: Mapping[str, bytes] = field(default_factory=dict)

    def parsed(self, model: type[Model]) -> Model:
        """The JSON as a model. Raises RequestValidationError."""
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None


async def read_body(request: Request, json_field: str | None = None) -> Sent:
    """The body of a request.

    Args:
        json_field: of a multipart request, the field that holds JSON; None takes JSON alone.

    Raises:
        BadQuery: not JSON, nested too deeply, a name twice, or not Unicode.
        Refusal: another content type, or a broken multipart body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == MULTIPART and json_field is not None:
        return await _multipart(request, json_field)
    if kind == JSON:
        return Sent(await in_thread(parse_json, await request.body(), "the body"))
    expected = JSON if json_field is None else f"{JSON} or {MULTIPART}"
    raise Refusal(415, "Unsupported media type", f"content type {kind!r}; send {expected}")


def parse_json(text: str | bytes, name: str) -> Any:
    """JSON without what a store or a reader could take in two ways. Raises BadQuery.

    Example:
        >>> parse_json('{"price": {"lt": 50}}', "filter")
        {'price': {'lt': 50}}
        >>> parse_json('{"price": 1, "price": 2}', "filter")
        Traceback (most recent call last):
        fti_qdrant.errors.BadQuery: filter: 'price' is there twice; write it once
    """

    hook = unique_names(lambda twice: BadQuery(f"{name}: {twice!r} is there twice; write it once"))

    def no_number(constant: str) -> Any:
        raise BadQuery(f"{name}: {constant} is not a number of JSON")

    try:
        values = json.loads(text, object_pairs_hook=hook, parse_constant=no_number)
    except BadQuery:
        raise
    except RecursionError:
        raise BadQuery(f"{name} is nested deeper than {MOST_DEPTH} levels") from None
    except ValueError as error:  # also not UTF-8, and numbers of thousands of digits
        raise BadQuery(f"{name} is not JSON ({error})") from None
    _check(values, name)
    return values


def _check(values: Any, name: str) -> None:
    """Raises BadQuery for depth, size, and texts that are not Unicode."""
    level, depth, count = [values], 0, 0
    while level:
        count += len(level)
        if depth > MOST_DEPTH:
            raise BadQuery(f"{name} is nested deeper than {MOST_DEPTH} levels")
        if count > MOST_VALUES:
            raise BadQuery(f"{name} holds more than {MOST_VALUES:,} values")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str) and not one.isascii():
                _check_unicode(one, name)
        level, depth = below, depth + 1


def _check_unicode(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadQuery(f"{name}: {text[:100]!r} is not valid Unicode") from None


async def _multipart(request: Request, json_field: str) -> Sent:
    limits = {"max_files": MOST_FILES, "max_fields": MOST_FILES, "max_part_size": MOST_FIELD_BYTES}
    try:
        async with request.form(**limits) as form:
            return await _sent_by(form, json_field)
    except HTTPException as error:  # of the parser
        raise Refusal(422, "Bad multipart body", f"{error.detail}") from None


async def _sent_by(form: FormData, json_field: str) -> Sent:
    text: str | bytes | None = None
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name in files or (name == json_field and text is not None):
            raise BadQuery(f"the form field {name!r} is there twice; give each its own name")
        if name == json_field:
            text = await value.read() if isinstance(value, UploadFile) else value
        elif isinstance(value, UploadFile):
            files[name] = await value.read()
        else:
            raise BadQuery(
                f"the form field {name!r} is a text; send pictures as files, with a filename, "
                f"and everything else as JSON in the field {json_field!r}"
            )
    if text is None:
        return Sent({}, files)
    return Sent(await in_thread(parse_json, text, f"the field {json_field!r}"), files)
