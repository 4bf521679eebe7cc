"""``compose``, explanations of every composer, and the options of a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fti_qdrant.composers.registry import composer_names
from fti_qdrant.gallery.points import point_id
from fti_qdrant.search import ComposedSearch

TEXT = "in red"


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("name", composer_names())
def test_compose_gives_the_vector_that_query_searches_with(
    search: ComposedSearch, paths: list[Path], name: str
) -> None:
    made = search.compose(paths[2], TEXT, composer=name, avoid="stripes")
    assert (made.vector.dtype, made.vector.ndim, made.composer) == (np.float32, 1, name)
    assert (abs(np.linalg.norm(made.vector) - 1) < 1e-5) == (name != "raw-sum")
    hits = search.query(paths[2], TEXT, composer=name, avoid="stripes", with_vectors=True)
    for hit in hits:
        assert hit.score == pytest.approx(cosine(made.vector, hit.vector), abs=1e-4)


@pytest.mark.parametrize("name", composer_names())
def test_every_composer_is_explained(search: ComposedSearch, paths: list[Path], name: str) -> None:
    explanation = search.query(paths[2:4], TEXT, composer=name, explain=True).explanation
    assert explanation == search.explain(paths[2:4], TEXT, composer=name)
    assert explanation.composer == name
    assert len(explanation.references) == 2
    composed = search.compose(paths[2:4], TEXT, composer=name)
    parts = {"image": ("image", "raw-sum"), "text": ("text", "raw-sum"), "prompt": ("fti",)}
    for part, composers in parts.items():
        if part in explanation.cosines:
            other = search.compose(paths[2:4], TEXT, composer=composers[0])
            expected = cosine(composed.vector, other.vector)
            assert explanation.cosines[part] == pytest.approx(expected, abs=2e-4)
    if name in ("fti", "pdv"):
        words = [token.words[0][0] for image in explanation.references for token in image]
        assert [piece.split("]")[0] for piece in explanation.prompt_in_words.split("[")[1:]] == (
            words
        )
        assert explanation.prompt_in_words.endswith("but in red")
        assert explanation.prompt.count("*") == len(words)
    if name == "subject":
        first, second = (image.subject.words[0][0] for image in explanation.references)
        assert explanation.prompt_in_words == f"a photo of [{first}] and [{second}] but in red"
    if name == "sum":
        assert set(explanation.cosines) == {"image", "text"}
        assert (explanation.prompt, explanation.prompt_in_words) == (TEXT, TEXT)


def test_weights_and_options_reach_the_composer(search: ComposedSearch, paths: list[Path]) -> None:
    one = search.query(paths[2], TEXT, composer="sum", text_weight=0.3, exclude_reference=False)
    weighted = search.query(
        [paths[2], point_id("7.png")],
        TEXT,
        composer="sum",
        options={"text_weight": 0.3},
        weights=(1.0, 0.0),
        exclude_reference=False,
    )
    assert [hit.id for hit in weighted] == [hit.id for hit in one]
    other = search.query(paths[2], TEXT, composer="sum", text_weight=0.9, exclude_reference=False)
    assert [hit.score for hit in other] != [hit.score for hit in one]


def test_queries_of_different_options_in_one_call(
    search: ComposedSearch, paths: list[Path]
) -> None:
    asked = [
        {"image": paths[2], "text": TEXT, "composer": "sum", "text_weight": weight}
        for weight in (0.1, 0.9, 0.1)
    ]
    asked += [{"image": paths[2:4], "text": TEXT, "weights": weights} for weights in ([1, 3], None)]
    together = search.query_many(asked)
    for query, hits in zip(asked, together):
        assert [(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in search.query(**query)] == [
            (hit.id, hit.score) for hit in hits
        ]


def test_images_alone_may_avoid_something(search: ComposedSearch, paths: list[Path]) -> None:
    hits = search.query(paths[2], avoid="stripes")
    assert hits.composer == "image"
    assert [hit.score for hit in hits] != [hit.score for hit in search.query(paths[2])]
