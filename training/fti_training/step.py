"""One step of inverter training: features and captions -> the loss and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter, PseudoWords, Relevant
from fti_qdrant.model.prompts import Prompts
from fti_qdrant.model.tokens import Tokens
from fti_training.distributed import ProcessGroup, SingleProcess
from fti_training.losses import (
    TEMPERATURE,
    TRI_WISE_WEIGHT,
    composed_to_target,
    contrastive,
    orthogonality,
    tri_wise,
)
from fti_training.split_caption import SplitCaption

MAX_CACHED = 200_000
"""Most sentences whose features are kept: 600 MB at d = 768."""


@dataclass(frozen=True)
class StepLoss:
    """The total, which is minimized, and its parts for the log.

    Attributes:
        mean_count: mean of r, the number of attribute tokens per picture.
        triplet: None for a batch without triplets.
    """

    total: Tensor
    contrastive: Tensor
    orthogonality: Tensor
    tri_wise: Tensor
    mean_count: Tensor
    triplet: Tensor | None = None

    def figures(self, group: ProcessGroup = SingleProcess()) -> dict[str, float]:  # noqa: B008
        """Each part over the global batch."""
        parts = {name: value for name, value in self.__dict__.items() if value is not None}
        values = group.average(torch.stack([value.float() for value in parts.values()]))
        return dict(zip(parts, values.tolist()))


@dataclass(frozen=True)
class Weights:
    """Weights of the losses in the total, and the temperature; the defaults are FTI4CIR's."""

    orthogonality: float = 1.0
    tri_wise: float = TRI_WISE_WEIGHT
    temperature: float = TEMPERATURE
    triplet: float = 0.0
    triplet_temperature: float = 0.1


@dataclass(frozen=True)
class Triplets:
    """Composed queries of a batch with their answers, where the data has them; not in FTI4CIR.

    A picture with the number of a query's answer is neither right nor wrong for it, and neither is
    the answer to another query with the same number.

    Attributes:
        rows: T rows of the pictures, which are the references: B of the batch, then R others.
        texts: T modification texts.
        targets: ``[T, d]``, features of the answers.
        asked: ``[T]``, a number for each query; two rows with one number have two right answers.
        answers: ``[T]``, what each of the targets shows, as a number.
        shown: ``[B + R]``, what each picture shows.
        others: features of R pictures without captions, which the other losses do not see.
    """

    rows: list[int]
    texts: list[str]
    targets: Tensor
    asked: Tensor
    answers: Tensor
    shown: Tensor
    others: ImageFeatures | None = None

    def pictures(self, batch: ImageFeatures) -> ImageFeatures:
        """B of the batch, then R others."""
        return batch if self.others is None else ImageFeatures.join([batch, self.others])

    def gathered(self, group: ProcessGroup) -> tuple[Tensor, Tensor]:
        """Targets ``[sum of T, d]``, and ``[sum of T, sum of T + B + R]``: what is right, too."""
        asked, answers = group.gather(self.asked), group.gather(self.answers)
        alike = answers[:, None] == torch.cat([answers, group.gather(self.shown)])
        alike[:, : len(asked)] |= asked[:, None] == asked
        return group.gather(self.targets.float()), alike


class Sentences:
    """Features of the all-real sentences: constants, so each is encoded once and cached."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.prompts = backbone.prompts
        self._cached: dict[SplitCaption, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: Sequence[SplitCaption]) -> Tensor:
        """``[S, d]``, features of "a photo of {subject} with {attributes}"."""
        new = list(dict.fromkeys(one for one in captions if one not in self._cached))
        fresh = dict(zip(new, self._encode(new))) if new else {}
        if len(self._cached) + len(fresh) <= MAX_CACHED:
            self._cached |= fresh
        rows = [fresh[one] if one in fresh else self._cached[one] for one in captions]
        return torch.stack(rows)

    def clear(self) -> None:
        """Empties the cache.

        The other sentences of a batch change the last bits of a sentence's features. A run that
        clears the cache at each checkpoint continues exactly as a run that is resumed from it.
        """
        self._cached.clear()

    def _encode(self, captions: Sequence[SplitCaption]) -> Tensor:
        tokens = self.prompts.in_words(
            [caption.subject for caption in captions], [caption.attributes for caption in captions]
        )
        return self.backbone.text_features(tokens).float()


class InverterStep(nn.Module):
    """The losses of FTI4CIR on one batch; the backbone is frozen, the inverter learns.

    A plain PyTorch module whose parameters are the inverter's: it runs in one process, and under
    DistributedDataParallel with a ``DistributedGroup``.
    """

    def __init__(
        self,
        backbone: Backbone,
        inverter: Inverter,
        weights: Weights = Weights(),
        group: ProcessGroup = SingleProcess(),  # noqa: B008
    ):
        super().__init__()
        self.inverter = inverter
        self.weights = weights
        self.group = group
        vocabulary = backbone.vocabulary
        encode = lru_cache(MAX_CACHED)(vocabulary.encode)  # the same captions come every epoch
        self.prompts = Prompts(replace(vocabulary, encode=encode))
        self.sentences = Sentences(backbone)

    @property
    def backbone(self) -> Backbone:
        """Not a submodule: it is neither trained nor saved."""
        return self.sentences.backbone

    def forward(
        self,
        features: ImageFeatures,
        captions: Sequence[SplitCaption | None],
        sentences: Tensor | None = None,
        triplets: Triplets | None = None,
    ) -> StepLoss:
        """The loss of a batch.

        Args:
            features: g and p of B pictures.
            captions: B captions; None where a caption has no split. The tri-wise part is the
                mean over those that have one.
            sentences: ``[S, d]``, features of the S all-real sentences, where they are stored.
            triplets: composed queries with their answers; in each process, or in none.
        """
        pictures = features if triplets is None else triplets.pictures(features)
        relevant = self.inverter.relevant(pictures)
        words = own = self.inverter.words(pictures, relevant)
        if len(pictures) > len(features):
            count = len(features)
            own = words.take(range(count))
            relevant = Relevant(relevant.z[:count], relevant.counts[:count])
        rows = [row for row, caption in enumerate(captions) if caption is not None]
        split = [caption for caption in captions if caption is not None]
        if not self.weights.tri_wise:
            rows, split = [], []
        composed, queries, *pseudo = self._encode(own, words, rows, split, triplets)
        wise = composed.new_zeros(())
        if split:
            real = self.sentences(split) if sentences is None else sentences.float()
            wise = tri_wise(real, *pseudo, composed[rows])
        loss = self._sum(features, relevant, composed, wise, len(split))
        return loss if triplets is None else self._with_triplets(loss, pictures, queries, triplets)

    def _with_triplets(
        self, loss: StepLoss, pictures: ImageFeatures, queries: Tensor, triplets: Triplets
    ) -> StepLoss:
        """The reference pictures are among the wrong answers, so that the text must count."""
        gather = self.group.gather
        with torch.autocast(queries.device.type, enabled=False):
            targets, alike = triplets.gathered(self.group)
            candidates = torch.cat([targets, gather(pictures.pooled.float())])
            temperature = self.weights.triplet_temperature
            triplet = composed_to_target(gather(queries), candidates, alike, temperature)
        return replace(loss, total=loss.total + self.weights.triplet * triplet, triplet=triplet)

    def _sum(
        self,
        features: ImageFeatures,
        relevant: Relevant,
        composed: Tensor,
        wise: Tensor,
        split: int,
    ) -> StepLoss:
        """The parts as means over the global batch, and their weighted sum; in float32."""
        group, weights = self.group, self.weights
        own = group.mean_weight(len(features))
        with torch.autocast(composed.device.type, enabled=False):
            images, texts = group.gather(features.pooled.float()), group.gather(composed.float())
            contrast = contrastive(images, texts, weights.temperature)
            orthogonal = orthogonality(relevant.z.float()) * own
        wise = wise * group.mean_weight(split)
        total = contrast + weights.orthogonality * orthogonal + weights.tri_wise * wise
        return StepLoss(total, contrast, orthogonal, wise, relevant.counts.float().mean() * own)

    def _encode(
        self,
        own: PseudoWords,
        words: PseudoWords,
        rows: list[int],
        captions: list[SplitCaption],
        triplets: Triplets | None,
    ) -> tuple[Tensor, ...]:
        """All prompts in one pass: templates, queries of triplets, pseudo subjects and attributes.

        There is nothing after the queries without captions, and no query without triplets.
        """
        asked = triplets if triplets is not None and triplets.rows else None
        prompts = [self._prompts(own, [""] * len(own))]
        pseudo = [own.used()]
        if asked is not None:
            references = words.take(asked.rows)
            prompts.append(self._prompts(references, asked.texts))
            pseudo.append(references.used())
        if captions:
            chosen = words.take(rows)
            prompts += self._tri_wise_prompts(chosen, captions)
            pseudo += [chosen.subject, chosen.used_attributes()]
        features = self.backbone.text_features(Tokens.join(prompts), torch.cat(pseudo)).float()
        parts = features.split([len(part) for part in prompts])
        return parts if asked is not None else (parts[0], features[:0], *parts[1:])

    def _prompts(self, words: PseudoWords, texts: Sequence[str]) -> Tokens:
        return self.prompts.composed([[count] for count in words.counts.tolist()], texts)

    def _tri_wise_prompts(self, words: PseudoWords, captions: list[SplitCaption]) -> list[Tokens]:
        return [
            self.prompts.attributes_in_words([caption.attributes for caption in captions]),
            self.prompts.subject_in_words(
                [caption.subject for caption in captions], words.counts.tolist()
            ),
        ]
