"""One step of inverter training: features and captions -> the loss and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fti_qdrant.backbone import Backbone, ImageFeatures
from fti_qdrant.inverter import Inverter, PseudoWords
from fti_qdrant.prompts import Prompts
from fti_training.losses import TRI_WISE_WEIGHT, contrastive, orthogonality, tri_wise


@dataclass(frozen=True)
class SplitCaption:
    """A caption split after its first noun: "woman firefighter" + "dark skin tone"."""

    subject: str
    attributes: str


@dataclass(frozen=True)
class StepLoss:
    """The total that is minimised, and what it is made of (for the log).

    Attributes:
        mean_count: mean r, attribute tokens per picture.
    """

    total: Tensor
    contrastive: Tensor
    orthogonality: Tensor
    tri_wise: Tensor
    mean_count: Tensor

    def log(self) -> dict[str, float]:
        return {name: float(value.detach()) for name, value in self.__dict__.items()}


class InverterStep:
    """The losses of FTI4CIR on one batch; the backbone is frozen, the inverter learns.

    The text features of real sentences are constants, so each is encoded once and remembered.
    """

    def __init__(self, backbone: Backbone, inverter: Inverter, weight: float = TRI_WISE_WEIGHT):
        self.backbone = backbone
        self.inverter = inverter
        self.prompts = Prompts(backbone.vocabulary)
        self.weight = weight
        self._sentences: dict[SplitCaption, Tensor] = {}

    def __call__(
        self, features: ImageFeatures, captions: Sequence[SplitCaption | None]
    ) -> StepLoss:
        """The loss of a batch.

        Args:
            features: g and p of B pictures.
            captions: B captions; None where a caption has no split. The tri-wise part is the
                mean over those that have one.
        """
        relevant = self.inverter.relevant(features)
        words = self.inverter.words(features, relevant)
        composed = self._composed(words)
        parts = (
            contrastive(features.pooled, composed),
            orthogonality(relevant.z),
            self._tri_wise(words, composed, captions),
        )
        total = parts[0] + parts[1] + self.weight * parts[2]
        return StepLoss(total, *parts, relevant.counts.float().mean())

    def _composed(self, words: PseudoWords) -> Tensor:
        counts = [[count] for count in words.counts.tolist()]
        tokens = self.prompts.composed(counts, [""] * len(words))
        return self.backbone.text_features(tokens, words.used()).float()

    def _tri_wise(
        self, words: PseudoWords, composed: Tensor, captions: Sequence[SplitCaption | None]
    ) -> Tensor:
        rows = [row for row, caption in enumerate(captions) if caption is not None]
        split = [caption for caption in captions if caption is not None]
        if not split:
            return composed.new_zeros(())
        chosen = PseudoWords(words.subject[rows], words.attributes[rows], words.counts[rows])
        subjects = [caption.subject for caption in split]
        attributes = [caption.attributes for caption in split]
        pseudo_subject = self.backbone.text_features(
            self.prompts.attributes_in_words(attributes), chosen.subject
        )
        pseudo_attributes = self.backbone.text_features(
            self.prompts.subject_in_words(subjects, chosen.counts.tolist()),
            chosen.used_attributes(),
        )
        real = self._real_sentences(split)
        return tri_wise(real, pseudo_subject.float(), pseudo_attributes.float(), composed[rows])

    @torch.no_grad()
    def _real_sentences(self, captions: Sequence[SplitCaption]) -> Tensor:
        new = list({caption for caption in captions if caption not in self._sentences})
        if new:
            tokens = self.prompts.in_words(
                [caption.subject for caption in new], [caption.attributes for caption in new]
            )
            for caption, vector in zip(new, self.backbone.text_features(tokens).float()):
                self._sentences[caption] = vector
        return torch.stack([self._sentences[caption] for caption in captions])
