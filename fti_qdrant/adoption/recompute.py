"""The vectors that a model makes of sampled pictures, compared with those that are stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fti_qdrant.adoption.point_sample import PictureSample
from fti_qdrant.model.backbone import Backbone

Pixels = Callable[[Image.Image], np.ndarray]
"""An RGB picture -> uint8 ``[3, size, size]``, as ``Preprocess.pixels``."""

BATCH = 32


@torch.no_grad()
def median_cosine(backbone: Backbone, sample: PictureSample, pixels: Pixels | None = None) -> float:
    """The median cosine of the model's vectors and the stored ones.

    Args:
        sample: of at least one picture.
        pixels: another way to prepare the pictures than the backbone's own.
    """
    prepare = pixels or backbone.preprocess.pixels
    vectors = []
    for start in range(0, len(sample.pictures), BATCH):
        batch = [one.prepared(prepare) for one in sample.pictures[start : start + BATCH]]
        # not by pixel_features, whose recordings on a GPU would not notice another activation
        given = torch.from_numpy(np.stack(batch)).to(backbone.device)
        normalized = backbone.preprocess.normalize(given).to(backbone.dtype)
        vectors.append(backbone.visual_pass(normalized).pooled.float().cpu())
    found = F.normalize(torch.cat(vectors), dim=-1).numpy()
    return float(np.median((found * sample.vectors).sum(axis=1)))
