"""The activation of a model's MLPs: QuickGELU and GELU have the same weights and other features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from open_clip.transformer import QuickGELU
from torch import nn

PLACES = ("mlp.gelu", "mlp.act")
"""Ends of their names, in open_clip's towers and in timm's."""


def activation_of(model: nn.Module) -> str:
    """The class of the activation; ``unknown`` where the model has no such MLPs."""
    for ending in PLACES:
        for name, part in model.named_modules():
            if name.endswith(ending):
                return type(part).__name__
    return "unknown"


@contextmanager
def other_activation(visual: nn.Module) -> Iterator[str | None]:
    """Has an image tower compute with GELU for QuickGELU, or the reverse, for a while.

    Yields the name of the other one; None, and nothing is changed, where the tower has neither.
    """
    swapped = [
        (parent, name.rpartition(".")[2], part)
        for name, part in visual.named_modules()
        if name.endswith(PLACES) and isinstance(part, (nn.GELU, QuickGELU))
        for parent in [visual.get_submodule(name.rpartition(".")[0])]
    ]
    other = None
    try:
        for parent, attribute, part in swapped:
            replacement = QuickGELU() if isinstance(part, nn.GELU) else nn.GELU()
            other = type(replacement).__name__
            setattr(parent, attribute, replacement)
        yield other
    finally:
        for parent, attribute, part in swapped:
            setattr(parent, attribute, part)
