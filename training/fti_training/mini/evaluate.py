"""The held-out figures of the mini model, on the Twemoji gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, Edit, Wordings, edits
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names, find_composer
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.prompts import BUT, PHOTO_OF
from fti_training.mini.pictures import Pictures

CHUNK = 512


@dataclass(frozen=True)
class Gallery:
    """All Twemoji pictures with their features; the composed queries search among them."""

    pictures: Pictures
    features: ImageFeatures

    @cached_property
    def vectors(self) -> Tensor:
        return F.normalize(self.features.pooled, dim=-1)

    @cached_property
    def row(self) -> dict[str, int]:
        return {emoji.key: index for index, emoji in enumerate(self.pictures.emoji)}


def embed(backbone: Backbone, pictures: Pictures) -> Gallery:
    """Features of every picture, through the one visual pass."""
    parts = [backbone.pixel_features(chunk) for chunk in pictures.pixels.split(CHUNK)]
    return Gallery(pictures, ImageFeatures.join(parts))


def held_out_edits(gallery: Gallery) -> list[Edit]:
    """Edits whose target is a held-out combination, which training never used."""
    return [edit for edit in edits(gallery.pictures.emoji) if edit.target.held_out]


def text_to_image(backbone: Backbone, gallery: Gallery) -> dict[str, float]:
    """R@1 and R@10 of "a photo of {name}" for the held-out combinations, among all pictures."""
    rows = [row for row, emoji in enumerate(gallery.pictures.emoji) if emoji.held_out]
    names = [f"{PHOTO_OF} {gallery.pictures.emoji[row].name}" for row in rows]
    scores = _texts(backbone, names) @ gallery.vectors.T
    return recalls(ranks(scores, torch.tensor(rows)))


def named_edits(backbone: Backbone, gallery: Gallery, asked: Sequence[Edit]) -> dict[str, float]:
    """R@1 and R@10 of "a photo of {true name} but {text}", as with perfect pseudo-words."""
    texts = [f"{PHOTO_OF} {edit.reference.name} {BUT} {edit.wording()}" for edit in asked]
    return recalls(_ranks_of(_texts(backbone, texts), gallery, asked))


def composed(
    composer: Composer,
    gallery: Gallery,
    asked: Sequence[Edit],
    methods: Sequence[str] = composer_names(),
    wordings: Wordings = KNOWN_WORDINGS,
) -> dict[str, dict[str, float]]:
    """Method -> R@1 and R@10, the reference left out of the results."""
    return {
        method: recalls(composed_ranks(composer, gallery, asked, method, wordings))
        for method in methods
    }


def composed_ranks(
    composer: Composer,
    gallery: Gallery,
    asked: Sequence[Edit],
    method: str = "fti",
    wordings: Wordings = KNOWN_WORDINGS,
) -> Tensor:
    """``[Q]``, 1-based rank of each edit's target, the reference left out of the results."""
    reference_rows = [gallery.row[edit.reference.key] for edit in asked]
    texts = [edit.wording(wordings) for edit in asked]
    parts = []
    for start in range(0, len(asked), CHUNK):
        chosen = reference_rows[start : start + CHUNK]
        features = gallery.features.take(chosen)
        invert = find_composer(method).needs_inverter
        references = composer.references(features, (1,) * len(chosen), invert=invert)
        chunk = texts[start : start + CHUNK]
        parts.append(composer.compose_references(references, chunk, method).vectors)
    return _ranks_of(torch.cat(parts), gallery, asked)


def ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """``[Q, N]`` scores -> 1-based rank of each query's target; ties count against it."""
    own = scores.gather(1, targets[:, None].to(scores.device))
    return (scores >= own).sum(dim=1)


def recalls(rank: Tensor) -> dict[str, float]:
    return {f"R@{k}": float((rank <= k).float().mean()) for k in (1, 10)}


def _ranks_of(vectors: Tensor, gallery: Gallery, asked: Sequence[Edit]) -> Tensor:
    rows = gallery.row
    scores = vectors @ gallery.vectors.T
    references = torch.tensor([rows[edit.reference.key] for edit in asked])
    scores[torch.arange(len(asked)), references] = -torch.inf
    targets = torch.tensor([rows[edit.target.key] for edit in asked])
    return ranks(scores, targets)


def _texts(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    return torch.cat([backbone.texts(chunk) for chunk in chunks])
