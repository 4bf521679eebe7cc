"""The image tower of an open_clip model: what it gives beside the image feature, and its pass."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from timm.utils import reparameterize_model
from torch import Tensor, nn

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.images import Preprocess
from fti_qdrant.model.features import ImageFeatures


def token_width(visual: nn.Module) -> int | None:
    """``w``, the width of the patch tokens of a ViT; None for a tower that has no patch tokens."""
    if isinstance(visual, VisionTransformer):
        return int(visual.conv1.out_channels)
    trunk: Any = getattr(visual, "trunk", None)
    if all(hasattr(trunk, part) for part in ("blocks", "patch_embed", "num_prefix_tokens")):
        return int(trunk.embed_dim)
    return None


def tower_kind(visual: nn.Module) -> str:
    """The class of the tower, for messages; timm's towers are inside open_clip's wrapper."""
    return type(getattr(visual, "trunk", visual)).__name__


def check_visual(visual: nn.Module, name: str) -> int:
    """Returns the visual width ``w``. Raises UnsupportedModel unless the tower is a ViT."""
    width = token_width(visual)
    if width is None:
        raise UnsupportedModel(
            f"{name!r} has a {tower_kind(visual)} as its image tower; textual inversion needs the "
            "patch tokens of a ViT, so choose a ViT such as ViT-B-32/laion2b_s34b_b79k"
        )
    return width


def for_inference(visual: nn.Module) -> nn.Module:
    """The same tower, with the branches joined that it has for training only.

    MobileCLIP's towers are trained with parallel convolutions and batch norms that add up to one
    convolution. Towers without such branches are returned as they are, and not copied.
    """
    branched = ("reparameterize", "fuse", "switch_to_deploy")
    if any(hasattr(part, name) for part in visual.modules() for name in branched):
        return reparameterize_model(visual.eval())
    return visual


def preprocess_of(visual: Any) -> Preprocess:
    """``squash`` where the model's own configuration says so, else FTI4CIR's ``target-pad``.

    ``center-crop`` and ``squash`` by ``Preprocess.by`` are then open_clip's own transforms.

    Raises UnsupportedModel for a tower whose input is not square.
    """
    config = visual.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UnsupportedModel(f"input of {height} x {width} pixels; only square inputs work")
    return Preprocess(
        int(height),
        three(config["mean"]),
        three(config["std"]),
        "squash" if config.get("resize_mode") == "squash" else "target-pad",
        "bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
    )


def three(values: Any) -> tuple[float, float, float]:
    """One value for each channel, from three or from one for all."""
    red, green, blue = values if isinstance(values, (list, tuple)) else (values,) * 3
    return float(red), float(green), float(blue)


def visual_pass(visual: Any, normalized: Tensor, *, tokens: bool) -> ImageFeatures:
    """Normalized ``[B, 3, size, size]`` -> features in the tower's own dtype.

    Args:
        tokens: whether the tower has patch tokens. The same pass then yields them; the official
            code of FTI4CIR runs the visual tower twice.
    """
    if not tokens:
        out = visual(normalized)  # CoCa's towers give their tokens beside the feature
        return ImageFeatures(out[0] if isinstance(out, tuple) else out)
    out = visual.forward_intermediates(
        normalized, indices=1, output_fmt="NLC", output_extra_tokens=True
    )
    last = out["image_intermediates"][-1]
    prefix = out.get("image_intermediates_prefix")
    if prefix:
        last = torch.cat([prefix[-1], last], dim=1)
    return ImageFeatures(out["image_features"], last)
