"""Composed queries with their answers, made from the emoji that training may use."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import edits
from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.prompts import PHOTO_OF
from fti_training.mini.captions import Captioner
from fti_training.mini.config import MiniConfig
from fti_training.mini.pictures import TrainingSet
from fti_training.step import Triplets

TEXTS_BATCH = 512


@dataclass
class TripletWriter:
    """Writes an edit for each picture of a batch: a wording of the training half, and its answer.

    Attributes:
        answers: ``[N, d]``, what a query for each of the N pictures is to be near.
        edits_of: emoji -> the emoji that it can be changed into in one facet, with the facet.
        numbers: ``[N]``, the same for all pictures of one emoji.
    """

    data: TrainingSet
    captioner: Captioner
    seed: int
    answers: Tensor
    edits_of: dict[str, list[tuple[Emoji, str]]]
    numbers: Tensor

    @classmethod
    def of(
        cls, config: MiniConfig, backbone: Backbone, data: TrainingSet, features: ImageFeatures
    ) -> TripletWriter:
        edits_of: dict[str, list[tuple[Emoji, str]]] = defaultdict(list)
        for edit in edits(data.distinct):
            edits_of[edit.reference.key].append((edit.target, edit.facet))
        answers = features.pooled
        if config.inverter_triplet_target == "name":
            answers = _names(backbone, data.emoji)
        order = {emoji.key: number for number, emoji in enumerate(data.distinct)}
        numbers = torch.tensor([order[emoji.key] for emoji in data.emoji], device=backbone.device)
        captioner = Captioner(data.distinct, backbone.vocabulary, random.Random(config.seed))
        return cls(data, captioner, config.seed, answers, dict(edits_of), numbers)

    def __call__(self, chosen: list[int], number: int) -> Triplets:
        """For the pictures of step ``number``, those whose emoji can be changed."""
        rng = self.captioner.rng
        rng.seed(f"{self.seed}/edits/{number}")
        rows, texts, targets = [], [], []
        for row, index in enumerate(chosen):
            emoji = self.data.emoji[index]
            if emoji.key in self.edits_of:
                target, facet = rng.choice(self.edits_of[emoji.key])
                rows.append(row)
                texts.append(self.captioner.wording(facet, emoji, target))
                targets.append(self._picture(target, index))
        asked = torch.arange(len(rows), device=self.numbers.device)  # no emoji is there twice
        numbers = self.numbers
        return Triplets(
            rows, texts, self.answers[targets], asked, numbers[targets], numbers[chosen]
        )

    def _picture(self, target: Emoji, reference: int) -> int:
        """In the artwork of the reference, if that has it."""
        key = self.data.emoji[reference].key
        own, other = sorted(self.data.artworks, key=lambda one: one.get(key) != reference)
        return own[target.key] if target.key in own else other[target.key]


@torch.no_grad()
def _names(backbone: Backbone, emoji: list[Emoji]) -> Tensor:
    sentences = [f"{PHOTO_OF} {one.name}" for one in emoji]
    chunks = [sentences[at : at + TEXTS_BATCH] for at in range(0, len(sentences), TEXTS_BATCH)]
    return torch.cat([backbone.text_features(backbone.tokenize(chunk)) for chunk in chunks])
