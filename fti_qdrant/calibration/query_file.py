"""The user's own queries with what is right: a file of one JSON object on each line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

from fti_qdrant.errors import BadCalibration, UnknownImageId, first_line
from fti_qdrant.gallery.point_ids import StoredId, stored_form
from fti_qdrant.unique_names import unique_names
from fti_qdrant.validation_reason import reason

FORM = '{"image": ID or path, "text": "in red", "right": [ID, ...], "shown": [ID, ...]}'


def _id(value: object) -> StoredId:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("must be the UUID of an image, or its number")
    try:
        return stored_form(value)
    except UnknownImageId as error:
        raise ValueError(str(error)) from None


ImageId = Annotated[StoredId, PlainValidator(_id)]


class JudgedQuery(BaseModel):
    """A query, and which images of the gallery answer it.

    Attributes:
        image: the id of a stored image, or a picture's path; or a list of these.
        text: what should be different; without an image, what to look for.
        right: ids of right answers, such as those that a user clicked on.
        shown: ids of the images that the user saw. Of these, the ones that are not right count as
            wrong; images that were not shown count as nothing. None: every image counts, and what
            is not right is wrong.

    Example:
        >>> JudgedQuery(image=7, text="in red", right=[12], shown=[12, 4]).verdict(4)
        False
        >>> JudgedQuery(image=7, text="in red", right=[12], shown=[12, 4]).verdict(5) is None
        True
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    image: str | int | list[str | int] | None = None
    text: str | None = None
    right: list[ImageId]
    shown: list[ImageId] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> JudgedQuery:
        if not self.references and not (self.text or "").strip():
            raise ValueError("has neither an image nor a text")
        if not self.right and self.shown is None:
            raise ValueError("names no right answer; say what was shown, if none of that was right")
        return self

    @property
    def references(self) -> list[str | int]:
        """The reference images."""
        given = [] if self.image is None else self.image
        return given if isinstance(given, list) else [given]

    def verdict(self, id: StoredId) -> bool | None:
        """Whether an image is right; None where that is not known."""
        if id in self.right:
            return True
        return False if self.shown is None or id in self.shown else None


@dataclass(frozen=True)
class Rejected:
    """A query that was left out.

    Attributes:
        line: its number in the file, or its place among the queries, from 1 on.
        reason: why.
    """

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True)
class QueryFile:
    """What a file holds.

    Attributes:
        queries: by line number.
        rejected: lines that are no queries.
    """

    queries: dict[int, JudgedQuery]
    rejected: list[Rejected]


def read_queries(path: str | os.PathLike[str]) -> QueryFile:
    """Reads a JSONL file. Relative paths of images begin at its folder; empty lines are nothing.

    Raises BadCalibration where the file cannot be read.
    """
    file = Path(path)
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise BadCalibration(
            f"the queries {str(file)!r} cannot be read: {error.strerror}"
        ) from error
    queries: dict[int, JudgedQuery] = {}
    rejected: list[Rejected] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            queries[number] = _query(line, file.parent)
        except ValueError as error:
            rejected.append(Rejected(number, first_line(error)))
    return QueryFile(queries, rejected)


_unique = unique_names(lambda name: ValueError(f"the field {name!r} occurs twice"))


def _query(line: bytes, folder: Path) -> JudgedQuery:
    """Raises ValueError, in words for the user."""
    try:
        data = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("is not JSON that can be used: too deep") from None
    if not isinstance(data, dict):
        raise ValueError(f"is not an object; a line looks like {FORM}")
    query = checked_query(data)
    images = [_located(one, folder) for one in query.references]
    return query.model_copy(update={"image": images or None})


def checked_query(data: Mapping[str, Any]) -> JudgedQuery:
    """A query of plain data. Raises ValueError, which says in a few words what is wrong with it."""
    try:
        return JudgedQuery.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if not _is_type(part))
        raise ValueError(f"{place} {reason(first)}".strip()) from None


def _is_type(part: Any) -> bool:
    """Whether pydantic names the branch of a union, and not a place in the data."""
    return isinstance(part, str) and part in ("str", "int", "list[union[str,int]]")


def _located(image: str | int, folder: Path) -> str | int:
    """A relative path from where the reader is; ids as they are."""
    if isinstance(image, int):
        return image
    try:
        stored_form(image)
    except UnknownImageId:
        return str(folder / image)
    return image
