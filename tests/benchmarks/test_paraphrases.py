"""The paraphrases of the emoji edits: how many, how they are filled in, and how they are split."""

from __future__ import annotations

import random

import pytest

from fti_qdrant.benchmarks.emoji.edits import (
    KNOWN_WORDINGS,
    PARAPHRASES,
    UNSEEN_WORDINGS,
    Edit,
    edits,
)
from fti_qdrant.benchmarks.emoji.facts import FACETS, all_emoji
from fti_qdrant.benchmarks.emoji.paraphrases import (
    paraphrases,
    training_wordings,
    unused_wordings,
)
from fti_qdrant.benchmarks.emoji.wordings import fill, slots_of, structure
from fti_training.mini.captions import EXTRA_WORDINGS


@pytest.fixture(scope="module")
def every_edit() -> list[Edit]:
    return list(edits(all_emoji()))


def pair(reference: str, target: str) -> Edit:
    names = {emoji.name: emoji for emoji in all_emoji()}
    found = edits([names[reference], names[target]])
    return next(edit for edit in found if edit.target.name == target)


@pytest.mark.parametrize("facet", FACETS)
def test_each_facet_has_forty_wordings_and_half_are_unused(facet: str) -> None:
    both = paraphrases()[facet]
    assert len({*both.training, *both.unused}) == len(both.training) + len(both.unused) >= 40
    assert min(len(both.training), len(both.unused)) >= 20
    structures = {structure(template) for template in both.unused}
    assert len(structures) >= 20


def test_no_unused_structure_occurs_in_training() -> None:
    halves = (training_wordings(), KNOWN_WORDINGS, EXTRA_WORDINGS)
    trained = {
        structure(template): template
        for wordings in halves
        for templates in wordings.values()
        for template in templates
    }
    for templates in unused_wordings().values():
        for template in templates:
            found = f" {structure(template)} "
            within = [text for one, text in trained.items() if found in f" {one} "]
            assert not within, (template, within)


def test_the_wordings_that_were_unseen_before_are_unused_ones() -> None:
    for facet, templates in UNSEEN_WORDINGS.items():
        assert set(templates) <= set(unused_wordings()[facet])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("make it a {value}", "please, make the person a {value}!"),
        ("make the skin {short}", "now make {their} hair {short}"),
        ("what about {value}?", "but what about the same {spoken}"),
        ("with {value}", "the same but with {spoken} this time"),
    ],
)
def test_other_values_names_and_fillers_are_the_same_structure(one: str, other: str) -> None:
    assert structure(one) == structure(other)


def test_another_verb_or_order_is_another_structure() -> None:
    texts = ("make it {value}", "turn it {value}", "{value} it is", "not {old}, {value}", "{value}")
    assert len({structure(text) for text in texts}) == len(texts)


def test_the_slots_are_what_people_say() -> None:
    tone = pair("woman firefighter light skin tone", "woman firefighter dark skin tone")
    slots = slots_of(tone.facet, tone.reference, tone.target)
    wanted = {
        "make {their} skin {short}, not {old_short}": "make her skin dark, not light",
        "give {them} {spoken}": "give her dark skin",
        "could {they} have {value} rather than {old}?": (
            "could she have dark skin tone rather than light skin tone?"
        ),
    }
    for template, text in wanted.items():
        assert fill(template, slots) == text
    heart = pair("red heart", "orange heart")
    assert "give it an orange color" in heart.all_wordings(training_wordings())


def test_a_wording_that_an_edit_cannot_fill_is_left_out() -> None:
    bald = pair("man red hair", "man bald")
    assert not any("{" in text for text in bald.all_wordings(unused_wordings()))
    assert "looking for a bald head" in bald.all_wordings(unused_wordings())
    assert all("the hair becomes" not in text for text in bald.all_wordings(unused_wordings()))
    plain = pair("waving hand", "waving hand dark skin tone")
    assert "tone" not in plain.reference.facets
    assert all("from " not in text for text in plain.all_wordings(unused_wordings()))


def test_every_edit_has_enough_wordings_and_each_names_the_answer(every_edit: list[Edit]) -> None:
    for edit in random.Random(0).sample(every_edit, 400):
        texts = edit.some_wordings(unused_wordings(), PARAPHRASES)
        assert len(set(texts)) == PARAPHRASES
        assert texts == edit.some_wordings(unused_wordings(), PARAPHRASES)
        word = edit.value.split()[0] if edit.facet != "direction" else "right"
        assert all(word in text for text in texts)


def test_all_wordings_are_asked(every_edit: list[Edit]) -> None:
    tones = [edit for edit in every_edit if edit.facet == "tone" and edit.target.held_out]
    texts = {text for edit in tones for text in edit.some_wordings(unused_wordings(), PARAPHRASES)}
    slots = [slots_of(edit.facet, edit.reference, edit.target) for edit in tones]
    for template in unused_wordings()["tone"]:
        assert any(fill(template, one) in texts for one in slots), template
