"""Errors as RFC 9457 problem details: our messages, and never a traceback."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fti_qdrant.errors import (
    BadFilter,
    BadImage,
    BadQuery,
    FtiError,
    GalleryNotFound,
    GalleryUnavailable,
    OutputUnavailable,
    Overloaded,
    UnknownImageId,
)
from fti_qdrant.validation_reason import reason

MEDIA_TYPE = "application/problem+json"

UNAVAILABLE_RETRY = 5
"""Seconds after which a client may ask again for a gallery that does not answer."""

LONGEST = 2000
"""Characters of a message: it may quote what was sent."""

STATUS: Mapping[type[FtiError], int] = {
    UnknownImageId: 404,
    BadImage: 422,
    BadQuery: 422,
    BadFilter: 422,
    GalleryNotFound: 503,
    GalleryUnavailable: 503,
    OutputUnavailable: 503,
    Overloaded: 503,
}
"""HTTP status of an error; of its nearest class that is listed here."""

logger = logging.getLogger("fti_qdrant.serve")


class FieldProblem(BaseModel):
    """One value of a request that is not as it should be."""

    field: str = Field(description="Where it is, such as `references.0.crop.left`.")
    reason: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="`urn:fti-qdrant:` and the name of the kind, or `about:blank`.")
    title: str
    status: int
    detail: str = Field(description="What is wrong, with the value, and what to do.")
    errors: list[FieldProblem] | None = Field(
        default=None, description="Of a request's values, each."
    )


class Refusal(FtiError):
    """A request that the service itself refuses, with its status and headers."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ):
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = dict(headers or {})


def problem(error: FtiError, private: Sequence[str] = ()) -> JSONResponse:
    """The answer for an error of ours.

    Args:
        private: names of the gallery in messages, a path or an address, that are not told to
            others.
    """
    message = str(error)
    for name in private:
        message = message.replace(f"gallery {name}", "the gallery").replace(name, "the gallery")
    if isinstance(error, Refusal):
        return answer(error.status, error.title, message, headers=error.headers)
    status = status_of(error)
    headers = {}
    if status == 503:
        wait = error.retry_after if isinstance(error, Overloaded) else UNAVAILABLE_RETRY
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return answer(status, title_of(error), message, headers=headers)


def status_of(error: FtiError) -> int:
    """By class; of classes that are not listed, 422 for bad input and 500 for failures."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 422 if error.exit_code == 2 else 500


def title_of(error: FtiError) -> str:
    """The class name in words.

    Example:
        >>> title_of(UnknownImageId("no image 7c1f"))
        'Unknown image id'
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__)
    return words[:1] + words[1:].lower()


def answer(
    status: int,
    title: str,
    detail: str,
    errors: Sequence[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response."""
    kind = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    found = Problem(
        type=f"urn:fti-qdrant:{kind}",
        title=title,
        status=status,
        detail=_shortened(detail),
        errors=None if errors is None else list(errors),
    )
    content = found.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status, dict(headers or {}), MEDIA_TYPE)


def invalid(errors: Sequence[Any], title: str = "Invalid request") -> JSONResponse:
    """The answer for values that pydantic refuses.

    Args:
        errors: pydantic's.
    """
    found = [FieldProblem(field=_field(one), reason=reason(one)) for one in errors]
    first = found[0]
    more = f" (and {len(found) - 1} more)" if found[1:] else ""
    return answer(422, title, f"{first.field} {first.reason}{more}", found)


def add_problems(app: FastAPI, private: Sequence[str]) -> None:
    """Has an app answer every error by a problem; ``private`` as for ``problem``."""

    def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, FtiError)
        return problem(error, private)

    def of_values(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return invalid(error.errors())

    def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path, status = request.url.path, error.status_code
        if status == 405:
            detail = f"{path} does not take {request.method}"
            return answer(405, "Method not allowed", detail, headers=error.headers)
        if status == 404:
            detail = f"there is nothing at {path}; /openapi.json lists what there is"
            return answer(404, "Not found", detail)
        return answer(status, "Refused", str(error.detail), headers=error.headers)

    app.add_exception_handler(FtiError, ours)
    app.add_exception_handler(RequestValidationError, of_values)
    app.add_exception_handler(HTTPException, of_http)


def unexpected(error: Exception) -> JSONResponse:
    """The answer for a bug of ours: the log has its traceback, and the client has not."""
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    detail = "something went wrong in the service; its log says more"
    return answer(500, "Unexpected error", detail)


def _field(error: Mapping[str, Any]) -> str:
    places = ("body", "query", "path", "header")
    where = [str(one) for one in error["loc"]]
    return ".".join(where[1:] if where[:1] and where[0] in places else where) or "the request"


def _shortened(text: str) -> str:
    # a message may quote lone surrogates, which no answer can hold
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
