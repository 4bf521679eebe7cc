"""What a composer is: a name, what it needs, and a function of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the registry must stay importable without torch
    from torch import Tensor


class ComposerInputs(Protocol):
    """What a composer may use for a batch of B queries.

    Everything is computed on first use: a composer that never asks for ``texts`` never runs the
    text encoder.
    """

    @property
    def images(self) -> Tensor:
        """``[B, d]``, unit length: the mean of each query's unit image vectors."""
        ...

    @property
    def texts(self) -> Tensor:
        """``[B, d]``, unit length: the modification texts."""
        ...

    def prompts(self, *, attributes: bool = True) -> Tensor:
        """``[B, d]``, not normalized: ``a photo of * with * ... * but {text}``, encoded.

        Args:
            attributes: with attribute pseudo-words; False leaves ``a photo of * but {text}``.
        """
        ...


@dataclass(frozen=True)
class ComposerDescription:
    """One entry of the registry.

    Attributes:
        name: what a user passes as ``composer``.
        summary: one line for help texts and listings.
        function: inputs -> query vectors ``[B, d]``; they are normalized afterwards.
        needs_inverter: it reads ``prompts``, which need pseudo-words.
        uses_image: it reads the reference images.
        uses_text: it reads the modification text.
    """

    name: str
    summary: str
    function: Callable[[ComposerInputs], Tensor]
    needs_inverter: bool = False
    uses_image: bool = True
    uses_text: bool = True
