"""Explanations: what pseudo-words are near to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti_qdrant import ComposedSearch
from fti_qdrant.gallery import GalleryPoint

WORDS = {"cat", "dog", "house", "tree", "car", "red", "blue", "green"}
"""In the model's words.txt."""


def test_explain(search: ComposedSearch, points: list[GalleryPoint], paths: list[Path]) -> None:
    explanation = search.explain(paths[2], words=3)
    tokens = list(explanation)
    assert len(tokens) == 1 + points[2].payload["_fti"]["r"]
    assert [token.token for token in tokens[:2]] == ["subject", "attribute 1"]
    for token in tokens:
        assert len(token.words) == 3
        assert {word for word, _ in token.words} <= WORDS
        found = [cosine for _, cosine in token.words]
        assert found == sorted(found, reverse=True)
        assert all(-1 <= cosine <= 1 for cosine in found)
    stored = search.explain(points[2].id, words=3)
    for token, other in zip(tokens, stored):
        assert dict(token.words) == pytest.approx(dict(other.words), abs=2e-3)
    assert len(search.explain(paths[2], words=99).subject.words) == len(WORDS)
