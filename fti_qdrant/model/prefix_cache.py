"""CLIP's causal text transformer, run only over what a prompt's feature depends on.

Every prompt of the method begins with the same words, and in a causal tower a prefix does not
depend on what follows it: its keys and values are computed once. Of the last block's output only
the end-of-text token is used, so only that one is computed. Neither changes the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

FEW_ROWS = 48
"""Measured on 2 cores at widths 512 and 768: from about 50 rows on there is no gain."""


class KeysValues(NamedTuple):
    """Of one block: ``[1, heads, length, width / heads]`` each."""

    keys: Tensor
    values: Tensor


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
    """The keys and values of each block for the embedded prefix ``x [1, length, w]``."""
    cached = []
    for block in blocks:
        queries, keys, values = _project(block, x)
        cached.append(KeysValues(keys, values))
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = _finish_block(block, x, mixed)
    return cached


def outputs_at_ends(
    blocks: nn.ModuleList, x: Tensor, ends: Tensor, prefix: list[KeysValues] | None
) -> Tensor:
    """``[B, w]``: the last block's output at each prompt's end.

    Args:
        x: ``[B, L, w]``, the embedded tokens after the prefix.
        ends: ``[B]``, positions of the end-of-text tokens in ``x``.
        prefix: from ``prefix_keys_values``; None where ``x`` contains complete prompts.
    """
    start = prefix[0].keys.shape[2] if prefix else 0
    positions = torch.arange(x.shape[1], device=x.device)
    causal = torch.arange(start + x.shape[1], device=x.device) <= start + positions[:, None]
    for number, block in enumerate(blocks):
        last = number + 1 == len(blocks)
        queries, keys, values = _project(block, x)
        if prefix:
            keys = torch.cat([_expand(prefix[number].keys, keys), keys], dim=2)
            values = torch.cat([_expand(prefix[number].values, values), values], dim=2)
        mask = causal
        if last:
            rows = torch.arange(len(x), device=x.device)
            x, queries = x[rows, ends][:, None], queries[rows, :, ends][:, :, None]
            mask = causal[ends][:, None, None]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = _finish_block(block, x, mixed)
    return x[:, 0]


def _project(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, ``[B, heads, L, width / heads]`` each."""
    attention = block.attn
    joined = _linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    split = joined.view(*x.shape[:2], 3, attention.num_heads, attention.head_dim)
    queries, keys, values = split.permute(2, 0, 3, 1, 4)
    return queries, keys, values


def _finish_block(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block after its attention: projection, residuals, MLP."""
    attended = mixed.transpose(1, 2).flatten(2)
    out, wide, narrow = block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj
    x = x + block.ls_1(_linear(attended, out.weight, out.bias))
    hidden = block.mlp.gelu(_linear(block.ln_2(x), wide.weight, wide.bias))
    finished: Tensor = x + block.ls_2(_linear(hidden, narrow.weight, narrow.bias))
    return finished


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W^T + b``, for a single short prompt on a CPU as ``(W x^T)^T + b``.

    MKL takes up to twice as long for a product with few rows as for one with few columns.
    """
    rows = x.shape[:-1].numel()
    if rows > FEW_ROWS or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    product = torch.addmm(bias[:, None], weight, x.reshape(rows, -1).t())
    return product.t().reshape(*x.shape[:-1], -1)


def _expand(one: Tensor, like: Tensor) -> Tensor:
    return one.to(like.dtype).expand(len(like), -1, -1, -1)
