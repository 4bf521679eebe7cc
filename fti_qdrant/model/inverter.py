"""The fine-grained textual inversion network: ImageFeatures -> PseudoWords (FTI4CIR, sec. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from fti_qdrant.errors import ModelMismatch
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.fingerprint import weights_hash

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class PseudoWords:
    """Images as words for the text encoder.

    Attributes:
        subject: ``S [B, t]``.
        attributes: ``A [B, topk, t]``, of which the first ``counts`` of each row are used.
        counts: ``r [B]``, 1 to topk.
    """

    subject: Tensor
    attributes: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.subject)

    def used(self) -> Tensor:
        """``[sum(1 + r), t]``: each row's subject, then its attributes, row after row."""
        words = torch.cat([self.subject[:, None], self.attributes], dim=1)
        order = torch.arange(words.shape[1], device=words.device)
        return words[order <= self.counts[:, None]]

    def used_attributes(self) -> Tensor:
        """``[sum(r), t]``: each row's attributes, row after row."""
        order = torch.arange(self.attributes.shape[1], device=self.attributes.device)
        return self.attributes[order < self.counts[:, None]]

    def take(self, rows: Tensor | Sequence[int]) -> PseudoWords:
        """The pseudo-words of these rows, in this order."""
        return PseudoWords(self.subject[rows], self.attributes[rows], self.counts[rows])

    def to(self, device: torch.device) -> PseudoWords:
        """The same on another device."""
        return PseudoWords(
            self.subject.to(device), self.attributes.to(device), self.counts.to(device)
        )

    @classmethod
    def join(cls, parts: Sequence[PseudoWords]) -> Self:
        """Concatenates along the batch."""
        return cls(
            torch.cat([part.subject for part in parts]),
            torch.cat([part.attributes for part in parts]),
            torch.cat([part.counts for part in parts]),
        )


class Relevant(NamedTuple):
    """The latent attributes that describe an image.

    Attributes:
        z: ``[B, topk, t]``, L2-normalized.
        counts: ``r [B]``.
    """

    z: Tensor
    counts: Tensor


class Inverter(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="fti-qdrant",
    tags=["composed-image-retrieval", "textual-inversion"],
    license="apache-2.0",
):
    """The network of FTI4CIR with the official constants as defaults.

    ``save_pretrained`` / ``from_pretrained`` / ``push_to_hub`` store safetensors and JSON.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        token_dim: int,
        latents: int = 24,
        layers: int = 3,
        topk: int = 12,
        epsilon: float = 0.05,
        dropout: float = 0.5,
        project_relevance: bool = False,
        preprocess: str = "target-pad",
    ):
        """Sizes are the backbone's.

        Args:
            width: ``w``, of the visual tokens.
            dim: ``d``, of the joint embedding.
            token_dim: ``t``, of the text tokens.
            latents: ``K``, latent attribute queries.
            topk: maximum number of attribute tokens of one image.
            epsilon: a latent attribute counts where its relevance is above this.
            dropout: after each hidden layer of the two MLPs, in training.
            project_relevance: a fixed random map t -> d for backbones where the two differ.
            preprocess: of the pictures that it was trained on: a recipe, or the name of a
                preprocessing in a fingerprint; see ``Preprocess.by``.

        Raises:
            ModelMismatch: token_dim != dim without ``project_relevance``, or topk > latents.
        """
        super().__init__()
        if token_dim != dim and not project_relevance:
            raise ModelMismatch(
                f"relevance compares local features of {token_dim} values with a global one of "
                f"{dim}; pass project_relevance=True for a fixed random map between them"
            )
        if not 1 <= topk <= latents:
            raise ModelMismatch(f"topk = {topk} must lie in 1..latents = {latents}")
        self.sizes = (width, dim, token_dim)
        self.topk = topk
        self.epsilon = epsilon
        self.preprocess = preprocess
        self.queries = nn.Parameter(torch.randn(1, latents, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.to_local = nn.Linear(width, token_dim)
        self.relevance_map = nn.Linear(token_dim, dim) if project_relevance else nn.Identity()
        self.relevance_map.requires_grad_(False)  # it only selects, so no gradient reaches it
        self.subject_mlp = token_mlp(dim, token_dim, dropout)
        self.attribute_mlp = token_mlp(token_dim, token_dim, dropout)

    @classmethod
    def for_backbone(cls, backbone: Backbone, **options: Any) -> Self:
        """A fresh inverter of the backbone's sizes; raises as ``check_backbone``."""
        backbone.require("patch_tokens", "pseudo_words", needed_by="an inverter")
        sizes = (backbone.width, backbone.dim, backbone.token_dim)
        return cls(*sizes, **{"preprocess": backbone.preprocess.name, **options})

    def check_backbone(self, backbone: Backbone) -> None:
        """Raises where this inverter cannot work on a backbone.

        Raises:
            UnsupportedModel: the backbone has no patch tokens, or takes no pseudo-words.
            ModelMismatch: it has other sizes.
        """
        backbone.require("patch_tokens", "pseudo_words", needed_by="an inverter")
        expected = (backbone.width, backbone.dim, backbone.token_dim)
        if self.sizes != expected:
            raise ModelMismatch(
                f"the inverter is for a backbone of (w, d, t) = {self.sizes}, and "
                f"{backbone.name!r} has {expected}; load the inverter trained for this backbone"
            )

    @cached_property
    def weights_hash(self) -> str:
        """Identifies the weights; computed at first use."""
        return weights_hash(self.state_dict().items())

    def forward(self, features: ImageFeatures) -> PseudoWords:
        """``g [B, d]`` and ``p [B, 1+P, w]`` -> subject and attribute tokens."""
        return self.words(features, self.relevant(features))

    def words(self, features: ImageFeatures, relevant: Relevant) -> PseudoWords:
        """Maps g to subject tokens and z to attribute tokens."""
        subject = self.subject_mlp(features.pooled)
        attributes = self.attribute_mlp(relevant.z)
        return PseudoWords(subject, attributes, relevant.counts)

    def relevant(self, features: ImageFeatures) -> Relevant:
        """The topk latent attributes and how many of them count, without a loop over the batch.

        The first r are in ascending latent order, the rest by decreasing relevance.
        """
        local = self.local_features(features)
        relevance = self.relevance(local, features.pooled)
        latents = relevance.shape[1]
        counts = (relevance > self.epsilon).sum(dim=1).clamp(1, self.topk)
        by_relevance = relevance.argsort(dim=1, descending=True)[:, : self.topk]
        place = torch.arange(self.topk, device=relevance.device).expand_as(by_relevance)
        rank = torch.where(place < counts[:, None], by_relevance, latents + place)
        kept = by_relevance.gather(1, rank.argsort(dim=1))
        z = local.gather(1, kept[..., None].expand(-1, -1, local.shape[-1]))
        return Relevant(F.normalize(z, dim=-1), counts)

    def local_features(self, features: ImageFeatures) -> Tensor:
        """Latent local attribute features ``[B, K, t]``, in 0..1."""
        queries = self.queries.expand(features.pooled.shape[0], -1, -1)
        x = torch.cat([queries, features.required_tokens()], dim=1)
        for number, block in enumerate(self.blocks, 1):
            last = number == len(self.blocks)
            x = block(x, queries.shape[1] if last else x.shape[1])
        return torch.sigmoid(self.to_local(x))

    def relevance(self, local: Tensor, pooled: Tensor) -> Tensor:
        """Softmax over the K latent attributes of (local feature . g): ``[B, K]``.

        In float32 under autocast too: a rounded relevance may fall on the other side of epsilon.
        """
        with torch.autocast(local.device.type, enabled=False):
            mapped = self.relevance_map(local.float())
            return torch.einsum("bkd,bd->bk", mapped, pooled.float()).softmax(dim=1)


class Block(nn.Module):
    """Pre-norm transformer block: one head, MLP ratio 2, ReLU, no dropout."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, kept: int) -> Tensor:
        """``[B, N, w]`` -> the first ``kept`` rows of the output, ``[B, kept, w]``."""
        x = x[:, :kept] + self._attended(self.norm1(x), kept)
        return x + self.mlp(self.norm2(x))

    def _attended(self, normed: Tensor, kept: int) -> Tensor:
        """What the first ``kept`` rows get from all: ``[B, N, w]`` -> ``[B, kept, w]``.

        With one head, (Wq x) . (Wk y) = (Wk^T Wq x) . y, and the weighted mean of values is the
        value of the weighted mean. So all four projections are of the kept rows, and none is of
        the others.
        """
        to_keys, to_values = self.to_keys_values.weight.chunk(2)
        asked = linear_chain(normed[:, :kept], self.to_queries.weight, to_keys.t())
        scores = asked * normed.shape[-1] ** -0.5 @ normed.transpose(1, 2)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(normed.dtype)
        return linear_chain(weights @ normed, to_values, self.project.weight, self.project.bias)


def linear_chain(x: Tensor, first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    """``second (first x) + bias`` for ``x [..., w]`` and two matrices.

    Where there are more rows than the matrices have, the two are multiplied first, which is less.
    """
    if x.shape[:-1].numel() > len(first):
        return F.linear(x, second @ first, bias)
    return F.linear(F.linear(x, first), second, bias)


def token_mlp(inner: int, outer: int, dropout: float) -> nn.Sequential:
    """in -> 4 in -> 4 in -> out, GELU, dropout after each hidden layer (FTI4CIR's Phi)."""
    hidden = 4 * inner
    return nn.Sequential(
        *(nn.Linear(inner, hidden), nn.GELU(), nn.Dropout(dropout)),
        *(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout)),
        nn.Linear(hidden, outer),
    )
