"""Floating-point precision of a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from fti_qdrant.model.backbone import Backbone

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""auto is bf16 on a GPU, and on a CPU where the backbone is loaded in it: where the cores multiply
bf16, the model is large enough, and a probe agrees with fp32. Elsewhere it is fp32."""


def autocast(precision: Precision, backbone: Backbone, cache: bool = True) -> torch.autocast:
    """The context that the forward pass runs in. The inverter's weights stay in float32.

    Args:
        cache: keep converted weights until it ends, which a recorded graph must not.
    """
    device = backbone.device.type
    if precision == "auto":
        precision = "bf16" if device == "cuda" or backbone.precision == "bf16" else "fp32"
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device, dtype, enabled=precision != "fp32", cache_enabled=cache)


def backbone_precision(precision: Precision, device: str) -> Literal["fp32", "bf16"] | None:
    """What to load the frozen backbone in; None lets ``Backbone.load`` choose, on a CPU.

    float32 under float16 autocast, as is usual.
    """
    if precision == "auto":
        return "bf16" if device.startswith("cuda") else None
    return "bf16" if precision == "bf16" else "fp32"


def scaler(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Scales the loss for float16, whose gradients would vanish; disabled otherwise."""
    return torch.amp.GradScaler(device, enabled=precision == "fp16")
