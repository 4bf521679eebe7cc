"""CLIP's causal text transformer, run only over what a prompt's feature depends on.

Every prompt of the method begins with the same words, and in a causal tower a prefix does not
depend on what follows it: its keys and values are computed once. Nothing after the end-of-text
token matters either, so a batch is the tokens of all prompts in one row, without padding; attention
runs over the prompts of one length at a time. Of the last block's output only the end-of-text token
is used, so its MLP runs on that one alone. None of this changes the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

FEW_ROWS = 48
"""Measured on 2 cores at widths 512 and 768: from about 50 rows on there is no gain."""

KeysValues = Tensor
"""Of one block: ``[1, length, 2, heads, width / heads]``."""


def are_standard_blocks(blocks: Iterable[Any]) -> bool:
    """Whether all are CLIP's own blocks, whose computation is written out here."""
    return all(
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and block.attn.in_proj_weight is not None
        and block.attn.bias_k is None
        for block in blocks
    )


def prefix_keys_values(blocks: nn.ModuleList, x: Tensor) -> list[KeysValues]:
    """The keys and values of each block for the embedded prefix ``x [length, w]``."""
    cached = []
    mask = _causal(0, len(x), x)
    for block in blocks:
        projected = _project(block, x)
        cached.append(projected[None, :, 1:])
        x = _finish_block(block, x, _attend(projected[None], None, mask))
    return cached


def outputs_at_ends(
    blocks: nn.ModuleList,
    x: Tensor,
    lengths: Sequence[int],
    ends: Tensor,
    prefix: list[KeysValues] | None,
) -> Tensor:
    """``[B, w]``: the last block's output at each prompt's end.

    Args:
        x: ``[sum of lengths, w]``, the embedded tokens after the prefix, prompt after prompt.
        lengths: of the prompts, in any order; fastest where equal ones are neighbors. A prompt may
            have padding after its end.
        ends: ``[B]``, rows of ``x`` with the end-of-text tokens.
        prefix: from ``prefix_keys_values``; None where ``x`` contains complete prompts.
    """
    runs = [(len(list(equal)), length) for length, equal in groupby(lengths)]
    start = prefix[0].shape[1] if prefix else 0
    masks = [_causal(start, length, x) for _, length in runs]
    for number, block in enumerate(blocks):
        before = prefix[number] if prefix else None
        parts = _project(block, x).split([count * length for count, length in runs])
        mixed = torch.cat(
            [
                _attend(part.unflatten(0, run), before, mask)
                for part, run, mask in zip(parts, runs, masks)
            ]
        )
        if number + 1 == len(blocks):
            x, mixed = x[ends], mixed[ends]
        x = _finish_block(block, x, mixed)
    return x


def _causal(start: int, length: int, like: Tensor) -> Tensor:
    """``[length, start + length]``: 0 where a token sees another, -inf where that is after it."""
    hidden = like.new_full((length, start + length), float("-inf"))
    return hidden.triu(start + 1)


def _project(block: Any, x: Tensor) -> Tensor:
    """Queries, keys and values, ``[T, 3, heads, width / heads]``."""
    attention = block.attn
    joined = _linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    return joined.view(len(x), 3, attention.num_heads, attention.head_dim)


def _attend(projected: Tensor, prefix: KeysValues | None, mask: Tensor) -> Tensor:
    """The attention of prompts of one length to a prefix and themselves: ``[n * L, w]``.

    Args:
        projected: ``[n, L, 3, heads, width / heads]``.
        mask: ``[L, prefix + L]``, added to the scores.
    """
    queries, own = projected.split([1, 2], dim=2)
    if prefix is not None:
        own = torch.cat([prefix.to(own.dtype).expand(len(own), -1, -1, -1, -1), own], dim=1)
    keys, values = (one.transpose(1, 2) for one in own.unbind(2))
    mixed = attention_of(queries.squeeze(2).transpose(1, 2), keys, values, mask)
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def attention_of(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention.

    In half precision on a CPU, PyTorch's own takes ten times as long backward as the two matrix
    products of which it consists.
    """
    half = queries.device.type == "cpu" and queries.dtype != torch.float32
    if not (half and values.requires_grad):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1) + mask
    return scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype) @ values


def _finish_block(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block after its attention: projection, residuals, MLP."""
    out, wide, narrow = block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj
    x = x + block.ls_1(_linear(attended, out.weight, out.bias))
    hidden = block.mlp.gelu(_linear(block.ln_2(x), wide.weight, wide.bias))
    finished: Tensor = x + block.ls_2(_linear(hidden, narrow.weight, narrow.bias))
    return finished


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W^T + b``, for a single short prompt on a CPU as ``(W x^T)^T + b``.

    MKL takes up to twice as long for a product with few rows as for one with few columns.
    """
    if len(x) > FEW_ROWS or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    return torch.addmm(bias[:, None], weight, x.t()).t()
