"""CLIP's loss of a batch of captioned pictures, on a GPU as one recorded graph."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from fti_qdrant.errors import first_line
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.gpu import attention_of_any_length
from fti_qdrant.model.text_tower import TextTower
from fti_qdrant.model.tokens import Tokens
from fti_training.losses import clip
from fti_training.precision import Precision, autocast

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = 4.6052
"""log(100), CLIP's cap."""

CAPTION_LENGTH = 48
"""Tokens of a caption with its start and end; a longer one is cut."""


class ClipLoss(nn.Module):
    """Pictures and captions -> CLIP's loss, differentiable in all weights of the model."""

    def __init__(self, backbone: Backbone, logit_scale: nn.Parameter, precision: Precision):
        super().__init__()
        self.backbone = backbone
        self.logit_scale = logit_scale
        self.precision: Precision = precision

    def forward(self, pixels: Tensor, tokens: Tokens) -> Tensor:
        """The loss of normalized ``[B, 3, size, size]`` and B captions."""
        with autocast(self.precision, self.backbone):
            images = self.backbone.visual_pass(pixels).pooled
            texts = self.backbone.text_features(tokens)
        return self.between(images, texts)

    def between(self, images: Tensor, texts: Tensor) -> Tensor:
        """The loss of features ``[B, d]`` each."""
        return clip(images.float(), texts.float(), self.scale())

    def scale(self) -> Tensor:
        """1 / temperature."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()


class FixedLengthClipLoss(ClipLoss):
    """The same with all captions padded to one length: the same kernels at every step."""

    def forward(self, pixels: Tensor, ids: Tensor, ends: Tensor) -> Tensor:  # type: ignore[override]
        """Ids ``[B, CAPTION_LENGTH]`` and the positions ``[B]`` of the end-of-text tokens."""
        text = self.backbone.text
        assert isinstance(text, TextTower)
        backbone = self.backbone
        recordable = autocast(self.precision, backbone, cache=False)
        with recordable, attention_of_any_length(pixels.device):
            images = backbone.visual_pass(pixels).pooled
            x = text.token_embedding(ids) + text.positional_embedding[: ids.shape[1]]
            texts = text.encode(x, ends)
        return self.between(images, texts)


class RecordedClipLoss:
    """``ClipLoss`` whose forward and backward pass are recorded as CUDA graphs.

    The thousand kernels of a step of a small model take ten times longer to launch than to run.
    """

    def __init__(self, loss: ClipLoss, batch: int):
        """Raises RuntimeError where the pass cannot be recorded."""
        backbone = loss.backbone
        device, size = backbone.device, backbone.preprocess.size
        pixels = torch.zeros(batch, 3, size, size, device=device)
        ids = torch.zeros(batch, CAPTION_LENGTH, dtype=torch.long, device=device)
        fixed = FixedLengthClipLoss(backbone, loss.logit_scale, loss.precision).train()
        self.graphed: Any = torch.cuda.make_graphed_callables(
            fixed, (pixels, ids, torch.zeros_like(ids[:, 0])), allow_unused_input=True
        )

    def __call__(self, pixels: Tensor, tokens: Tokens) -> Tensor:
        """As ``ClipLoss``; the result is valid until the next call."""
        ids = tokens.ids[:, :CAPTION_LENGTH].to(pixels.device, non_blocking=True)
        loss: Tensor = self.graphed(pixels, ids, tokens.ends.to(pixels.device))
        return loss


def fastest(loss: ClipLoss, batch: int) -> ClipLoss | RecordedClipLoss:
    """Recorded on a GPU, if that is possible."""
    if loss.backbone.device.type != "cuda":
        return loss
    try:
        return RecordedClipLoss(loss, batch)
    except RuntimeError as error:
        logger.warning("the step cannot be recorded as a CUDA graph: %s", first_line(error))
        return loss
