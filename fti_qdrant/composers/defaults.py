"""What ``composer=None`` stands for, and composer options that a model brings with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fti_qdrant.errors import CheckpointError, first_line
from fti_qdrant.model.names import local_folder
from fti_qdrant.model.pretrained import KNOWN_MODELS

WITH_INVERTER, WITHOUT_INVERTER = "pdv", "sum"
"""The best composer with an inverter, and without one."""

MODEL_COMPOSERS: Mapping[str, str] = {
    name: row.composer for name, row in KNOWN_MODELS.items() if row.composer is not None
}
"""Models that were trained for one composer."""

OPTIONS_FILE = "composers.json"
"""In the folder of a model: ``{composer: {option: value}}``, where its own values are better."""

OptionsByComposer = dict[str, dict[str, Any]]


def default_composer(model: str = "", *, inverter: bool) -> str:
    """The best composer that a model can do.

    Example:
        >>> default_composer(inverter=True), default_composer(inverter=False)
        ('pdv', 'sum')
        >>> default_composer("hf:BAAI/BGE-VL-base", inverter=False)
        'raw-sum'
    """
    if inverter:
        return WITH_INVERTER
    return MODEL_COMPOSERS.get(model.partition("@")[0], WITHOUT_INVERTER)


def options_with_defaults(model: str, composer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options given, and the model's own for those that are not.

    Example:
        >>> options_with_defaults("mini", "sum", {})
        {'text_weight': 0.45}
        >>> options_with_defaults("mini", "sum", {"text_weight": 0.9})
        {'text_weight': 0.9}

    Raises CheckpointError where the model's file cannot be read.
    """
    return {**model_options(model).get(composer, {}), **given}


def model_options(model: str) -> OptionsByComposer:
    """The composer options that a model brings with it, in its folder.

    Raises CheckpointError where the model's file cannot be read.
    """
    folder = local_folder(model)
    return {} if folder is None else _own_options(folder / OPTIONS_FILE)


@lru_cache(maxsize=16)
def _own_options(path: Path) -> OptionsByComposer:
    try:
        return TypeAdapter(OptionsByComposer).validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{path}: not the composer options of a model: {first_line(error)}; repair or remove it"
        ) from None
