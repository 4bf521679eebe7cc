"""Composed queries that Unicode answers, and the gallery they search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fti_qdrant.benchmarks.emoji.artwork import drawings
from fti_qdrant.benchmarks.emoji.edits import (
    KNOWN_WORDINGS,
    UNSEEN_WORDINGS,
    Edit,
    Wordings,
    edits,
)
from fti_qdrant.benchmarks.emoji.facts import FACETS, all_emoji
from fti_qdrant.benchmarks.emoji.gallery import payload, write_gallery
from fti_qdrant.benchmarks.emoji.showcase import SHOWCASES


@pytest.fixture(scope="module")
def every_edit() -> list[Edit]:
    drawn = drawings("twemoji")
    return list(edits(emoji for emoji in all_emoji() if emoji.key in drawn))


def test_an_edit_changes_exactly_one_facet(every_edit: list[Edit]) -> None:
    assert len(every_edit) > 10_000
    for edit in every_edit:
        assert edit.reference.family == edit.target.family
        changed = [
            facet
            for facet in FACETS
            if edit.reference.facets.get(facet) != edit.target.facets.get(facet)
        ]
        assert changed == [edit.facet]


def test_every_query_has_one_right_answer(every_edit: list[Edit]) -> None:
    asked = {(edit.reference.key, edit.facet, edit.value): edit.target.key for edit in every_edit}
    assert len(asked) == len(every_edit)


@pytest.mark.parametrize("wordings", [KNOWN_WORDINGS, UNSEEN_WORDINGS])
def test_a_wording_names_the_new_value(every_edit: list[Edit], wordings: Wordings) -> None:
    for edit in every_edit[::50]:
        assert edit.value in edit.wording(wordings)
        assert edit.wording(wordings) == edit.wording(wordings)


def test_known_and_unseen_wordings_have_no_phrase_in_common() -> None:
    for facet, phrases in UNSEEN_WORDINGS.items():
        assert not set(phrases) & set(KNOWN_WORDINGS[facet])


def test_the_showcases_are_edits_that_pass_their_filters(every_edit: list[Edit]) -> None:
    pairs = {(edit.reference.key, edit.target.key): edit for edit in every_edit}
    for one in SHOWCASES:
        edit = pairs[one.reference, one.answer]
        assert edit.value.split()[-1] in one.text
        fields = payload(edit.target)
        for key, condition in one.filter.items():
            if isinstance(condition, str):
                assert fields[key] == condition
            elif isinstance(condition, list):
                assert fields[key] in condition


def test_the_gallery_is_a_folder_with_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(drawings("twemoji").items())[:12])
    monkeypatch.setattr("fti_qdrant.benchmarks.emoji.gallery.drawings", lambda artwork: few)
    manifest = write_gallery(tmp_path)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert {Path(row["image"]).stem for row in rows} == set(few)
    for row in rows:
        with Image.open(tmp_path / row["image"]) as picture:
            assert picture.size == (128, 128)
    first = tmp_path / rows[0]["image"]
    stamp = first.stat().st_mtime_ns
    write_gallery(tmp_path)
    assert first.stat().st_mtime_ns == stamp
