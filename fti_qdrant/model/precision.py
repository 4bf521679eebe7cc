"""The numeric precision of a backbone, and whether bf16 is near enough to fp32 on a CPU."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model import cpu
from fti_qdrant.model.device import best_device

if TYPE_CHECKING:
    from fti_qdrant.model.backbone import Backbone

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MIN_COSINE = 0.9999
"""Least cosine of a feature in bf16 with the same in fp32; else a CPU keeps fp32."""

MIN_PARAMETERS = 20_000_000
"""Smaller models are no faster in bf16: what is around their matrix products takes the time."""

TEXTS = ("a photo of a dog", "a red dress with long sleeves")


def check_precision(precision: str) -> None:
    """Raises UnsupportedModel for an unknown precision."""
    if precision not in DTYPES:
        raise UnsupportedModel(f"unknown precision {precision!r}; use one of {list(DTYPES)}")


def default_precision(device: str) -> str:
    """What a backbone is loaded in where none is asked for; see ``use_bf16_if_exact``."""
    return "fp16" if device.startswith("cuda") else "fp32"


def exact_precision(device: str | None) -> str | None:
    """For figures that are compared to the last digit: fp32 on a CPU, elsewhere the default."""
    return "fp32" if (device or best_device()).startswith("cpu") else None


def warn_if_slow(precision: str, device: str) -> None:
    """Logs a warning for bf16 on a CPU whose cores do not multiply it."""
    if precision == "bf16" and device.startswith("cpu") and not cpu.has_bf16():
        logger.warning(
            "bf16 was asked for, and this CPU has neither AVX512-BF16 nor AMX: it is slower than "
            "fp32 here, and less exact; leave out the precision"
        )


def bf16_pays(backbone: Backbone) -> bool:
    """Whether bf16 is faster: on a CPU that multiplies it, for a model that is large enough."""
    size = sum(parameter.numel() for parameter in backbone.parameters())
    return backbone.device.type == "cpu" and size >= MIN_PARAMETERS and cpu.has_bf16()


def use_bf16_if_exact(backbone: Backbone) -> None:
    """Converts a backbone in fp32 to bf16 where that is faster and hardly changes its features.

    Checked on a probe, as some models have activations that bf16 cannot hold.
    """
    if not bf16_pays(backbone):
        return
    exact, weights = probe(backbone), backbone.state_dict()
    backbone.convert("bf16")
    cosine = least_cosine(exact, probe(backbone))
    logger.info("bf16: cosine to fp32 is %.5f on a probe", cosine)
    if cosine < MIN_COSINE:
        backbone.convert("fp32")
        backbone.load_state_dict(weights, assign=True)


@torch.inference_mode()
def probe(backbone: Backbone) -> Tensor:
    """``[4, d]``, unit length: features of two pictures of colored patches, and of two texts."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, 3, 7, 7, generator=generator)
    side = backbone.preprocess.size
    pictures = F.interpolate(patches, (side, side), mode="bilinear").mul(255).to(torch.uint8)
    images = F.normalize(backbone.pixel_features(pictures).pooled, dim=-1)
    return torch.cat([images, backbone.texts(TEXTS)])


def least_cosine(exact: Tensor, other: Tensor) -> float:
    """The least cosine of two matrices of unit rows; -1 where a value is not finite."""
    cosines = (exact * other).sum(dim=-1)
    return float(cosines.min()) if cosines.isfinite().all() else -1.0
