"""What a server says when it refuses a request, as one of our errors.

Qdrant answers a refused request with a sentence, over HTTP in ``{"status": {"error": ...}}``, over
gRPC as the call's details. The sentence is shown as it is; what to do about it is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fti_qdrant.errors import (
    BadFilter,
    BadQuery,
    FtiError,
    GalleryExists,
    GalleryNotFound,
    GalleryUnavailable,
)

Asked = Literal["read", "search", "write", "create"]
"""What a request is for: to read, to answer a user's query, to write, to create a collection."""

IndexCommand = Callable[[str, str], str]
"""Field and type -> the command that makes the payload index."""

LONGEST = 300
"""Characters of a server's sentence that are shown."""

PREFIX = re.compile(
    r"^(?:bad request|wrong input|forbidden|not found|too many requests|service internal error"
    r"|(?:format|validation) error in (?:json )?body)\s*:\s*",
    re.IGNORECASE,
)
"""Kinds of errors that Qdrant puts before its sentence."""

NO_INDEX = re.compile(
    r'Index required but not found for "(?P<field>.+?)" of one of the following types: '
    r"\[(?P<kinds>[^\]]*)\]"
)
"""Strict mode's sentence about a filter on a field without a payload index."""

LIMIT = re.compile(r"\bHelp: ")
"""In all sentences of strict mode: what follows says what to do."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is not the result.

    Attributes:
        status: of HTTP, or the one that means the same.
        code: gRPC's name of it; empty over HTTP.
        sentence: what the server says.
    """

    status: int
    code: str
    sentence: str

    @property
    def answer(self) -> str:
        """For messages, ``400: no such vector``."""
        return ": ".join(filter(None, (self.code or str(self.status), self.sentence)))


def sentence_of(body: str) -> str:
    """The sentence in the body of an answer; empty where there is none, as in a proxy's page.

    Example:
        >>> sentence_of('{"status": {"error": "Wrong input: Limit is 0"}, "time": 0.1}')
        'Limit is 0'
        >>> sentence_of("<html><h1>502 Bad Gateway</h1></html>"), sentence_of('{"code": 7}')
        ('', '')
    """
    text = " ".join(body.split())
    if text.startswith(("{", "[")):
        try:
            return sentence_of(_told(json.loads(body)))
        except (json.JSONDecodeError, RecursionError):
            return ""
    if text.startswith("<"):
        return ""
    return PREFIX.sub("", text)[:LONGEST]


def _told(answer: Any) -> str:
    """The sentence in Qdrant's JSON, or in that of a proxy before it."""
    if isinstance(answer, str):
        return answer
    if not isinstance(answer, dict):
        return ""
    if isinstance(answer.get("status"), dict):
        return _told(answer["status"])
    found = (_told(answer.get(key)) for key in ("error", "message", "detail", "msg", "reason"))
    return next(filter(None, found), "")


def refused(
    name: str, asked: Asked, refusal: Refusal, index_command: IndexCommand | None = None
) -> FtiError:
    """The error of a refused request.

    Args:
        name: of what was asked, for the message.
        asked: what for.
        index_command: makes the command that makes a payload index, for messages.

    Returns:
        BadFilter or BadQuery where the user's query is at fault; GalleryNotFound, GalleryExists;
        else GalleryUnavailable.
    """
    status, sentence = refusal.status, refusal.sentence
    if status == 401 or (status == 403 and asked not in ("write", "create")):
        shown = f" ({status})" if not refusal.code else ""
        return GalleryUnavailable(f"{name}: the server refused access{shown}; check the API key")
    if status == 403:
        return GalleryUnavailable(
            f"{name}: this API key may not write here ({refusal.answer}); pass one that may, by "
            "--api-key or QDRANT_API_KEY"
        )
    if status == 404:
        return GalleryNotFound(f"{name} does not exist")
    if asked == "create" and (status == 409 or "already exists" in sentence):
        return GalleryExists(f"{name} exists already; open it, or choose another name")
    if status == 413:
        return GalleryUnavailable(
            f"{name}: the request is larger than the server takes ({refusal.answer}); raise "
            "service.max_request_size_mb in its configuration, or the limit of the proxy before it"
        )
    if status == 429:
        return GalleryUnavailable(f"{name}: the server asks to slow down ({refusal.answer})")
    if needed := NO_INDEX.search(sentence):
        kind = needed["kinds"].split(",")[0].split("(")[0].strip() or "keyword"
        return _index_needed(name, needed["field"], kind, index_command)
    if asked == "search" and status in (400, 422):
        return _bad_query(name, sentence)
    return GalleryUnavailable(f"{name}: the server answered {refusal.answer}")


def _index_needed(
    name: str, field: str, kind: str, index_command: IndexCommand | None
) -> BadFilter:
    command = f"; make it with: {index_command(field, kind)}" if index_command else ""
    return BadFilter(
        f"{field}: {name} is in strict mode, where only fields with a payload index can be "
        f"filtered by, here one of type {kind}{command}"
    )


def _bad_query(name: str, sentence: str) -> FtiError:
    kind = BadFilter if re.search(r"filter|condition", sentence, re.IGNORECASE) else BadQuery
    origin = ", a limit of its strict mode" if LIMIT.search(sentence) else ""
    return kind(f"{name} refuses the query{origin}: {sentence or 'it does not say why'}")
