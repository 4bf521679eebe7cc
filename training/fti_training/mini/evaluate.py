"""The held-out figures of the mini model, on the Twemoji gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, PARAPHRASES, Edit, Wordings, edits
from fti_qdrant.benchmarks.emoji.paraphrases import unused_wordings
from fti_qdrant.benchmarks.metrics import variation
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.description import PROMPTS, ComposerInputs, unit
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


def texts_of(asked: Sequence[Edit], wordings: Wordings = KNOWN_WORDINGS) -> list[str]:
    """One modification text for each edit."""
    return [edit.wording(wordings) for edit in asked]


def paraphrased(asked: Sequence[Edit]) -> tuple[list[Edit], list[str]]:
    """Each edit as often as the benchmark asks it in unused paraphrases, and these texts."""
    wordings = unused_wordings()
    pairs = [(edit, text) for edit in asked for text in edit.some_wordings(wordings, PARAPHRASES)]
    return [edit for edit, _ in pairs], [text for _, text in pairs]


def named_ranks(
    backbone: Backbone, gallery: Gallery, asked: Sequence[Edit], texts: Sequence[str]
) -> Tensor:
    """``[Q]``, ranks for "a photo of {true name} but {text}", as with perfect pseudo-words."""
    named = [f"{PHOTO_OF} {edit.reference.name} {BUT} {text}" for edit, text in zip(asked, texts)]
    return _ranks_of(_texts(backbone, named), gallery, asked)


def composed(
    composer: Composer,
    gallery: Gallery,
    asked: Sequence[Edit],
    methods: Sequence[str] = composer_names(),
    wordings: Wordings = KNOWN_WORDINGS,
) -> dict[str, dict[str, float]]:
    """Method -> R@1 and R@10, the reference left out of the results."""
    found = composed_ranks(composer, gallery, asked, texts_of(asked, wordings), methods)
    return {method: recalls(rank) for method, rank in found.items()}


def composed_ranks(
    composer: Composer,
    gallery: Gallery,
    asked: Sequence[Edit],
    texts: Sequence[str],
    methods: Sequence[str] = composer_names(),
) -> dict[str, Tensor]:
    """Method -> ``[Q]``, 1-based rank of each edit's target, the reference left out."""
    parts: dict[str, list[Tensor]] = {method: [] for method in methods}
    for start in range(0, len(asked), CHUNK):
        chunk, own = slice(start, start + CHUNK), asked[start : start + CHUNK]
        inputs = composer_inputs(composer, gallery, own, texts[chunk], methods)
        for method in methods:
            made = find_composer(method).function(inputs, composer.options(method))
            parts[method].append(_ranks_of(unit(made), gallery, own))
    return {method: torch.cat(found) for method, found in parts.items()}


def composer_inputs(
    composer: Composer,
    gallery: Gallery,
    asked: Sequence[Edit],
    texts: Sequence[str],
    methods: Sequence[str],
) -> ComposerInputs:
    """What all of these composers read of the edits; each feature is computed once."""
    rows = [gallery.row[edit.reference.key] for edit in asked]
    wanted = {need for method in methods for need in find_composer(method).needs}
    invert = any(need in PROMPTS for need in wanted)
    sizes = (1,) * len(rows)
    references = composer.references(gallery.features.take(rows), sizes, invert=invert)
    features: dict[str, Tensor] = {}
    for method in sorted(methods, key=lambda one: -len(find_composer(one).needs)):
        if not features.keys() >= set(find_composer(method).needs):
            features |= composer.compose_references(references, texts, method).inputs.features
    return ComposerInputs(features)


def ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """``[Q, N]`` scores -> 1-based rank of each query's target; ties count against it."""
    own = scores.gather(1, targets[:, None].to(scores.device))
    return (scores >= own).sum(dim=1)


def recalls(rank: Tensor) -> dict[str, float]:
    """R@1 and R@10."""
    return {f"R@{k}": float((rank <= k).float().mean()) for k in (1, 10)}


def spread(rank: Tensor, wordings: int) -> dict[str, float]:
    """How much R@1 depends on the wording, over edits with ``wordings`` wordings side by side.

    Best and worst are R@1 by the best and by the worst wording of each edit; the drop is the share
    of the best that the worst loses; the deviation is over the wordings of an edit, as a mean over
    the edits (``metrics.variation``).
    """
    columns = variation((rank <= 1).double().cpu().numpy(), wordings)
    best, worst, deviation = (float(column.mean()) for column in columns.values())
    drop = 1 - worst / best if best else 0.0
    return {"best wording": best, "worst wording": worst, "drop": drop, "deviation": deviation}


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
