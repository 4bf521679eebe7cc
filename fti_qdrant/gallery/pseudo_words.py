"""Pseudo-words as a gallery stores them: one ``[1 + topk, t]`` multivector per image."""

from __future__ import annotations

import numpy as np
import torch

from fti_qdrant.model.inverter import PseudoWords


def stacked(words: PseudoWords) -> np.ndarray:
    """Subject first, then all topk attributes: float16 ``[B, 1 + topk, t]``."""
    both = torch.cat([words.subject[:, None], words.attributes], dim=1)
    return both.half().cpu().numpy()


def unstacked(stored: np.ndarray, count: int) -> PseudoWords:
    """One image's ``[1 + topk, t]`` and its r -> pseudo-words of batch 1, in float32."""
    both = torch.from_numpy(stored.astype(np.float32))[None]
    return PseudoWords(both[:, 0], both[:, 1:], torch.tensor([count]))
