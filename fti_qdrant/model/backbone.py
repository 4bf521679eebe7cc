"""The frozen CLIP: pixels -> ``ImageFeatures`` in one visual pass, prompts -> text vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fti_qdrant.images import Preprocess
from fti_qdrant.model.abilities import Abilities, Ability
from fti_qdrant.model.activation import activation_of
from fti_qdrant.model.closed_vocabulary import ClosedVocabulary
from fti_qdrant.model.cpu import fit_threads
from fti_qdrant.model.device import best_device, check_device
from fti_qdrant.model.features import ImageFeatures
from fti_qdrant.model.fingerprint import Fingerprint
from fti_qdrant.model.gpu import GraphedFunction
from fti_qdrant.model.image_tower import (
    for_inference,
    preprocess_of,
    token_width,
    tower_kind,
    visual_pass,
)
from fti_qdrant.model.loading import load_model
from fti_qdrant.model.names import absolute_name, local_folder
from fti_qdrant.model.openvino_backend import (
    Backend,
    CompiledTextTower,
    check_backend,
    use_openvino,
)
from fti_qdrant.model.own_text_tower import OwnTextTower, text_parts
from fti_qdrant.model.precision import (
    DTYPES,
    check_precision,
    default_precision,
    use_bf16_if_exact,
    warn_if_slow,
)
from fti_qdrant.model.pretrained import our_name
from fti_qdrant.model.prompts import Prompts
from fti_qdrant.model.text_tower import TextTower, length_groups
from fti_qdrant.model.tokens import Tokens, Vocabulary
from fti_qdrant.model.weights_cache import cached_weights_hash

if TYPE_CHECKING:
    from typing_extensions import Self

INVERSION = "textual inversion"


class Backbone(nn.Module):
    """An open_clip model, frozen: image features and text features.

    A ViT with CLIP's own text tower can do more, see ``abilities``: it gives the patch tokens and
    takes the pseudo-words of textual inversion.

    Attributes:
        name: the name it was loaded by.
        preprocess: from pictures to pixels; part of the fingerprint.
        dim: ``d``, size of the joint embedding.
        abilities: what it can do beside image and text features.
        learned: the only words that it reads in a text, for a model that has learned few.
        backend: ``torch``, or ``openvino`` where that runs the towers.
    """

    visual: Any
    text: TextTower | OwnTextTower | CompiledTextTower
    _anchor: Tensor
    backend: Backend = "torch"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        precision: str = "fp32",
        *,
        preprocess: Preprocess | None = None,
        weights_files: Sequence[Path] = (),
        learned: ClosedVocabulary | None = None,
    ):
        """Wraps an open_clip model; see ``Backbone.load`` for models by name.

        Args:
            preprocess: by default as ``image_tower.preprocess_of`` reads it from the model.
            weights_files: where the weights were loaded from; their hash is then cached on disk.
            learned: the only words that it reads in a text; None for a model that reads all.

        Raises:
            UnsupportedModel: an unknown precision, or an input that is not square.
        """
        super().__init__()
        self.register_buffer("_anchor", torch.zeros(0), persistent=False)  # knows the device
        check_precision(precision)
        self.name = name
        self.preprocess = preprocess or preprocess_of(model.visual)
        self._weights_hash = cached_weights_hash(model.state_dict(), weights_files)
        self._activation = activation_of(model)
        self._width = token_width(model.visual)
        self.visual = for_inference(model.visual)
        self.text, self._tokenizer, refusal = text_parts(model, tokenizer)
        self.learned = learned if isinstance(self._tokenizer, Vocabulary) else None
        if self.learned is not None and isinstance(self._tokenizer, Vocabulary):
            self._tokenizer = self.learned.close(self._tokenizer)
        self.dim = self.text.dim
        kind = tower_kind(model.visual)
        self.abilities = Abilities(
            no_patch_tokens="" if self._width else f"its image tower is a {kind}, not a ViT",
            no_pseudo_words=refusal,
        )
        if isinstance(self.text, TextTower):
            self.text.cache_prefix(self.prompts.prefix)
        self._small_batch = GraphedFunction(self._pass_as_tensors)
        self.convert(precision)
        self.eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        name: str = "mini",
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
        preprocess: str | None = None,
        backend: Backend = "torch",
    ) -> Self:
        """Loads a model by name.

        Args:
            name: ``mini``; ``ARCH/PRETRAINED`` or ``hf-hub:ORG/REPO`` of open_clip;
                ``hf:ORG/REPO[@REVISION]``, a CLIPModel of transformers; a folder that holds a
                model of either kind; or what other tools call a known model, such as
                ``clip-ViT-B-32``, with their preprocessing.
            device: as torch takes it, by name or as ``torch.device``; by default cuda, else mps,
                else cpu.
            precision: fp32, bf16 or fp16; by default fp16 on cuda, and on a CPU that multiplies
                bf16 that, unless a probe shows that it changes this model's features.
            preprocess: ``target-pad``, ``center-crop`` or ``squash``, or the name of a
                preprocessing in a gallery's fingerprint; by default ``squash`` where the model's
                own configuration says so, what transformers does for its models, and
                ``target-pad`` for all others.
            backend: ``torch``, or ``openvino`` for the towers on a CPU (an extra).

        Raises:
            UnsupportedModel: no such model, device, precision or backend, or no weights named.
            ModelMismatch: the weights were trained with another activation (OpenAI's QuickGELU),
                or an unknown preprocessing.
        """
        name, implied = our_name(name)
        preprocess = preprocess or implied
        check_precision(precision or "fp32")
        check_backend(backend, None if device is None else str(device), precision)
        chosen = "cpu" if backend == "openvino" else str(device or best_device())
        check_device(chosen)
        if chosen.startswith("cpu"):
            fit_threads()
        name = absolute_name(name)
        loaded = load_model(name)
        backbone = cls(
            loaded.model,
            loaded.tokenizer,
            name,
            "fp32" if backend == "openvino" else precision or default_precision(chosen),
            preprocess=loaded.preprocess.by(preprocess) if preprocess else loaded.preprocess,
            weights_files=loaded.files,
            learned=ClosedVocabulary.beside(local_folder(name)),
        ).to(chosen)
        if backend == "openvino":
            use_openvino(backbone, precision)
        elif precision is None:
            use_bf16_if_exact(backbone)
        else:
            warn_if_slow(precision, chosen)
        return backbone

    def convert(self, precision: str) -> None:
        """Computes in another precision from now on."""
        self.precision = precision
        self.to(DTYPES[precision])

    def require(self, *wanted: Ability, needed_by: str) -> None:
        """Raises UnsupportedModel where the model lacks one of these abilities.

        Args:
            needed_by: what needs them, for the message.
        """
        self.abilities.require(self.name, *wanted, needed_by=needed_by)

    @property
    def width(self) -> int:
        """``w``, width of the patch tokens. Raises UnsupportedModel where there are none."""
        self.require("patch_tokens", needed_by=INVERSION)
        assert self._width is not None
        return self._width

    @property
    def token_dim(self) -> int:
        """``t``, width of the text tower's token embeddings, and so of pseudo-words.

        Raises UnsupportedModel where the text tower takes no pseudo-words.
        """
        self.require("pseudo_words", needed_by=INVERSION)
        return self.text.token_dim

    @property
    def vocabulary(self) -> Vocabulary:
        """What prompts with pseudo-words are built from; raises as ``token_dim``."""
        self.require("pseudo_words", needed_by=INVERSION)
        assert isinstance(self._tokenizer, Vocabulary)
        return self._tokenizer

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts of the method in this vocabulary; raises as ``token_dim``."""
        return Prompts(self.vocabulary)

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            self.name, self._weights_hash, self._activation, self.preprocess.name, self.dim
        )

    @property
    def vocabulary_digest(self) -> str | None:
        """A hash of the words that it reads; None for a model that reads all."""
        return None if self.learned is None else self.learned.digest

    def image_features(
        self, images: Sequence[Image.Image], preprocess: Preprocess | None = None
    ) -> ImageFeatures:
        """RGB pictures -> features of the batch, in float32, without gradients.

        Args:
            preprocess: another recipe of ``self.preprocess.by`` than the backbone's own.
        """
        return self.pixel_features((preprocess or self.preprocess).batch(images))

    @torch.no_grad()
    def pixel_features(self, pixels: Tensor) -> ImageFeatures:
        """uint8 ``[B, 3, size, size]`` from ``Preprocess.pixels`` -> features in float32."""
        normalized = self.preprocess.normalize(pixels.to(self.device, non_blocking=True))
        return ImageFeatures(*self._small_batch(normalized.to(self.dtype))).float()

    def _pass_as_tensors(self, normalized: Tensor) -> tuple[Tensor, ...]:
        features = self.visual_pass(normalized)
        given = (features.pooled, features.tokens)
        return tuple(one for one in given if one is not None)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves the weights, as ``to`` does; what was recorded on a GPU read them elsewhere."""
        self._small_batch.forget()
        return super()._apply(fn, recurse)

    def visual_pass(self, normalized: Tensor) -> ImageFeatures:
        """Normalized ``[B, 3, size, size]`` -> features in the model's own dtype."""
        return visual_pass(self.visual, normalized, tokens=self.abilities.patch_tokens)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Plain texts -> token ids for ``text_features``, and which texts were cut."""
        return self._tokenizer.tokenize(texts)

    def text_features(self, tokens: Tokens, words: Tensor | None = None) -> Tensor:
        """Prompts -> ``[B, d]``, not normalized, differentiable with respect to ``words``.

        Args:
            tokens: token ids, with the positions of pseudo-words if there are any.
            words: ``[N, t]``, one row for each position, in the same order.

        Raises UnsupportedModel for words that the text tower does not take.

        A causal tower runs only over the length of the longest prompt: nothing after the
        end-of-text token can influence it, so the result is the same. A tower that pads encodes a
        large batch in groups of similar length, so that one long prompt does not slow down all.
        """
        tokens = tokens.to(self.device)
        if words is not None:
            self.require("pseudo_words", needed_by=INVERSION)
        by_length = tokens.ends.argsort()
        groups = length_groups(by_length)
        if self.text.packs or not self.text.causal or len(groups) == 1:
            features: Tensor = self.text(tokens, words)
            return features
        parts = []
        for group in groups:
            chosen, positions = tokens.select(group)
            parts.append(self.text(chosen, None if words is None else words[positions]))
        return torch.cat(parts)[by_length.argsort()]

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Plain texts -> L2-normalized ``[B, d]`` in float32; the end of a too long text is cut."""
        vectors = self.text_features(self.tokenize(texts))
        return F.normalize(vectors.float(), dim=-1)
