"""Text towers and tokenizers that are used as they are: they take texts, and no pseudo-words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model.text_tower import TextTower
from fti_qdrant.model.tokens import Tokens, Vocabulary


class OwnTextTower(nn.Module):
    """A model's own ``encode_text``: CoCa's, XLM-RoBERTa's, NLLB's, and what else there is."""

    causal = packs = False
    token_dim = 0
    """It takes no pseudo-words."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.tower: Any = getattr(model, "text", model)

    @property
    def dim(self) -> int:
        """``d``, the size of the joint embedding."""
        projection = getattr(self.tower, "text_projection", None)
        if isinstance(projection, nn.Parameter):
            return int(projection.shape[1])
        return int(getattr(self.tower, "output_dim", None) or self.tower.width)

    def forward(self, tokens: Tokens, words: None = None) -> Tensor:
        """Token ids -> ``[B, d]``, not normalized."""
        return self.encode(tokens.ids)

    def encode(self, ids: Tensor) -> Tensor:
        """``[B, context]`` -> ``[B, d]``."""
        whole = isinstance(self.tower, open_clip.CLIP)
        out = self.tower.encode_text(ids) if whole else self.tower(ids)
        feature: Tensor = out[0] if isinstance(out, tuple) else out
        return feature


class OwnTokenizer:
    """A model's own tokenizer, which pads and cuts as the model was trained."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Plain texts -> token ids, and whether the end of a text was cut."""
        ids: Tensor = self.tokenizer(list(texts))
        none = torch.zeros(0, dtype=torch.long)
        last = torch.full((len(ids),), ids.shape[1] - 1, dtype=torch.long)
        truncated = tuple(self._length(text) > ids.shape[1] for text in texts)
        return Tokens(ids, last, none, none, truncated)

    def _length(self, text: str) -> int:
        """Tokens of a text that is not cut, with those at its start and end."""
        if isinstance(self.tokenizer, SimpleTokenizer):
            return len(self.tokenizer.encode(text)) + 2
        wrapped = self.tokenizer.tokenizer
        length = len(wrapped(self.tokenizer.clean_fn(text)).input_ids)
        return length + (self.tokenizer.tokenizer_mode == "clips")  # which adds a class token


def text_parts(
    model: nn.Module, tokenizer: Any
) -> tuple[TextTower | OwnTextTower, Vocabulary | OwnTokenizer, str]:
    """The text tower and tokenizer of a model, and why they take no pseudo-words (empty: they do).

    CLIP's own tower is taken apart so that pseudo-words can stand in its prompts.
    """
    try:
        tower = TextTower(model)
        return tower, Vocabulary.of(tokenizer, tower.context_length), ""
    except UnsupportedModel as reason:
        return OwnTextTower(model), OwnTokenizer(tokenizer), str(reason)
