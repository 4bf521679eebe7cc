"""What pydantic found wrong with a value, in a few words of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

REASONS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be a text",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "mapping_type"), "must be an object"),
    "model_attributes_type": "must be an object",
    "none_required": "must be null",
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    **dict.fromkeys(("too_short", "too_long"), "has {actual_length} entries"),
    "json_invalid": "is not JSON ({error})",
    "value_error": "{error}",
}
"""Kind of error -> words that follow the name of the value."""


def reason(error: ErrorDetails | Mapping[str, Any]) -> str:
    """The words that follow the value's name, such as "must be a whole number".

    Example:
        >>> reason({"type": "greater_than", "ctx": {"gt": 0}, "msg": "Input should be ..."})
        'must be greater than 0'
        >>> reason({"type": "new_in_pydantic", "msg": "Input should be tidy"})
        'should be tidy'
    """
    context = {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in (error.get("ctx") or {}).items()
    }
    words = REASONS.get(error["type"])
    if words is not None:
        try:
            return words.format_map(context)
        except KeyError:
            pass
    message: str = error["msg"].removeprefix("Input ")
    return message[:1].lower() + message[1:]
