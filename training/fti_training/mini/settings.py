"""Settings of ``fti-train mini`` from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from fti_qdrant.errors import FtiError
from fti_training.mini.config import MiniConfig


def parse_settings(overrides: Sequence[str]) -> MiniConfig:
    """``NAME=VALUE`` texts over the defaults. Raises FtiError for unknown names or bad values."""
    values = {}
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign:
            raise FtiError(f"--set {override!r}: write it as NAME=VALUE")
        values[name] = value
    try:
        return MiniConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise FtiError(
            f"--set {name}={values.get(name)!r}: {first['msg']}; settings are "
            f"{', '.join(MiniConfig.model_fields)}"
        ) from None
