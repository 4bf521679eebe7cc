"""Annotation and ranked-list files: JSON from outside, checked before it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from fti_qdrant.errors import BadBenchmark, BadPredictions
from fti_qdrant.unique_names import unique_names
from fti_qdrant.validation_reason import reason

Record = TypeVar("Record", bound=BaseModel)


def find_file(root: Path, candidates: Sequence[str], advice: str) -> Path:
    """The first candidate below ``root`` that exists. Raises BadBenchmark."""
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise BadBenchmark(f"{str(root / candidates[0])!r} is missing; {advice}")


def read_records(path: Path, record: type[Record]) -> list[Record]:
    """A JSON list of records. Raises BadBenchmark, naming the file and the number of the query."""
    records: list[Record] = _checked(path, TypeAdapter(list[record]))  # type: ignore[valid-type]
    if not records:
        raise BadBenchmark(f"{str(path)!r} has no queries; download it again")
    return records


def read_json(path: Path, kind: Any) -> Any:
    """JSON of a plain type, such as ``list[str]``. Raises BadBenchmark."""
    return _checked(path, TypeAdapter(kind))


def _checked(path: Path, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise BadBenchmark(f"{str(path)!r} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = " ".join(str(part) for part in first["loc"])
        where = f"{str(path)!r}, query number {location}" if location else f"{str(path)!r}"
        raise BadBenchmark(
            f"{where}: it {reason(first)}; the file is damaged or of another version, download it "
            "again"
        ) from error


def read_predictions_file(path: Path) -> Any:
    """A ranked-list file as parsed JSON; duplicate keys are refused.

    Raises BadPredictions.
    """

    hook = unique_names(lambda key: BadPredictions(f"{str(path)!r}: query {key!r} is there twice"))
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=hook)
    except BadPredictions:
        raise
    except OSError as error:
        raise BadPredictions(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadPredictions(f"{str(path)!r} is not JSON: {error}") from error
