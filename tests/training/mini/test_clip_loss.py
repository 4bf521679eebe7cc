"""The loss of the mini backbone: padded to one length, it is what it is in groups of lengths."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from fti_training.mini.backbone import fresh_clip, wrap
from fti_training.mini.clip_loss import CAPTION_LENGTH, ClipLoss, FixedLengthClipLoss, fastest
from fti_training.mini.config import MiniConfig

SMALL = MiniConfig(width=64, visual_layers=1, text_layers=2)
CAPTIONS = ["a dog", "a photo of a cat but now with red hair, not white", "x", "half past six"] * 20


def gradients(loss: torch.Tensor, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_both_losses_and_their_gradients_agree_with_open_clip() -> None:
    model = fresh_clip(SMALL)
    backbone = wrap(model)
    model.requires_grad_(True)
    scale = model.get_parameter("logit_scale")
    ours, fixed = (kind(backbone, scale, "fp32") for kind in (ClipLoss, FixedLengthClipLoss))
    tokens = backbone.tokenize(CAPTIONS)
    pixels = torch.randn(len(CAPTIONS), 3, 64, 64)
    ids = tokens.ids[:, :CAPTION_LENGTH]
    plain = copy.deepcopy(model)
    images = F.normalize(plain.encode_image(pixels), dim=-1)
    texts = F.normalize(plain.encode_text(tokens.ids), dim=-1)
    scores = plain.logit_scale.exp() * images @ texts.T
    rows = torch.arange(len(scores))
    expected = (F.cross_entropy(scores, rows) + F.cross_entropy(scores.T, rows)) / 2
    wanted = gradients(expected, plain)
    for loss in (ours(pixels, tokens), fixed(pixels, ids, tokens.ends)):
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        found = gradients(loss, model)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_without_a_gpu_nothing_is_recorded() -> None:
    model = fresh_clip(SMALL)
    loss = ClipLoss(wrap(model), model.get_parameter("logit_scale"), "fp32")
    assert fastest(loss, 8) is loss
