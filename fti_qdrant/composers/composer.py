"""A backbone and an inverter together: reference features and texts -> query vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.composers.registry import (
    TEXT_ONLY,
    composer_names,
    default_composer,
    find_composer,
)
from fti_qdrant.deprecation import renamed_argument, warn_deprecated
from fti_qdrant.errors import BadQuery
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter, PseudoWords
from fti_qdrant.model.inverter_loading import load_inverter
from fti_qdrant.model.names import MINI

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Self


@dataclass(frozen=True)
class References:
    """The reference images of a batch of queries: features and pseudo-words, image by image.

    Attributes:
        pooled: ``g [N, d]`` of all images, query after query; need not be normalized.
        words: their pseudo-words, or None where no composer needs them.
        sizes: number of images of each query; they sum up to N.

    Raises BadQuery where the sizes do not fit, or a query has no image.
    """

    pooled: Tensor
    words: PseudoWords | None
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.sizes) != len(self.pooled):
            raise BadQuery(f"{len(self.pooled)} images cannot be {self.sizes} references")
        if not all(self.sizes):
            raise BadQuery("every composed query needs at least one reference image")

    def split(self) -> list[References]:
        """Each image as a reference of its own: N parts of one image."""
        words = self.words
        rows = range(len(self.pooled))
        parts = [None if words is None else words.take([row]) for row in rows]
        return [References(self.pooled[row : row + 1], parts[row], (1,)) for row in rows]

    @classmethod
    def join(cls, parts: Sequence[References]) -> Self:
        """One batch of several; without pseudo-words where a part has none."""
        words = [part.words for part in parts if part.words is not None]
        return cls(
            torch.cat([part.pooled for part in parts]),
            PseudoWords.join(words) if len(words) == len(parts) else None,
            tuple(size for part in parts for size in part.sizes),
        )


@dataclass(frozen=True)
class Composed:
    """Composed query vectors.

    Attributes:
        vectors: ``[B, d]``, L2-normalized.
        truncated: for each query, whether the end of its text was cut to fit the context.
    """

    vectors: Tensor
    truncated: tuple[bool, ...]


class Composer:
    """A backbone, and an inverter that was trained for it.

    Example:
        >>> composer = Composer.load("mini", device="cpu")
        >>> composer.default_composer
        'fti'
    """

    def __init__(self, backbone: Backbone, inverter: Inverter | None = None):
        """Wraps both.

        Raises:
            UnsupportedModel: an inverter, and a backbone that cannot do textual inversion.
            ModelMismatch: the inverter is for a backbone of other sizes.
        """
        if inverter is not None:
            inverter.check_backbone(backbone)
        self.backbone = backbone
        self.inverter = inverter.eval().to(backbone.device) if inverter is not None else None

    @classmethod
    def load(
        cls,
        model: str = "mini",
        inverter: str | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> Self:
        """Loads a backbone by name, and an inverter from a folder or a hub repository.

        ``mini`` comes with its inverter; other models without one can use the composers that
        need no inverter.

        Args:
            device, precision: see ``Backbone.load``.

        Raises:
            UnsupportedModel, CheckpointError, ModelMismatch: see ``Backbone.load``.
        """
        backbone = Backbone.load(model, device=device, precision=precision)
        source = inverter or (str(MINI / "inverter") if model == "mini" else None)
        return cls(backbone, load_inverter(source) if source else None)

    @property
    def default_composer(self) -> str:
        """What ``composer=None`` stands for: ``fti`` with an inverter, else ``sum``."""
        return default_composer(inverter=self.inverter is not None)

    @property
    def default_method(self) -> str:
        """Deprecated: use ``default_composer``."""
        warn_deprecated(
            "Composer.default_method", since="0.2", removed_in="0.4", use="default_composer"
        )
        return self.default_composer

    def check(self, composer: str) -> None:
        """Raises BadQuery for an unknown composer, or one that needs an inverter without one."""
        if find_composer(composer).needs_inverter and self.inverter is None:
            raise BadQuery(
                f"composer {composer!r} needs an inverter, and none is loaded for "
                f"{self.backbone.name!r}; pass inverter=..., or use one of "
                f"{', '.join(composer_names(inverter=False))}"
            )

    @renamed_argument("method", "composer", since="0.2", removed_in="0.4")
    def compose(
        self, images: Sequence[Image.Image], texts: Sequence[str], composer: str | None = None
    ) -> Tensor:
        """One reference picture and one text for each query -> ``[B, d]``, L2-normalized.

        Args:
            composer: a name of the registry; None for ``default_composer``.

        Raises BadQuery: unknown composer, or images and texts of different number.
        """
        name = self.default_composer if composer is None else composer
        self.check(name)
        if len(images) != len(texts):
            raise BadQuery(f"{len(images)} images and {len(texts)} texts; one text for each image")
        description = find_composer(name)
        if not description.uses_image:
            return self.compose_references(None, texts, name).vectors
        features = self.backbone.image_features(images)
        invert = description.needs_inverter
        references = self.references(features, (1,) * len(images), invert=invert)
        return self.compose_references(references, texts, name).vectors

    @torch.inference_mode()
    def references(
        self, features: ImageFeatures, sizes: Sequence[int], *, invert: bool = True
    ) -> References:
        """The features of N images that belong to ``len(sizes)`` queries, as references.

        Args:
            invert: compute pseudo-words, where an inverter is loaded.
        """
        words = self.inverter(features) if invert and self.inverter is not None else None
        return References(features.pooled, words, tuple(sizes))

    @torch.inference_mode()
    @renamed_argument("method", "composer", since="0.2", removed_in="0.4")
    def compose_references(
        self, references: References | None, texts: Sequence[str], composer: str | None = None
    ) -> Composed:
        """Composes B queries, of any numbers of images and attributes, in one batch.

        Runs only what the composer needs.

        Args:
            references: of B queries; None for a composer that uses no image.
            texts: B texts; may be empty.
            composer: a name of the registry; None for ``default_composer``.

        Raises:
            BadQuery: unknown composer, or one that needs pseudo-words or images and has none.
            PromptTooLong: more pseudo-words in one query than the context holds.
        """
        if references is not None and len(texts) != len(references.sizes):
            raise BadQuery(f"{len(texts)} texts for the references of {len(references.sizes)}")
        name = self.default_composer if composer is None else composer
        inputs = _Inputs(self, name, references, texts)
        vectors = find_composer(name).function(inputs)
        return Composed(F.normalize(vectors.float(), dim=-1), inputs.truncated)

    def texts(self, texts: Sequence[str]) -> Composed:
        """Texts alone, without a reference image."""
        return self.compose_references(None, texts, TEXT_ONLY)


class _Inputs:
    """``ComposerInputs``: each is computed when a composer first asks for it."""

    def __init__(
        self, model: Composer, name: str, references: References | None, texts: Sequence[str]
    ):
        self._model = model
        self._name = name
        self._references = references
        self._texts = texts
        self.truncated = (False,) * len(texts)

    @cached_property
    def images(self) -> Tensor:
        references = self._require_references()
        unit = F.normalize(references.pooled.float(), dim=-1)
        sizes = torch.tensor(references.sizes, device=unit.device)
        query = torch.arange(len(sizes), device=unit.device).repeat_interleave(sizes)
        summed = unit.new_zeros(len(sizes), unit.shape[1]).index_add(0, query, unit)
        return F.normalize(summed, dim=-1)

    @cached_property
    def texts(self) -> Tensor:
        backbone = self._model.backbone
        tokens = backbone.tokenize(self._texts)
        self.truncated = tokens.truncated
        return F.normalize(backbone.text_features(tokens).float(), dim=-1)

    def prompts(self, *, attributes: bool = True) -> Tensor:
        references, backbone = self._require_references(), self._model.backbone
        words = references.words
        if words is None:
            self._model.check(self._name)
            raise BadQuery(
                f"composer {self._name!r} needs pseudo-words, and the references have none; make "
                "them with Composer.references(..., invert=True)"
            )
        if not attributes:
            words = replace(words, counts=torch.zeros_like(words.counts))
        counts = [part.tolist() for part in words.counts.split(list(references.sizes))]
        tokens = backbone.prompts.composed(counts, self._texts)
        self.truncated = tokens.truncated
        return backbone.text_features(tokens, words.used())

    def _require_references(self) -> References:
        if self._references is None:
            raise BadQuery(f"composer {self._name!r} needs a reference image for each text")
        return self._references
