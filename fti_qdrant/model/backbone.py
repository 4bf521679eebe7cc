"""The frozen CLIP: pixels -> ``ImageFeatures`` in one visual pass, prompts -> text vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.images import Preprocess
from fti_qdrant.model.fingerprint import Fingerprint
from fti_qdrant.model.loading import load_open_clip, weights_file
from fti_qdrant.model.names import absolute_name
from fti_qdrant.model.prompts import Prompts
from fti_qdrant.model.text_tower import TextTower, check_visual
from fti_qdrant.model.tokens import Tokens, Vocabulary
from fti_qdrant.model.weights_cache import cached_weights_hash

if TYPE_CHECKING:
    from typing_extensions import Self

LENGTH_GROUPS, MIN_GROUP = 4, 16
"""A batch of prompts is encoded in four groups of similar length, if each has at least 16."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ImageFeatures:
    """What one visual pass yields.

    Attributes:
        pooled: ``g [B, d]``, after the visual projection, **not** normalized.
        tokens: ``p [B, 1+P, w]``, the last block's output before the final layer norm, class
            token first (``[B, P, w]`` for towers that have no class token, such as SigLIP's).
    """

    pooled: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.pooled)

    def take(self, rows: Sequence[int]) -> ImageFeatures:
        """The features of these images, in this order."""
        return ImageFeatures(self.pooled[rows], self.tokens[rows])

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures]) -> Self:
        """Concatenates along the batch."""
        return cls(
            torch.cat([part.pooled for part in parts]), torch.cat([part.tokens for part in parts])
        )


class Backbone(nn.Module):
    """An open_clip ViT, frozen, behind the two functions that the method needs.

    Attributes:
        name: the open_clip name it was loaded by.
        dim: ``d``, size of the joint embedding.
        width: ``w``, width of the visual transformer.
        token_dim: ``t``, width of the text encoder's token embeddings.
        prompts: the method's prompts in this backbone's vocabulary.
    """

    visual: Any

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        precision: str = "fp32",
        *,
        weights_file: Path | None = None,
    ):
        """Wraps an open_clip model; see ``Backbone.load`` for models by name.

        Args:
            weights_file: where the weights were loaded from; their hash is then cached on disk.

        Raises:
            UnsupportedModel: the towers are not transformers that the method can use.
        """
        super().__init__()
        if precision not in DTYPES:
            raise UnsupportedModel(f"unknown precision {precision!r}; use one of {list(DTYPES)}")
        self.name = name
        self.precision = precision
        self.visual = model.visual
        self.text = TextTower(model)
        self.width = check_visual(model.visual, name)
        self.token_dim = self.text.token_dim
        self.vocabulary = Vocabulary.of(tokenizer, self.text.context_length)
        self.prompts = Prompts(self.vocabulary)
        self.text.cache_prefix(self.prompts.prefix)
        self.preprocess = _preprocess_of(model.visual)
        self.dim = self.text.dim
        self._weights_hash = cached_weights_hash(model.state_dict(), weights_file)
        self.to(DTYPES[precision])
        self.eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        name: str = "mini",
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
    ) -> Self:
        """Loads ``mini``, ``ARCH/PRETRAINED``, ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.

        Args:
            device: as torch takes it, by name or as ``torch.device``; by default cuda, else mps,
                else cpu.
            precision: fp32, bf16 or fp16; by default fp16 on cuda and fp32 elsewhere.

        Raises:
            UnsupportedModel: no such model or device, no weights named, or not a ViT with a CLIP
                text tower.
            ModelMismatch: the weights were trained with another activation (OpenAI's QuickGELU).
        """
        chosen = best_device() if device is None else str(device)
        check_device(chosen)
        name = absolute_name(name)
        model, tokenizer = load_open_clip(name)
        default = "fp16" if chosen.startswith("cuda") else "fp32"
        file = weights_file(name)
        backbone = cls(model, tokenizer, name, precision or default, weights_file=file)
        return backbone.to(chosen)

    @property
    def device(self) -> torch.device:
        return self.text.positional_embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def fingerprint(self) -> Fingerprint:
        activation = type(self.text.transformer.resblocks[0].mlp.gelu).__name__
        preprocess = self.preprocess.name
        return Fingerprint(self.name, self._weights_hash, activation, preprocess, self.dim)

    def image_features(self, images: Sequence[Image.Image]) -> ImageFeatures:
        """RGB pictures -> features of the batch, in float32, without gradients."""
        return self.pixel_features(self.preprocess.batch(images))

    @torch.no_grad()
    def pixel_features(self, pixels: Tensor) -> ImageFeatures:
        """uint8 ``[B, 3, size, size]`` from ``Preprocess.pixels`` -> features in float32."""
        normalized = self.preprocess.normalize(pixels.to(self.device, non_blocking=True))
        features = self.visual_pass(normalized.to(self.dtype))
        return ImageFeatures(features.pooled.float(), features.tokens.float())

    def visual_pass(self, normalized: Tensor) -> ImageFeatures:
        """Normalized ``[B, 3, size, size]`` -> features in the model's own dtype.

        One pass yields both g and p; the official code runs the visual tower twice.
        """
        out = self.visual.forward_intermediates(
            normalized, indices=1, output_fmt="NLC", output_extra_tokens=True
        )
        tokens = out["image_intermediates"][-1]
        prefix = out.get("image_intermediates_prefix")
        if prefix:
            tokens = torch.cat([prefix[-1], tokens], dim=1)
        return ImageFeatures(out["image_features"], tokens)

    def text_features(self, tokens: Tokens, words: Tensor | None = None) -> Tensor:
        """Prompts -> ``[B, d]``, not normalized, differentiable with respect to ``words``.

        Args:
            tokens: token ids, with the positions of pseudo-words if there are any.
            words: ``[N, t]``, one row for each position, in the same order.

        A causal tower runs only over the length of the longest prompt: nothing after the
        end-of-text token can influence it, so the result is the same. A large batch is encoded in
        groups of similar length, so that one long prompt does not slow down all others.
        """
        tokens = tokens.to(self.device)
        if not self.text.causal or len(tokens) < LENGTH_GROUPS * MIN_GROUP:
            return self.text(tokens, words)
        by_length = tokens.ends.argsort()
        features = []
        for group in by_length.chunk(LENGTH_GROUPS):
            chosen, positions = tokens.select(group)
            features.append(self.text(chosen, None if words is None else words[positions]))
        return torch.cat(features)[by_length.argsort()]

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Plain texts -> L2-normalized ``[B, d]`` in float32; the end of a too long text is cut."""
        vectors = self.text_features(self.vocabulary.tokenize(texts))
        return F.normalize(vectors.float(), dim=-1)


def check_device(device: str | torch.device) -> None:
    """Raises UnsupportedModel where there is no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UnsupportedModel(
            f"device {str(device)!r} cannot be used: {first_line(error)}; use cuda, mps or cpu"
        ) from None


def best_device() -> str:
    """cuda if available, else Apple's mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _preprocess_of(visual: Any) -> Preprocess:
    config = visual.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UnsupportedModel(f"input of {height} x {width} pixels; only square inputs work")
    red, green, blue = map(float, config["mean"])
    std_red, std_green, std_blue = map(float, config["std"])
    mean, std = (red, green, blue), (std_red, std_green, std_blue)
    return Preprocess(int(height), mean, std)
