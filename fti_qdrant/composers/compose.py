"""Requests -> query vectors: features in one pass of the text tower, then each composer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fti_qdrant.composers.description import PROMPTS, ComposerInputs, Need, unit
from fti_qdrant.composers.inputs import Composed, ComposeRequest, References
from fti_qdrant.composers.text_pass import EncodedTexts, TextPass
from fti_qdrant.errors import BadQuery
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.model.prompts import PHOTO_OF

AVOID_STEP = 0.5
"""How far a query moves away from what it should avoid; `python bench/composer_options.py`."""

Rows = list[list[int]]
"""For each query, its rows in a text pass: one, or one for each weighted image."""


@dataclass(frozen=True)
class Plan:
    """Where a request's texts are in the text pass."""

    rows: dict[Need, Rows]
    avoid: dict[int, int]
    neutral: int | None


def compose_all(requests: Sequence[ComposeRequest], backbone: Backbone) -> list[Composed]:
    """Composes all requests: one pass through the text tower, whatever their composers.

    Raises:
        BadQuery: a composer lacks images or pseudo-words, or returns vectors of another shape.
        PromptTooLong: more pseudo-words in one query than the context holds.
    """
    texts = TextPass(backbone)
    plans = [_plan(request, texts) for request in requests]
    encoded = texts.run() if texts.lines else None
    return [_composed(request, plan, encoded) for request, plan in zip(requests, plans)]


def _plan(request: ComposeRequest, texts: TextPass) -> Plan:
    """Adds what the request needs to the text pass."""
    rows: dict[Need, Rows] = {}
    for need in request.composer.needs:
        if need in ("text", "raw_text"):
            rows[need] = [[texts.text(text)] for text in request.texts]
        elif need in PROMPTS:
            rows[need] = _prompt_rows(need, request, texts)
    avoid = {
        query: texts.text(f"{PHOTO_OF} {text}") for query, text in enumerate(request.avoid) if text
    }
    return Plan(rows, avoid, texts.text(PHOTO_OF) if avoid else None)


def _prompt_rows(need: Need, request: ComposeRequest, texts: TextPass) -> Rows:
    """One prompt for each query; with weights, one for each of its images."""
    references = _references_of(request)
    words = references.words
    if words is None:
        raise BadQuery(
            f"composer {request.composer.name!r} needs pseudo-words, and the references have none; "
            "make them with Composer.references(..., invert=True)"
        )
    if need == "subject_prompt":
        words = replace(words, counts=torch.zeros_like(words.counts))
    sent = [""] * len(request.texts) if need == "bare_prompt" else request.texts
    images = _words_by_image(words)
    rows: Rows = []
    start = 0
    for size, text in zip(references.sizes, sent):
        own = images[start : start + size]
        groups = [own] if references.weights is None else [[one] for one in own]
        rows.append(
            [
                texts.prompt([len(one) - 1 for one in group], torch.cat(group), text)
                for group in groups
            ]
        )
        start += size
    return rows


def _words_by_image(words: PseudoWords) -> list[Tensor]:
    """``[1 + r, t]`` of each image."""
    return list(words.used().split([1 + count for count in words.counts.tolist()]))


def _composed(request: ComposeRequest, plan: Plan, encoded: EncodedTexts | None) -> Composed:
    inputs = _inputs(request, plan, encoded)
    made = request.composer.function(inputs, request.options)
    vectors = _checked(made, request).float()
    if request.composer.unit:
        vectors = unit(vectors)
    count = len(request.texts)
    if encoded is None:
        return Composed(vectors, (False,) * count, inputs, ((),) * count, None)
    vectors = _moved_away(vectors, plan, encoded)
    first: Rows = next(iter(plan.rows.values()), [[]] * count)
    return Composed(vectors, _truncated(request, plan, encoded), inputs, first, encoded)


def _truncated(request: ComposeRequest, plan: Plan, encoded: EncodedTexts) -> tuple[bool, ...]:
    """For each query, whether one of its texts was cut."""
    truncated = []
    for query, avoid in enumerate(request.avoid):
        rows = [row for lines in plan.rows.values() for row in lines[query]]
        checked = [*rows, plan.avoid[query]] if avoid else rows
        truncated.append(any(encoded.truncated[row] for row in checked))
    return tuple(truncated)


def _inputs(request: ComposeRequest, plan: Plan, encoded: EncodedTexts | None) -> ComposerInputs:
    features: dict[str, Tensor] = {}
    for need in request.composer.needs:
        if need == "image":
            references = _references_of(request)
            features[need] = unit(references.mean(unit(references.pooled.float())))
        elif need == "raw_image":
            references = _references_of(request)
            features[need] = references.mean(references.pooled.float())
        elif encoded is not None:
            features[need] = _encoded(need, request, plan.rows[need], encoded)
    return ComposerInputs(features)


def _encoded(need: Need, request: ComposeRequest, rows: Rows, encoded: EncodedTexts) -> Tensor:
    """``[B, d]``, of unit length except for ``raw_text``."""
    found = encoded.features[[row for query in rows for row in query]]
    if need == "raw_text":
        return found
    if need == "text" or request.references is None or request.references.weights is None:
        return unit(found)
    return unit(request.references.mean(unit(found)))


def _moved_away(vectors: Tensor, plan: Plan, encoded: EncodedTexts) -> Tensor:
    """Moves the queries that avoid something against its direction; keeps their lengths.

    ``q - AVOID_STEP (E("a photo of {avoid}") - E("a photo of"))`` of unit vectors. The difference
    leaves out what all texts have in common, which no picture should lose.
    """
    if not plan.avoid or plan.neutral is None:
        return vectors
    queries, rows = list(plan.avoid), list(plan.avoid.values())
    direction = unit(encoded.features[rows]) - unit(encoded.features[[plan.neutral]])
    lengths = vectors[queries].norm(dim=-1, keepdim=True)
    moved = vectors.clone()
    moved[queries] = unit(unit(vectors[queries]) - AVOID_STEP * direction) * lengths
    return moved


def _references_of(request: ComposeRequest) -> References:
    if request.references is None:
        name = request.composer.name
        raise BadQuery(f"composer {name!r} needs a reference image for each text")
    return request.references


def _checked(made: object, request: ComposeRequest) -> Tensor:
    """Raises BadQuery where a composer's function does not return what it should."""
    name = request.composer.name
    if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != len(request.texts):
        shape = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise BadQuery(
            f"composer {name!r} returned {shape} for {len(request.texts)} queries; it must return "
            "a tensor [B, d]"
        )
    if not bool(made.isfinite().all()):
        raise BadQuery(f"composer {name!r} returned a vector that is not finite")
    return made
