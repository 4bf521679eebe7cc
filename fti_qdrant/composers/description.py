"""What a composer is: a name, what it needs, typed options, and a function of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fti_qdrant.errors import BadQuery
from fti_qdrant.validation_reason import reason

if TYPE_CHECKING:  # the registry must stay importable without torch
    from torch import Tensor

Need = Literal["image", "text", "raw_image", "raw_text", "prompt", "bare_prompt", "subject_prompt"]
"""What a composer can ask for; each is an attribute of ``ComposerInputs``."""

PROMPTS: tuple[Need, ...] = ("prompt", "bare_prompt", "subject_prompt")
"""The needs that take pseudo-words, and so an inverter."""

TEXTS: tuple[Need, ...] = ("text", "raw_text", "prompt", "subject_prompt")
"""The needs that take the modification text."""


class ComposerOptions(BaseModel):
    """The options of a composer that has none; the base class of all others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class ComposerInputs:
    """The features of B queries that the composer asked for; each ``[B, d]``.

    Attributes:
        features: by need.
    """

    features: Mapping[str, Tensor]

    @property
    def image(self) -> Tensor:
        """Unit length: the mean of each query's unit image vectors, weighted by its weights."""
        return self._feature("image")

    @property
    def text(self) -> Tensor:
        """Unit length: the modification text alone."""
        return self._feature("text")

    @property
    def raw_image(self) -> Tensor:
        """The mean of each query's image features, of the length that the tower gives them."""
        return self._feature("raw_image")

    @property
    def raw_text(self) -> Tensor:
        """The features of the modification text, of the length that the tower gives them."""
        return self._feature("raw_text")

    @property
    def prompt(self) -> Tensor:
        """Unit length: ``a photo of * with * ... * but {text}``, the subject and r attributes."""
        return self._feature("prompt")

    @property
    def bare_prompt(self) -> Tensor:
        """Unit length: ``a photo of * with * ... *``, the same without the text."""
        return self._feature("bare_prompt")

    @property
    def subject_prompt(self) -> Tensor:
        """Unit length: ``a photo of * but {text}``, the subject alone."""
        return self._feature("subject_prompt")

    def _feature(self, need: str) -> Tensor:
        try:
            return self.features[need]
        except KeyError:
            raise BadQuery(
                f"the composer reads {need!r} without having asked for it; add it to its needs"
            ) from None


@dataclass(frozen=True)
class ComposerDescription:
    """One entry of the registry.

    Attributes:
        name: what a user passes as ``composer``.
        summary: one line for help texts and listings.
        function: inputs and options -> query vectors ``[B, d]``.
        needs: what it reads from the inputs; nothing else is computed.
        options: a pydantic model of its options, with their defaults.
        unit: vectors are normalized afterwards; False for a composer whose length has a meaning.
    """

    name: str
    summary: str
    function: Callable[[ComposerInputs, Any], Tensor]
    needs: tuple[Need, ...]
    options: type[ComposerOptions] = ComposerOptions
    unit: bool = True

    @property
    def uses_image(self) -> bool:
        """It reads the reference images."""
        return any(need not in ("text", "raw_text") for need in self.needs)

    @property
    def uses_text(self) -> bool:
        """It reads the modification text."""
        return any(need in TEXTS for need in self.needs)

    @property
    def needs_inverter(self) -> bool:
        """It reads prompts with pseudo-words."""
        return any(need in PROMPTS for need in self.needs)

    def check_options(self, given: Mapping[str, Any]) -> ComposerOptions:
        """The options as the composer takes them, with its defaults for what is not given.

        Example:
            >>> from fti_qdrant.composers.registry import find_composer
            >>> find_composer("sum").check_options({"text_weight": 0.6})
            TextWeight(text_weight=0.6)

        Raises BadQuery: an option that it does not have, or a value out of range.
        """
        unknown = sorted(given.keys() - self.options.model_fields.keys())
        if unknown:
            known = ", ".join(self.options.model_fields) or "none"
            raise BadQuery(
                f"composer {self.name!r} has no option {unknown[0]!r}; its options are: {known}"
            )
        try:
            return self.options(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            option = ".".join(map(str, first["loc"])) or "options"
            raise BadQuery(
                f"composer {self.name!r}: {option} {reason(first)}, got {first['input']!r}"
            ) from None


def unit(vectors: Tensor) -> Tensor:
    """``[B, d]`` divided by their lengths; a zero vector stays zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
