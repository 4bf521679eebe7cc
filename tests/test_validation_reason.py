"""What pydantic finds is said in words of our own."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from fti_qdrant.validation_reason import reason


class Example(BaseModel, extra="forbid"):
    count: int = Field(1, ge=0, le=9)
    share: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    wanted: bool = True
    name: str = ""
    kind: Literal["a", "b"] = "a"
    several: list[int] = []
    inner: dict[str, int] = {}


CASES: list[tuple[dict[str, Any], str]] = [
    ({"count": "many"}, "must be a whole number"),
    ({"count": 1.5}, "must be a whole number"),
    ({"count": None}, "must be a whole number"),
    ({"count": -1}, "must be at least 0"),
    ({"count": 10}, "must be at most 9"),
    ({"share": 0}, "must be greater than 0"),
    ({"share": 1}, "must be less than 1"),
    ({"share": float("nan")}, "must be a finite number"),
    ({"share": "half"}, "must be a number"),
    ({"wanted": "perhaps"}, "must be true or false"),
    ({"name": 3}, "must be a text"),
    ({"kind": "c"}, "must be 'a' or 'b'"),
    ({"several": 3}, "must be a list"),
    ({"several": ["x"]}, "must be a whole number"),
    ({"inner": 3}, "must be an object"),
    ({"other": 3}, "is not known"),
]


@pytest.mark.parametrize(("values", "words"), CASES)
def test_reasons(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as found:
        Example.model_validate(values)
    assert reason(found.value.errors()[0]) == words


def test_json_that_is_none() -> None:
    with pytest.raises(ValidationError) as found:
        Example.model_validate_json("{")
    assert reason(found.value.errors()[0]).startswith("is not JSON (EOF while parsing")
