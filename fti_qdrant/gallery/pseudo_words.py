"""Pseudo-words as a gallery stores them: one ``[1 + topk, t]`` multivector per image."""

from __future__ import annotations

import numpy as np
import torch

from fti_qdrant.model.inverter import PseudoWords


def stacked(words: PseudoWords) -> np.ndarray:
    """Subject first, then all topk attributes: float16 ``[B, 1 + topk, t]``."""
    both = torch.cat([words.subject[:, None], words.attributes], dim=1)
    return both.half().cpu().numpy()


def used_rows(stacked: np.ndarray, count: int) -> np.ndarray:
    """One image's ``[1 + topk, t]`` -> ``[1 + r, t]``: the rows that count.

    Their number then says r, so that nothing has to be written into the image's payload.
    """
    return stacked[: 1 + count]


def unstacked(stored: np.ndarray, count: int | None = None, topk: int | None = None) -> PseudoWords:
    """One image's stored pseudo-words -> those of batch 1, in float32.

    Args:
        stored: ``[1 + topk, t]``, or ``[1 + r, t]`` by ``used_rows``.
        count: r; None where the rows say it.
        topk: attributes of the result; None for those that are stored.
    """
    used = len(stored) - 1 if count is None else int(count)
    filled = np.zeros((1 + (topk or len(stored) - 1), stored.shape[1]), np.float32)
    filled[: len(stored)] = stored
    both = torch.from_numpy(filled)[None]
    return PseudoWords(both[:, 0], both[:, 1:], torch.tensor([used]))
