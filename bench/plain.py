"""The plain implementation: the method written out step by step, slow, with nothing clever.

An independent reference for the tests and the baseline of the benchmarks. Two visual passes, a
loop over the batch and over the latent attributes, the whole context of the text encoder, nothing
cached, nothing grouped. It reads weights out of a Backbone and an Inverter and calls none of
their forward code; open_clip's own transformer blocks do the arithmetic, as in any such script.
It covers open_clip's ViTs with CLIP's own tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter

TOKENIZER = SimpleTokenizer()
START, END = TOKENIZER.sot_token_id, TOKENIZER.eot_token_id

EPSILON, TEMPERATURE, TRI_WISE_WEIGHT = 0.05, 0.2, 1.4


def pixels_of(backbone: Backbone, images: Sequence[Image.Image]) -> Tensor:
    """Pictures -> normalized ``[B, 3, size, size]``."""
    batch = backbone.preprocess.batch(images).float() / 255
    for channel in range(3):
        mean, std = backbone.preprocess.mean[channel], backbone.preprocess.std[channel]
        batch[:, channel] = (batch[:, channel] - mean) / std
    return batch


def global_features(backbone: Backbone, pixels: Tensor) -> Tensor:
    """First visual pass: g ``[B, d]``, open_clip's own ``encode_image``, not normalized."""
    return backbone.visual(pixels)


def visual_tokens(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Second visual pass: p ``[B, 1+P, w]``, the last block's output before the final norm."""
    visual = backbone.visual
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(len(patches), 1, -1)
    x = visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)
    for block in visual.transformer.resblocks:
        x = block(x)
    return x


@dataclass
class Inverted:
    """Subject ``[B, t]``, attributes and z ``[B, topk, t]``, and r of each picture."""

    subject: Tensor
    attributes: Tensor
    z: Tensor
    counts: list[int]

    def words(self, row: int, attributes_only: bool = False) -> Tensor:
        """The used tokens of one picture: its subject, then its r attributes."""
        used = self.attributes[row, : self.counts[row]]
        return used if attributes_only else torch.cat([self.subject[row : row + 1], used])


def invert(inverter: Inverter, g: Tensor, p: Tensor) -> Inverted:
    """The inverter's three stages: latent features, relevance, two MLPs."""
    weights = dict(inverter.named_parameters())
    local = latent_features(weights, len(inverter.blocks), p)
    chosen, counts = [], []
    for row in range(len(g)):
        relevance = relevance_of(weights, local[row], g[row])
        kept, count = select(relevance.tolist(), inverter.epsilon, inverter.topk)
        chosen.append(torch.stack([local[row, k] / local[row, k].norm() for k in kept]))
        counts.append(count)
    z = torch.stack(chosen)
    dropout = inverter.subject_mlp[2].p if inverter.training else 0.0
    subject = mlp(weights, "subject_mlp", g, dropout)
    return Inverted(subject, mlp(weights, "attribute_mlp", z, dropout), z, counts)


def latent_features(weights: dict[str, Tensor], layers: int, p: Tensor) -> Tensor:
    """``[B, K, t]``: the latent queries after the transformer, in 0..1."""
    queries = weights["queries"].expand(len(p), -1, -1)
    x = torch.cat([queries, p], dim=1)
    width = x.shape[-1]
    for layer in range(layers):
        w = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items()}
        h = F.layer_norm(x, (width,), w["norm1.weight"], w["norm1.bias"])
        query = h @ w["to_queries.weight"].T
        key = h @ w["to_keys_values.weight"][:width].T
        value = h @ w["to_keys_values.weight"][width:].T
        attention = (query @ key.transpose(1, 2) / width**0.5).softmax(dim=-1)
        x = x + attention @ value @ w["project.weight"].T + w["project.bias"]
        h = F.layer_norm(x, (width,), w["norm2.weight"], w["norm2.bias"])
        hidden = (h @ w["mlp.0.weight"].T + w["mlp.0.bias"]).clamp(min=0)
        x = x + hidden @ w["mlp.2.weight"].T + w["mlp.2.bias"]
    first = x[:, : queries.shape[1]]
    return 1 / (1 + torch.exp(-(first @ weights["to_local.weight"].T + weights["to_local.bias"])))


def relevance_of(weights: dict[str, Tensor], local: Tensor, g: Tensor) -> Tensor:
    """Softmax over the K latent attributes of one picture of (local feature . g)."""
    if "relevance_map.weight" in weights:
        local = local @ weights["relevance_map.weight"].T + weights["relevance_map.bias"]
    return torch.stack([(local[k] * g).sum() for k in range(len(local))]).softmax(dim=0)


def select(relevance: list[float], epsilon: float, topk: int) -> tuple[list[int], int]:
    """Which latents are kept, in order, and r: r in ascending index, the rest by relevance."""
    count = min(max(sum(value > epsilon for value in relevance), 1), topk)
    by_relevance = sorted(range(len(relevance)), key=lambda k: -relevance[k])
    return sorted(by_relevance[:count]) + by_relevance[count:topk], count


def mlp(weights: dict[str, Tensor], name: str, x: Tensor, dropout: float) -> Tensor:
    """Three linear layers, GELU and dropout between."""
    for layer in (0, 3, 6):
        x = x @ weights[f"{name}.{layer}.weight"].T + weights[f"{name}.{layer}.bias"]
        if layer < 6:
            x = F.dropout(F.gelu(x), dropout, training=dropout > 0)
    return x


@dataclass
class Sentence:
    """One prompt's token ids over the whole context, its end, and where its stars stand."""

    ids: list[int]
    end: int
    stars: list[int]


def sentence(pieces: Sequence[str | int], text: str = "", context: int = 77) -> Sentence:
    """A prompt from pieces (a number n stands for n stars), then a text that gives way."""
    ids, stars = [START], []
    for piece in pieces:
        if isinstance(piece, int):
            stars += range(len(ids), len(ids) + piece)
            ids += [0] * piece
        else:
            ids += TOKENIZER.encode(piece)
    ids += TOKENIZER.encode(text)[: context - len(ids) - 1]
    ids.append(END)
    return Sentence(ids + [0] * (context - len(ids)), len(ids) - 1, stars)


def composed_sentence(counts: Sequence[int], text: str, context: int = 77) -> Sentence:
    """``a photo of * with * * [and * with *] but {text}``, a count for each reference image."""
    pieces: list[str | int] = ["a photo of"]
    for number, count in enumerate(counts):
        pieces += ["and"] * (number > 0) + [1] + ["with", count] * (count > 0)
    return sentence(pieces + ["but"] * bool(TOKENIZER.encode(text)), text, context)


def text_features(
    backbone: Backbone, sentences: Sequence[Sentence], words: Sequence[Tensor | None]
) -> Tensor:
    """CLIP's text encoder over the whole context -> ``[B, d]``, not normalized."""
    text = backbone.text
    device = text.positional_embedding.device
    x = text.token_embedding(torch.tensor([one.ids for one in sentences], device=device))
    for row, (one, tokens) in enumerate(zip(sentences, words)):
        for number, place in enumerate(one.stars):
            x[row, place] = tokens[number].to(x.dtype)
    x = x + text.positional_embedding
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=device).triu(1).to(x.dtype)
    for block in text.transformer.resblocks:
        x = block(x, attn_mask=mask)
    x = text.ln_final(x)
    return torch.stack([x[row, one.end] for row, one in enumerate(sentences)]) @ (
        text.text_projection
    )


@torch.no_grad()
def compose(
    backbone: Backbone, inverter: Inverter, images: Sequence[Image.Image], text: str
) -> Tensor:
    """One composed query of one or more reference pictures -> ``[d]``, normalized."""
    pixels = pixels_of(backbone, images)
    g, p = global_features(backbone, pixels), visual_tokens(backbone, pixels)
    inverted = invert(inverter, g, p)
    words = torch.cat([inverted.words(row) for row in range(len(images))])
    prompt = composed_sentence(inverted.counts, text, backbone.text.context_length)
    vector = text_features(backbone, [prompt], [words])[0]
    return vector / vector.norm()


def contrastive(g: Tensor, f: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE over the 2B vectors [g; f], one vector after the other, in float64."""
    both = torch.cat([g, f]).double()
    both = both / both.norm(dim=1, keepdim=True)
    terms = []
    for i in range(len(both)):
        scores = both @ both[i] / temperature
        others = torch.cat([scores[:i], scores[i + 1 :]])
        terms.append(others.exp().sum().log() - scores[(i + len(g)) % len(both)])
    return torch.stack(terms).mean()


def orthogonality(z: Tensor) -> Tensor:
    """Mean squared difference of each picture's cosine matrix from the identity, in float64."""
    terms = []
    for one in z.double():
        unit = one / one.norm(dim=1, keepdim=True)
        identity = torch.eye(len(one), dtype=torch.float64, device=one.device)
        terms.append(((unit @ unit.T - identity) ** 2).mean())
    return torch.stack(terms).mean()


def one_minus_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the rows, in float64."""
    a, b = a.double(), b.double()
    return (1 - (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))).mean()


def training_step(
    backbone: Backbone,
    inverter: Inverter,
    pixels: Tensor,
    captions: Sequence[tuple[str, str] | None],
    weight: float = TRI_WISE_WEIGHT,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Total, contrastive, orthogonality and tri-wise loss of one batch.

    Args:
        captions: (subject, attributes) of each picture, or None where there is no split.
    """
    context = backbone.text.context_length
    with torch.no_grad():
        g, p = global_features(backbone, pixels), visual_tokens(backbone, pixels)
    inverted = invert(inverter, g, p)
    rows = range(len(pixels))
    template = [composed_sentence([count], "", context) for count in inverted.counts]
    f = text_features(backbone, template, [inverted.words(row) for row in rows])

    split = [(row, caption) for row, caption in enumerate(captions) if caption is not None]
    regularization = torch.zeros((), dtype=torch.float64, device=pixels.device)
    if split:
        some = [row for row, _ in split]
        real = [sentence([], f"a photo of {s} with {a}", context) for _, (s, a) in split]
        subject = [sentence(["a photo of", 1, "with"], a, context) for _, (_, a) in split]
        attributes = [
            sentence(["a photo of", s, "with", inverted.counts[row]], "", context)
            for row, (s, _) in split
        ]
        with torch.no_grad():
            goal = text_features(backbone, real, [None] * len(real))
        pseudo_subject = text_features(backbone, subject, [inverted.subject[[r]] for r in some])
        pseudo_attributes = text_features(
            backbone, attributes, [inverted.words(row, attributes_only=True) for row in some]
        )
        for prompt in (pseudo_subject, pseudo_attributes, f[some]):
            regularization = regularization + one_minus_cosine(prompt, goal)

    parts = (contrastive(g, f), orthogonality(inverted.z), regularization)
    return parts[0] + parts[1] + weight * parts[2], *parts
