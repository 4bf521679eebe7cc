"""A network of the names that the published checkpoint pickles, written from the paper's method.

Nothing here calls the package's own inverter: ``IMG2TEXT.forward`` is the direct computation that
an imported checkpoint is compared with.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.dropout = nn.Dropout(0.0)
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads, size = self.num_heads, width // self.num_heads
        queries = self.to_queries(x).reshape(batch, length, heads, size)
        keys_values = self.to_keys_values(x).reshape(batch, length, 2, heads, size)
        keys, values = keys_values[:, :, 0], keys_values[:, :, 1]
        scores = torch.einsum("bnhs,bmhs->bnmh", queries, keys) / size**0.5
        mixed = torch.einsum("bnmh,bmhs->bnhs", scores.softmax(dim=2), values)
        return self.project(mixed.reshape(batch, length, width))


class MlpTransformer(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = F.relu
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerLayer(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = MultiHeadAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MlpTransformer(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, num_heads: int, num_layers: int):
        super().__init__()
        self.enc_dec = False
        self.layers = nn.ModuleList(TransformerLayer(width, num_heads) for _ in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Phi(nn.Module):
    def __init__(self, inner: int, outer: int):
        super().__init__()
        hidden = 4 * inner
        self.layers = nn.Sequential(
            nn.Linear(inner, hidden),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@dataclass
class Computed:
    """What the direct computation yields, r attributes of each picture as a list."""

    local: Tensor
    relevance: Tensor
    subject: Tensor
    attributes: Tensor
    counts: list[int]


class IMG2TEXT(nn.Module):
    def __init__(
        self,
        width: int,
        dim: int,
        num_k: int = 24,
        topk: int = 12,
        epsilon: float = 0.05,
        num_heads: int = 1,
        num_layers: int = 3,
    ):
        super().__init__()
        self.num_k, self.topk, self.epsilon = num_k, topk, epsilon
        self.hy_regLoss, self.temperature = 1.40, 0.20
        self.cosine_criterion = nn.CosineEmbeddingLoss()
        self.criterion_target = torch.as_tensor([1])
        self.ortho_loss = nn.MSELoss()
        self.templates = nn.Parameter(torch.randn(1, num_k, width))
        self.transformer = Transformer(width, num_heads, num_layers)
        self.local_atte_fc = nn.Sequential(nn.Linear(width, dim), nn.Sigmoid())
        self.phi_s = Phi(dim, dim)
        self.phi_a = Phi(dim, dim)

    def forward(self, pooled: Tensor, tokens: Tensor) -> Computed:
        """``g [B, d]`` and ``p [B, 1+P, w]``; a loop over the pictures and their attributes."""
        templates = self.templates.expand(len(tokens), -1, -1)
        out = self.transformer(torch.cat([templates, tokens], dim=1))
        local = self.local_atte_fc(out[:, : self.num_k])
        relevance = torch.stack(
            [(local[row] @ pooled[row]).softmax(dim=0) for row in range(len(pooled))]
        )
        counts, kept = [], []
        for row, values in enumerate(relevance.tolist()):
            count = min(max(sum(value > self.epsilon for value in values), 1), self.topk)
            order = sorted(range(self.num_k), key=lambda k, values=values: -values[k])
            chosen = sorted(order[:count]) + order[count : self.topk]
            kept.append(torch.stack([local[row, k] / local[row, k].norm() for k in chosen]))
            counts.append(count)
        attributes = self.phi_a(torch.stack(kept))
        return Computed(local, relevance, self.phi_s(pooled), attributes, counts)


MODULES: dict[str, list[type]] = {
    "i2t_model": [IMG2TEXT, Phi],
    "MHTransformer": [Transformer, TransformerLayer, MultiHeadAttention, MlpTransformer],
}


@contextmanager
def authors_modules() -> Iterator[None]:
    """Lets the classes be pickled by the authors' names, which are importable only in here."""
    ours = __name__
    for name, classes in MODULES.items():
        module: Any = ModuleType(name)
        for one in classes:
            one.__module__ = name
            setattr(module, one.__name__, one)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, classes in MODULES.items():
            del sys.modules[name]
            for one in classes:
                one.__module__ = ours


def network(width: int, dim: int, **options: Any) -> IMG2TEXT:
    """In evaluation mode, with latent features that differ enough to be ordered."""
    made = IMG2TEXT(width, dim, **options).eval()
    with torch.no_grad():
        made.local_atte_fc[0].weight.mul_(4)
        made.local_atte_fc[0].bias.normal_()
    return made


def save(held: object, path: Path, *, zipped: bool = True) -> Path:
    """``torch.save`` as the authors call it."""
    with authors_modules(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Couldn't retrieve source code")
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
    return path


@contextmanager
def saved_on(device: str) -> Iterator[None]:
    """Storages that are saved in here say that they were on this device."""
    with patch.object(torch.serialization, "location_tag", lambda storage: device):
        yield


def on_two_cards(network: nn.Module) -> nn.DataParallel:
    """DataParallel with the attributes that it has on a machine with two cards."""
    wrapped = nn.DataParallel(network)
    wrapped.device_ids, wrapped.output_device = [0, 1], 0
    wrapped.src_device_obj = torch.device("cuda:0")
    return wrapped
