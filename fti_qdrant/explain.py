"""Pseudo-words -> the nearest real words, so that a person can see what the model saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.composer import Composer
from fti_qdrant.inverter import PseudoWords
from fti_qdrant.prompts import Prompts


@dataclass(frozen=True)
class NearestWords:
    """The vocabulary words nearest to one pseudo-word, best first, with cosines."""

    token: str
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """What a picture became: its subject token, then its r attribute tokens."""

    subject: NearestWords
    attributes: tuple[NearestWords, ...]

    def __iter__(self) -> Iterator[NearestWords]:
        yield self.subject
        yield from self.attributes
