"""The three losses of FTI4CIR. Every function takes and returns float tensors, batch first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.2
TRI_WISE_WEIGHT = 1.40


def contrastive(images: Tensor, composed: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE over the 2B normalized vectors [g; f] (FTI4CIR's contrastive loss).

    For each vector its partner is the positive, and the other 2B-1 vectors (itself excluded) are
    the denominator; the mean over 2B.

    Args:
        images: ``g [B, d]``, global image features.
        composed: ``f [B, d]``, features of the training template.
    """
    both = F.normalize(torch.cat([images, composed]), dim=-1)
    scores = both @ both.T / temperature
    scores = scores.masked_fill(torch.eye(len(both), dtype=torch.bool, device=both.device), -1e9)
    batch = len(images)
    partner = torch.arange(2 * batch, device=both.device).roll(batch)
    return F.cross_entropy(scores, partner)


def orthogonality(z: Tensor) -> Tensor:
    """Mean squared error between the cosines of ``z [B, topk, t]`` and the identity.

    Over all topk latent attributes, not only the r that count.
    """
    unit = F.normalize(z, dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    return F.mse_loss(cosines, torch.eye(z.shape[1], device=z.device).expand_as(cosines))


def tri_wise(sentence: Tensor, *prompts: Tensor) -> Tensor:
    """Sum over the prompts of the mean (1 - cosine) to the all-real sentence.

    Args:
        sentence: ``[B, d]``, features of "a photo of {subject} with {attributes}".
        prompts: ``[B, d]`` each: pseudo subject, pseudo attributes, both pseudo.
    """
    losses = [(1 - F.cosine_similarity(prompt, sentence, dim=-1)).mean() for prompt in prompts]
    return torch.stack(losses).sum()


def composed_to_target(
    queries: Tensor, pictures: Tensor, alike: Tensor, temperature: float
) -> Tensor:
    """InfoNCE from composed queries to their target pictures, among all pictures given.

    Args:
        queries: ``[T, d]``.
        pictures: ``[N, d]``, the target of each query first, then others.
        alike: ``[T, N]``, pictures that are right too; they do not count as wrong.

    0 where there is no query.
    """
    if not len(queries):
        return queries.sum()
    scores = F.normalize(queries, dim=-1) @ F.normalize(pictures, dim=-1).T / temperature
    own = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(alike & ~own, -1e9)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def clip(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy over ``[B, d]`` pairs, ``scale`` = 1 / temperature."""
    scores = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    labels = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2
