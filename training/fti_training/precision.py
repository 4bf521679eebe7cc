"""Floating-point precision of a training step."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""auto is bf16 autocast on a GPU and fp32 on a CPU, where bf16 took twice as long without AMX."""


def autocast(precision: Precision, device: str, cache: bool = True) -> torch.autocast:
    """The context that the forward pass runs in.

    Args:
        device: cpu or cuda.
        cache: keep converted weights until it ends, which a recorded graph must not.
    """
    if precision == "auto":
        precision = "bf16" if device == "cuda" else "fp32"
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device, dtype, enabled=precision != "fp32", cache_enabled=cache)


def backbone_precision(precision: Precision, device: str) -> Literal["fp32", "bf16"]:
    """Precision of the frozen backbone's weights; float32 under float16 autocast, as is usual."""
    if precision == "bf16" or (precision == "auto" and device.startswith("cuda")):
        return "bf16"
    return "fp32"


def scaler(precision: Precision, device: str) -> torch.amp.GradScaler:
    """Scales the loss for float16, whose gradients would vanish; disabled otherwise."""
    return torch.amp.GradScaler(device, enabled=precision == "fp16")
