"""A search reads, decodes and embeds each reference once, and only where it must."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fti_qdrant import ComposedSearch, Query, references
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery import GalleryPoint, point_id
from fti_qdrant.images import read

TEXT = "in red"


@pytest.fixture
def calls(search: ComposedSearch, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step ran."""
    counted: Counter[str] = Counter()
    backbone, inverter = search.composer.backbone, search.composer.inverter
    steps: dict[str, tuple[Any, str]] = {
        "open": (references, "open_image"),
        "decode": (read, "decode_image"),
        "image tower": (backbone, "visual_pass"),
        "text tower": (backbone, "text_features"),
        "inverter": (inverter, "forward"),
    }
    for name, (owner, attribute) in steps.items():
        original = getattr(owner, attribute)

        def count(*args: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            counted[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, attribute, count)
    return counted


@pytest.mark.parametrize("name", ["image", "sum", "slerp", "text"])
def test_no_inverter_where_none_is_needed(
    search: ComposedSearch, paths: list[Path], calls: Counter[str], name: str
) -> None:
    search.query(paths[2], TEXT, composer=name)
    assert not calls["inverter"]


def test_an_image_alone_runs_no_text_tower(
    search: ComposedSearch, paths: list[Path], calls: Counter[str]
) -> None:
    assert search.query(paths[2]).composer == "image"
    assert search.query(paths[2], TEXT, composer="image").composer == "image"
    assert calls == {"open": 2, "decode": 2, "image tower": 2}


def test_a_text_decodes_no_picture(
    search: ComposedSearch, paths: list[Path], calls: Counter[str]
) -> None:
    """The reference is still left out, by the hash of its bytes."""
    hits = search.query(paths[2], TEXT, composer="text", limit=12)
    assert calls == {"text tower": 1}
    assert point_id("2.png") not in {hit.id for hit in hits}
    assert len(hits) == 11
    with paths[2].open("rb") as file:
        assert [hit.id for hit in search.query(file, TEXT, composer="text", limit=12)] == [
            hit.id for hit in hits
        ]
    with pytest.raises(BadImage, match="no such file"):
        search.query("missing.png", TEXT, composer="text")


def test_unused_inputs_are_named(search: ComposedSearch, paths: list[Path]) -> None:
    by_text = search.query(paths[2], TEXT, composer="text")
    assert by_text.query.warnings == ("composer 'text' does not use the image",)
    by_image = search.query(paths[2], TEXT, composer="image")
    assert by_image.query.warnings == ("composer 'image' does not use the text",)
    assert search.query(paths[2], TEXT).query.warnings == ()


def test_a_batch_runs_each_part_once_and_the_inverter_on_what_needs_it(
    search: ComposedSearch, paths: list[Path], calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inverted: list[int] = []
    inverter = search.composer.inverter
    assert inverter is not None
    counting = inverter.forward

    def forward(features: Any) -> Any:
        inverted.append(len(features))
        return counting(features)

    monkeypatch.setattr(inverter, "forward", forward)
    queries = [
        Query(paths[1], TEXT, composer="sum"),
        Query(paths[2], TEXT),
        Query(paths[1], "smaller", composer="slerp"),
        Query(paths[3]),
        Query([paths[4], paths[2]], TEXT, composer="subject"),
    ]
    together = search.query_many(queries)
    assert inverted == [2]
    assert (calls["open"], calls["image tower"], calls["inverter"]) == (4, 1, 1)
    for query, hits in zip(queries, together):
        alone = search.query_many([query])[0]
        assert {hit.id: hit.score for hit in alone} == pytest.approx(
            {hit.id: hit.score for hit in hits}, abs=1e-5
        )


def test_explaining_a_query_reads_and_embeds_nothing_twice(
    search: ComposedSearch, paths: list[Path], points: list[GalleryPoint], calls: Counter[str]
) -> None:
    hits = search.query(paths[2:4], TEXT, explain=True)
    assert (calls["open"], calls["image tower"], calls["inverter"]) == (2, 1, 1)
    assert len(hits.explanations) == 2
    for path, explanation in zip(paths[2:4], hits.explanations):
        alone = search.explain(path)
        for token, other in zip(explanation, alone):
            assert dict(token.words) == pytest.approx(dict(other.words), abs=1e-4)
    assert search.query(paths[2], TEXT).explanations == ()
    stored = search.query(points[2].id, TEXT, explain=True)
    assert [token.token for token in stored.explanations[0]] == [
        token.token for token in hits.explanations[0]
    ]


@pytest.mark.parametrize("name", ["image", "sum", "text"])
def test_any_composer_can_be_explained(
    search: ComposedSearch, paths: list[Path], name: str
) -> None:
    hits = search.query(paths[2], TEXT, composer=name, explain=True)
    plain = search.query(paths[2], TEXT, composer=name)
    assert [hit.id for hit in hits] == [hit.id for hit in plain]
    assert hits.explanations[0].subject == search.explain(paths[2]).subject
