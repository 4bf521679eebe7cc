"""CLIP's text encoder, taken apart so that pseudo-words can stand in its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model.gpu import attention_of_any_length
from fti_qdrant.model.prefix_cache import (
    KeysValues,
    are_standard_blocks,
    outputs_at_ends,
    prefix_keys_values,
)
from fti_qdrant.model.tokens import Tokens

LENGTH_GROUPS, MIN_GROUP = 4, 16
"""Prompts that are padded are in four groups of like length, if each has at least 16."""


def length_groups(by_length: Tensor) -> tuple[Tensor, ...]:
    """Divides prompts in order of their length into groups that are padded to one length each."""
    many = len(by_length) >= LENGTH_GROUPS * MIN_GROUP
    return by_length.chunk(LENGTH_GROUPS if many else 1)


def longest_of_groups(lengths: Tensor) -> Tensor:
    """Ascending lengths ``[B]`` -> the longest of each one's group.

    Example:
        >>> longest_of_groups(torch.tensor([3, 5, 9])).tolist()
        [9, 9, 9]
    """
    groups = length_groups(lengths)
    return torch.cat([group[-1:].expand(len(group)) for group in groups])


class PromptEmbedding(nn.Module):
    """Token ids, with pseudo-words at their positions -> the input of CLIP's text transformer.

    Attributes:
        causal: each token sees only those before it.
        cuts: the end of the context that no prompt of a batch needs is left out.
    """

    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter

    def __init__(self, tower: Any, pool_type: str):
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.context_length = int(tower.context_length)
        self.pool_type = pool_type
        self.causal = tower.attn_mask is not None
        self.cuts = self.causal and pool_type in ("argmax", "eos", "first")

    def forward(self, tokens: Tokens, words: Tensor | None) -> tuple[Tensor, Tensor]:
        """``[B, L, w]``, and ``[B]``, the position in each row where the feature is read."""
        length = int(tokens.ends.max()) + 1 if self.cuts else self.context_length
        x: Tensor = self.token_embedding(tokens.ids[:, :length])
        if words is not None:
            x = x.index_put((tokens.rows, tokens.columns), words.to(x.dtype))
        x = x + self.positional_embedding[:length].to(x.dtype)
        if self.pool_type == "first":
            return x, torch.zeros_like(tokens.ends)
        if self.pool_type == "last":
            return x, torch.full_like(tokens.ends, length - 1)
        return x, tokens.ends


class TextTower(nn.Module):
    """CLIP's text encoder, taken apart so that pseudo-words can replace token embeddings.

    Attributes:
        packs: runs over the tokens of all prompts in one pass.

    open_clip stores it in two ways: as attributes of the model (``CLIP``) or as ``model.text``
    (``CustomTextCLIP``). Both have the same tensors under the same names.
    """

    transformer: Any
    ln_final: nn.LayerNorm
    text_projection: nn.Linear | nn.Parameter | None
    attn_mask: Tensor | None

    def __init__(self, model: nn.Module):
        """Raises UnsupportedModel where the text tower is not CLIP's own."""
        super().__init__()
        tower: Any = getattr(model, "text", model)
        custom = tower is not model
        if custom and not isinstance(tower, TextTransformer):
            raise UnsupportedModel(
                f"its text tower is a {type(tower).__name__}, and pseudo-words need CLIP's own"
            )
        if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
            raise UnsupportedModel("its text tower has a class token or a padding mask")
        pool_type = tower.pool_type if custom else tower.text_pool_type
        self.embedding = PromptEmbedding(tower, pool_type)
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        self.token_dim = int(self.token_embedding.weight.shape[1])
        cuts = self.embedding.cuts and pool_type != "first"
        self.packs = cuts and self._is_standard
        self._prefix_ids: tuple[int, ...] = ()
        self._prefix: list[KeysValues] | None = None

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.embedding.token_embedding

    @property
    def positional_embedding(self) -> nn.Parameter:
        return self.embedding.positional_embedding

    @property
    def context_length(self) -> int:
        return self.embedding.context_length

    @property
    def causal(self) -> bool:
        return self.embedding.causal

    @property
    def dim(self) -> int:
        """``d``, the size of the joint embedding."""
        if self.text_projection is None:
            return self.token_dim
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection.out_features
        return int(self.text_projection.shape[1])

    def forward(self, tokens: Tokens, words: Tensor | None = None) -> Tensor:
        """Token ids (and pseudo-words for their positions) -> ``[B, d]``, not normalized."""
        x, positions = self.embedding(tokens, words)
        with attention_of_any_length(x.device):
            if not self.packs:
                return self.encode(x, positions)
            return self._project(self._at_ends(x, tokens.ends, self._cached_prefix(tokens, words)))

    def _at_ends(self, x: Tensor, ends: Tensor, prefix: list[KeysValues] | None) -> Tensor:
        """``[B, L, w]`` -> ``[B, w]``: what the blocks give at the end of each prompt."""
        start = prefix[0].shape[1] if prefix else 0
        by_length = ends.argsort()
        ends = ends[by_length] - start
        lengths = self._lengths(ends + 1)
        place = torch.arange(x.shape[1] - start, device=x.device)
        used = x[by_length, start:][place < lengths[:, None]]
        rows = lengths.cumsum(0) - lengths + ends
        blocks = self.transformer.resblocks
        return outputs_at_ends(blocks, used, lengths.tolist(), rows, prefix)[by_length.argsort()]

    def _lengths(self, lengths: Tensor) -> Tensor:
        """How many tokens of each prompt are computed, the shortest prompts first.

        On a GPU the kernels of many different lengths would cost more than some padding.
        """
        return lengths if lengths.device.type == "cpu" else longest_of_groups(lengths)

    def encode(self, x: Tensor, positions: Tensor) -> Tensor:
        """What ``PromptEmbedding`` gives -> ``[B, d]``, by open_clip's own transformer."""
        mask = self.attn_mask
        if mask is not None:
            mask = mask[: x.shape[1], : x.shape[1]].to(x.dtype)
        out = self.transformer(x, attn_mask=mask)
        return self._project(out[torch.arange(x.shape[0], device=x.device), positions])

    def _project(self, pooled: Tensor) -> Tensor:
        normed: Tensor = self.ln_final(pooled)
        if self.text_projection is None:
            return normed
        if isinstance(self.text_projection, nn.Linear):
            return normed @ self.text_projection.weight.T + self.text_projection.bias
        return normed @ self.text_projection

    def cache_prefix(self, ids: Sequence[int]) -> None:
        """Sets the token ids that most prompts begin with; see ``prefix_cache``."""
        self._prefix_ids = tuple(ids)
        self._prefix = None

    def _cached_prefix(self, tokens: Tokens, words: Tensor | None) -> list[KeysValues] | None:
        """The prefix's keys and values, where every prompt begins with it and is longer."""
        ids, weight = self._prefix_ids, self.token_embedding.weight
        if not ids or weight.requires_grad or int(tokens.ends.min()) < len(ids):
            return None
        wanted = torch.tensor(ids, device=tokens.ids.device)
        if not bool((tokens.ids[:, : len(ids)] == wanted).all()):
            return None
        if words is not None and int(tokens.columns.min()) < len(ids):
            return None
        cached = self._prefix
        if cached is None or (cached[0].device, cached[0].dtype) != (weight.device, weight.dtype):
            cached = self._prefix = self._compute_prefix(wanted)
        return cached

    @torch.no_grad()
    def _compute_prefix(self, ids: Tensor) -> list[KeysValues]:
        x = self.token_embedding(ids)
        x = x + self.positional_embedding[: len(ids)].to(x.dtype)
        with torch.autocast(x.device.type, enabled=False), torch.inference_mode(False):
            return prefix_keys_values(self.transformer.resblocks, x)

    @property
    def _is_standard(self) -> bool:
        batch_first = getattr(self.transformer, "batch_first", True)
        return batch_first and are_standard_blocks(self.transformer.resblocks)
