"""What is composed, and what comes out: batches of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fti_qdrant.composers.description import (
    ComposerDescription,
    ComposerInputs,
    ComposerOptions,
    unit,
)
from fti_qdrant.composers.text_pass import EncodedTexts
from fti_qdrant.errors import BadQuery
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.model.tokens import SentPrompt

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class References:
    """The reference images of a batch of queries: features and pseudo-words, image by image.

    Attributes:
        pooled: ``g [N, d]`` of all images, query after query; need not be normalized.
        words: their pseudo-words, or None where no composer needs them.
        sizes: number of images of each query; they sum up to N.
        weights: of all images, in the same order; None for equal ones.

    Raises BadQuery where the sizes do not fit, or a query has no image.
    """

    pooled: Tensor
    words: PseudoWords | None
    sizes: tuple[int, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if sum(self.sizes) != len(self.pooled):
            raise BadQuery(f"{len(self.pooled)} images cannot be {self.sizes} references")
        if not all(self.sizes):
            raise BadQuery("every composed query needs at least one reference image")
        if self.weights is not None and len(self.weights) != len(self.pooled):
            raise BadQuery(f"{len(self.weights)} weights for {len(self.pooled)} images")

    def split(self) -> list[References]:
        """Each image as a reference of its own: N parts of one image."""
        words = self.words
        rows = range(len(self.pooled))
        parts = [None if words is None else words.take([row]) for row in rows]
        return [References(self.pooled[row : row + 1], parts[row], (1,)) for row in rows]

    @classmethod
    def join(cls, parts: Sequence[References]) -> Self:
        """One batch of several; without pseudo-words, or weights, where a part has none."""
        words = [part.words for part in parts if part.words is not None]
        weights = [part.weights for part in parts if part.weights is not None]
        return cls(
            torch.cat([part.pooled for part in parts]),
            PseudoWords.join(words) if len(words) == len(parts) else None,
            tuple(size for part in parts for size in part.sizes),
            tuple(one for part in weights for one in part) if len(weights) == len(parts) else None,
        )

    def mean(self, images: Tensor) -> Tensor:
        """``[N, d]`` of the images -> ``[B, d]``, each query's weighted mean."""
        device = images.device
        sizes = torch.tensor(self.sizes, device=device)
        query = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
        weights = torch.ones(len(images), device=device)
        if self.weights is not None:
            weights = torch.tensor(self.weights, device=device, dtype=torch.float32)
        total = weights.new_zeros(len(sizes)).index_add(0, query, weights)
        share = (weights / total[query])[:, None]
        return images.new_zeros(len(sizes), images.shape[1]).index_add(0, query, images * share)


@dataclass(frozen=True)
class ComposeRequest:
    """B queries that one composer answers with the same options.

    Attributes:
        references: of the B queries; None for a composer that uses no image.
        texts: B modification texts; may be empty.
        avoid: B texts to move away from; empty for none.
    """

    composer: ComposerDescription
    options: ComposerOptions
    references: References | None
    texts: tuple[str, ...]
    avoid: tuple[str, ...]


@dataclass(frozen=True)
class Composed:
    """Composed query vectors.

    Attributes:
        vectors: ``[B, d]``, L2-normalized unless the composer's length has a meaning.
        truncated: for each query, whether the end of its text was cut to fit the context.
        inputs: the features that the composer was given.
        lines: for each query, where its text or prompt is in ``encoded``; with weights, one for
            each image.
        encoded: None where no text was encoded.
    """

    vectors: Tensor
    truncated: tuple[bool, ...]
    inputs: ComposerInputs
    lines: Sequence[Sequence[int]]
    encoded: EncodedTexts | None

    @property
    def prompts(self) -> tuple[tuple[SentPrompt, ...], ...]:
        """``sent`` of each query."""
        return tuple(self.sent(query) for query in range(len(self.vectors)))

    def sent(self, query: int) -> tuple[SentPrompt, ...]:
        """A query's text or prompt as the text tower saw it; empty where none was encoded."""
        if self.encoded is None:
            return ()
        return tuple(self.encoded.as_sent(line) for line in self.lines[query])

    def cosines(self, query: int) -> dict[str, float]:
        """The cosine of a query's vector with each feature that the composer read."""
        vector = unit(self.vectors[query])
        return {
            need: float(vector @ unit(feature[query]))
            for need, feature in self.inputs.features.items()
        }
