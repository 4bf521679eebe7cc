"""Settings of a training: a YAML file overrides the defaults, the command line overrides both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fti_qdrant.errors import FtiError
from fti_qdrant.validation_reason import reason

Config = TypeVar("Config", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises FtiError where the file is missing, or is not a mapping of names to values."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise FtiError(f"settings {str(path)!r} cannot be read: {reason}") from error
    if not isinstance(values or {}, dict):
        raise FtiError(f"settings {str(path)!r}: write NAME: VALUE lines, not a {type(values)}")
    return values or {}


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts, the values as in YAML (``null``). Raises FtiError for others."""
    values: dict[str, Any] = {}
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign:
            raise FtiError(f"--set {override!r}: write it as NAME=VALUE")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[name] = value
    return values


def parse_settings(model: type[Config], values: Mapping[str, Any]) -> Config:
    """The model with these values. Raises FtiError for unknown names or bad values."""
    for name in values:
        if name not in model.model_fields:
            raise FtiError(f"there is no setting {name!r}{_instead(str(name), model)}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if not name:
            raise FtiError(f"settings: {reason(first)}") from None
        raise FtiError(f"setting {name}={values.get(name)!r}: it {reason(first)}") from None


def _instead(name: str, model: type[BaseModel]) -> str:
    """The settings that are spelled alike; all of them where there is none."""
    alike = get_close_matches(name, model.model_fields, n=3, cutoff=0.5)
    if alike:
        return f"; did you mean {' or '.join(alike)}? (--print-config lists all)"
    return f"; settings are {', '.join(model.model_fields)}"
