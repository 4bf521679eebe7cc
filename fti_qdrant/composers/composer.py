"""A backbone and an inverter together: reference features and texts -> query vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fti_qdrant.composers.compose import compose_all
from fti_qdrant.composers.defaults import default_composer, options_with_defaults
from fti_qdrant.composers.description import ComposerOptions
from fti_qdrant.composers.inputs import Composed, ComposeRequest, References
from fti_qdrant.composers.registry import TEXT_ONLY, composer_names, find_composer
from fti_qdrant.deprecation import renamed_argument, warn_deprecated
from fti_qdrant.errors import BadQuery, ModelMismatch
from fti_qdrant.images import Preprocess
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.gpu import GraphedFunction, matmul_precision
from fti_qdrant.model.inverter import Inverter, PseudoWords
from fti_qdrant.model.inverter_loading import load_inverter
from fti_qdrant.model.openvino_backend import Backend, compiled_inverter

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Self

    from fti_qdrant.images import LoadedImage


class Composer:
    """A backbone, and an inverter that was trained for it.

    Example:
        >>> composer = Composer.load("mini", device="cpu")
        >>> composer.default_composer
        'pdv'
    """

    def __init__(self, backbone: Backbone, inverter: Inverter | None = None):
        """Wraps both.

        Raises:
            UnsupportedModel: an inverter, and a backbone that cannot do textual inversion.
            ModelMismatch: the inverter is for a backbone of other sizes, or was trained on
                pictures that were preprocessed in an unknown way.
        """
        self.word_preprocess: Preprocess | None = None
        """Of pictures that become pseudo-words, where the backbone's own is another."""
        if inverter is not None:
            inverter.check_backbone(backbone)
            preprocess = backbone.preprocess.by(inverter.preprocess)
            if preprocess.name != backbone.preprocess.name:
                self.word_preprocess = preprocess
        self.backbone = backbone
        self.inverter = inverter.eval().to(backbone.device) if inverter is not None else None
        self._small_batch = GraphedFunction(self._words_as_tensors)
        self._compiled: Callable[[ImageFeatures], PseudoWords] | None = None
        if inverter is not None and backbone.backend == "openvino":
            self._compiled = compiled_inverter(inverter)

    @classmethod
    def load(
        cls,
        model: str = "mini",
        inverter: str | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
    ) -> Self:
        """Loads a backbone by name, and an inverter by what ``load_inverter`` takes.

        ``mini`` comes with its inverter; other models without one can use the composers that
        need no inverter.

        Args:
            device, precision, preprocess, backend: see ``Backbone.load``.

        Raises:
            UnsupportedModel, CheckpointError, ModelMismatch: see ``Backbone.load``.
        """
        backbone = Backbone.load(
            model, device=device, precision=precision, preprocess=preprocess, backend=backend
        )
        return cls.with_inverter(backbone, inverter)

    @classmethod
    def with_inverter(cls, backbone: Backbone, inverter: str | None = None) -> Self:
        """A loaded backbone, with an inverter by name; ``mini`` has its own. Raises as ``load``."""
        source = inverter or ("mini" if backbone.name == "mini" else None)
        return cls(backbone, load_inverter(source, backbone.name) if source else None)

    @property
    def default_composer(self) -> str:
        """What ``composer=None`` stands for: the best that the loaded model can do."""
        return default_composer(self.backbone.name, inverter=self.inverter is not None)

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

    def options(self, composer: str, given: Mapping[str, Any] | None = None) -> ComposerOptions:
        """A composer's options: those given, else the model's, else the composer's defaults.

        Raises BadQuery: an unknown option, or a value out of range.
        """
        merged = options_with_defaults(self.backbone.name, composer, given or {})
        return find_composer(composer).check_options(merged)

    @renamed_argument("method", "composer", since="0.2", removed_in="0.4")
    def compose(
        self,
        images: Sequence[Image.Image],
        texts: Sequence[str],
        composer: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        avoid: Sequence[str] | None = None,
    ) -> Tensor:
        """One reference picture and one text for each query -> ``[B, d]``.

        Unit vectors, unless the composer is one whose length has a meaning (``raw-sum``).

        Args:
            composer: a name of the registry; None for ``default_composer``.
            options: of the composer, such as ``{"text_weight": 0.6}``.
            avoid: one text for each query to move away from; empty for none.

        Raises BadQuery: unknown composer or option, or images and texts of different number.
        """
        name = self.default_composer if composer is None else composer
        self.check(name)
        if len(images) != len(texts):
            raise BadQuery(f"{len(images)} images and {len(texts)} texts; one text for each image")
        description = find_composer(name)
        references = None
        if description.uses_image:
            references = self.image_references(images, invert=description.needs_inverter)
        return self.compose_references(
            references, texts, name, options=options, avoid=avoid
        ).vectors

    def image_references(self, images: Sequence[Image.Image], *, invert: bool = True) -> References:
        """Pictures as references, one for each query.

        Args:
            invert: compute pseudo-words, where an inverter is loaded.
        """
        features = self.backbone.image_features(images)
        for_words = self.word_features(images) if invert else None
        sizes = (1,) * len(images)
        return self.references(features, sizes, invert=invert, for_words=for_words)

    def fitted(self, picture: LoadedImage) -> LoadedImage:
        """The picture in the model's own input size, where that changes no feature.

        A picture that waits for the model then takes a hundred kilobytes, whatever it was.
        """
        if self.word_preprocess is not None or not self.backbone.preprocess.keeps_squares:
            return picture
        return replace(picture, image=self.backbone.preprocess.square(picture.image))

    def word_features(self, images: Sequence[Image.Image]) -> ImageFeatures | None:
        """The features that pseudo-words are made of.

        None where those of ``Backbone.image_features`` serve for both: the inverter was trained on
        pictures that were preprocessed in the same way.
        """
        if self.word_preprocess is None:
            return None
        return self.backbone.image_features(images, self.word_preprocess)

    @torch.inference_mode()
    def references(
        self,
        features: ImageFeatures,
        sizes: Sequence[int],
        *,
        invert: bool = True,
        for_words: ImageFeatures | None = None,
    ) -> References:
        """The features of N images that belong to ``len(sizes)`` queries, as references.

        Args:
            invert: compute pseudo-words, where an inverter is loaded.
            for_words: of the same images, from ``word_features``.

        Raises ModelMismatch where pseudo-words need ``for_words``, and it is None.
        """
        words = None
        if invert and self.inverter is not None:
            if for_words is None and self.word_preprocess is not None:
                raise ModelMismatch(
                    f"the inverter was trained on pictures preprocessed by "
                    f"{self.word_preprocess.name}, and these were by "
                    f"{self.backbone.preprocess.name}; pass the features of word_features"
                )
            words = self._words(features if for_words is None else for_words)
        return References(features.pooled, words, tuple(sizes))

    def _words(self, features: ImageFeatures) -> PseudoWords:
        if self._compiled is not None:
            return self._compiled(features)
        with matmul_precision(exact=self.backbone.precision == "fp32"):
            return PseudoWords(*self._small_batch(features.pooled, features.required_tokens()))

    def _words_as_tensors(self, pooled: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        assert self.inverter is not None
        words = self.inverter(ImageFeatures(pooled, tokens))
        return words.subject, words.attributes, words.counts

    @renamed_argument("method", "composer", since="0.2", removed_in="0.4")
    def compose_references(
        self,
        references: References | None,
        texts: Sequence[str],
        composer: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        avoid: Sequence[str] | None = None,
    ) -> Composed:
        """Composes B queries, of any numbers of images and attributes, in one batch.

        Runs only what the composer needs.

        Args:
            references: of B queries; None for a composer that uses no image.
            texts: B texts; may be empty.
            composer, options, avoid: see ``compose``.

        Raises:
            BadQuery: unknown composer or option, or one that needs pseudo-words or images and has
                none.
            PromptTooLong: more pseudo-words in one query than the context holds.
        """
        name = self.default_composer if composer is None else composer
        request = self.request(references, texts, name, options=options, avoid=avoid)
        return self.compose_requests([request])[0]

    def request(
        self,
        references: References | None,
        texts: Sequence[str],
        composer: str,
        *,
        options: Mapping[str, Any] | None = None,
        avoid: Sequence[str] | None = None,
    ) -> ComposeRequest:
        """Checked arguments of ``compose_references``, for ``compose_requests``."""
        if references is not None and len(texts) != len(references.sizes):
            raise BadQuery(f"{len(texts)} texts for the references of {len(references.sizes)}")
        avoided = [""] * len(texts) if avoid is None else avoid
        if len(avoided) != len(texts):
            raise BadQuery(f"{len(avoided)} texts to avoid, for {len(texts)} queries")
        if references is None or references.words is None:
            self.check(composer)
        return ComposeRequest(
            find_composer(composer),
            self.options(composer, options),
            references,
            tuple(texts),
            tuple(avoided),
        )

    @torch.inference_mode()
    def compose_requests(self, requests: Sequence[ComposeRequest]) -> list[Composed]:
        """Composes several batches of different composers: one pass through the text tower.

        Raises as ``compose_references``.
        """
        return compose_all(requests, self.backbone)

    def texts(self, texts: Sequence[str]) -> Composed:
        """Texts alone, without a reference image."""
        return self.compose_references(None, texts, TEXT_ONLY)
