"""(reference features, modification text) -> composed query vectors, and the baselines beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.errors import BadQuery, ModelMismatch
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter, PseudoWords
from fti_qdrant.model.inverter_loading import load_inverter
from fti_qdrant.model.loading import MINI

if TYPE_CHECKING:
    from PIL import Image

PSEUDO_WORD_METHODS = ("fti", "subject")
"""Methods that compose with an inverter."""

TRAINING_FREE_METHODS = ("image", "text", "sum", "slerp")
"""Methods that need the backbone alone."""

METHODS = PSEUDO_WORD_METHODS + TRAINING_FREE_METHODS

TEXT_WEIGHT = 0.5
"""Share of the text in ``sum`` and ``slerp``."""


@dataclass(frozen=True)
class References:
    """The reference images of a batch of queries, features and pseudo-words side by side.

    Attributes:
        pooled: ``g [N, d]`` of all images, query after query; need not be normalized.
        words: their pseudo-words, or None where only training-free methods will be used.
        sizes: number of images of each query; sums up to N.
    """

    pooled: Tensor
    words: PseudoWords | None
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.sizes) != len(self.pooled):
            raise BadQuery(f"{len(self.pooled)} images cannot be {self.sizes} references")
        if not all(self.sizes):
            raise BadQuery("every composed query needs at least one reference image")


@dataclass(frozen=True)
class Composed:
    """Composed query vectors.

    Attributes:
        vectors: ``[B, d]``, L2-normalized.
        truncated: for each query, whether the end of its text did not fit the context.
    """

    vectors: Tensor
    truncated: tuple[bool, ...]


class Composer:
    """A backbone and an inverter that was trained for it."""

    def __init__(self, backbone: Backbone, inverter: Inverter | None = None):
        """Raises ModelMismatch where the inverter is for a backbone of other sizes."""
        wanted = (backbone.width, backbone.dim, backbone.token_dim)
        if inverter is not None and inverter.sizes != wanted:
            raise ModelMismatch(
                f"the inverter is for a backbone of (w, d, t) = {inverter.sizes}, and "
                f"{backbone.name!r} has {wanted}; load the inverter trained for this backbone"
            )
        self.backbone = backbone
        self.inverter = inverter.eval().to(backbone.device) if inverter is not None else None
        self.prompts = backbone.prompts

    @staticmethod
    def load(
        model: str = "mini",
        inverter: str | None = None,
        *,
        device: str | None = None,
        precision: str | None = None,
    ) -> Composer:
        """Loads a backbone by name and an inverter from a folder or hub repository.

        ``mini`` brings its own inverter; for other models without one, the training-free methods
        still work.

        Raises:
            UnsupportedModel, CheckpointError, ModelMismatch: see ``Backbone.load``.
        """
        backbone = Backbone.load(model, device=device, precision=precision)
        source = inverter or (str(MINI / "inverter") if model == "mini" else None)
        return Composer(backbone, load_inverter(source) if source else None)

    @property
    def default_method(self) -> str:
        """``fti`` where there is an inverter."""
        return "fti" if self.inverter is not None else "sum"

    def compose(
        self, images: Sequence[Image.Image], texts: Sequence[str], method: str = "fti"
    ) -> Tensor:
        """One reference picture and one text for each query -> ``[B, d]``, L2-normalized.

        Raises BadQuery: unknown method, or as many texts as images is not the case.
        """
        if len(images) != len(texts):
            raise BadQuery(f"{len(images)} images and {len(texts)} texts; one text for each image")
        features = self.backbone.image_features(images)
        references = self.references(features, (1,) * len(images))
        return self.compose_references(references, texts, method).vectors

    @torch.inference_mode()
    def references(self, features: ImageFeatures, sizes: Sequence[int]) -> References:
        """Inverts the features of N images that belong to ``len(sizes)`` queries."""
        words = self.inverter(features) if self.inverter is not None else None
        return References(features.pooled, words, tuple(sizes))

    @torch.inference_mode()
    def compose_references(
        self, references: References, texts: Sequence[str], method: str = "fti"
    ) -> Composed:
        """Composes a batch of any mix of reference counts and r in one pass of the text encoder.

        Raises:
            BadQuery: unknown method, or one that needs pseudo-words where there are none.
            PromptTooLong: more pseudo-words in one query than the context holds.
        """
        if len(texts) != len(references.sizes):
            raise BadQuery(f"{len(texts)} texts for the references of {len(references.sizes)}")
        if method in PSEUDO_WORD_METHODS:
            return self._with_words(references, texts, method)
        try:
            mix = _TRAINING_FREE[method]
        except KeyError:
            raise BadQuery(
                f"unknown composer {method!r}; use one of {', '.join(METHODS)}"
            ) from None
        encoded = self.texts(texts)
        mixed = mix(_mean_by_query(references), encoded.vectors)
        return Composed(F.normalize(mixed, dim=-1), encoded.truncated)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Composed:
        """Texts alone, without a reference image."""
        tokens = self.backbone.vocabulary.tokenize(texts)
        vectors = self.backbone.text_features(tokens).float()
        return Composed(F.normalize(vectors, dim=-1), tokens.truncated)

    def _with_words(self, references: References, texts: Sequence[str], method: str) -> Composed:
        words = references.words
        if words is None:
            raise BadQuery(
                f"composer {method!r} needs an inverter, and none is loaded for "
                f"{self.backbone.name!r}; pass inverter=..., or use "
                f"{', '.join(TRAINING_FREE_METHODS)}"
            )
        counts = words.counts if method == "fti" else torch.zeros_like(words.counts)
        used = PseudoWords(words.subject, words.attributes, counts).used()
        by_query = [part.tolist() for part in counts.split(list(references.sizes))]
        tokens = self.prompts.composed(by_query, texts)
        vectors = self.backbone.text_features(tokens, used).float()
        return Composed(F.normalize(vectors, dim=-1), tokens.truncated)


def _mean_by_query(references: References) -> Tensor:
    """The normalized mean of each query's normalized image features: ``[B, d]``."""
    unit = F.normalize(references.pooled.float(), dim=-1)
    sizes = torch.tensor(references.sizes, device=unit.device)
    query = torch.arange(len(sizes), device=unit.device).repeat_interleave(sizes)
    summed = unit.new_zeros(len(sizes), unit.shape[1]).index_add(0, query, unit)
    return F.normalize(summed, dim=-1)


def weighted_sum(images: Tensor, texts: Tensor, weight: float = TEXT_WEIGHT) -> Tensor:
    """``(1 - weight) image + weight text`` of unit vectors ``[B, d]``."""
    return (1 - weight) * images + weight * texts


def slerp(images: Tensor, texts: Tensor, weight: float = TEXT_WEIGHT) -> Tensor:
    """The point at ``weight`` on the arc from image to text, unit vectors ``[B, d]``."""
    cosine = (images * texts).sum(dim=-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()
    parts = torch.sin((1 - weight) * angle) * images + torch.sin(weight * angle) * texts
    return parts / torch.sin(angle)


_TRAINING_FREE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "image": lambda images, texts: images,
    "text": lambda images, texts: texts,
    "sum": weighted_sum,
    "slerp": slerp,
}
