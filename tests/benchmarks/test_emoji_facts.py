"""Unicode sequences -> subjects, facets, families, and the held-out tenth."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti_qdrant.benchmarks.emoji.facts import (
    TONES,
    Emoji,
    all_emoji,
    characters_of,
    key_of,
)

BY_KEY = {emoji.key: emoji for emoji in all_emoji()}


@pytest.mark.parametrize(
    ("characters", "subject", "facets"),
    [
        ("👩🏽‍🚒", "woman firefighter", {"gender": "woman", "tone": "medium skin tone"}),
        ("🧑‍🚀", "astronaut", {"gender": "person"}),
        (
            "👨🏿‍🦰",
            "man",
            {"gender": "man", "tone": "dark skin tone", "hair": "red hair"},
        ),
        (
            "🏃🏻‍♀️‍➡️",
            "woman running",
            {"gender": "woman", "tone": "light skin tone", "direction": "facing right"},
        ),
        ("❤️", "heart", {"color": "red"}),
        ("🟦", "square", {"color": "blue"}),
        ("🕡", "clock face", {"time": "half past six"}),
        ("🐱", "cat face", {}),
    ],
)
def test_a_sequence_states_its_subject_and_facets(
    characters: str, subject: str, facets: dict[str, str]
) -> None:
    emoji = BY_KEY[key_of(characters)]
    assert emoji.subject == subject
    assert emoji.facets == facets


def test_variants_of_one_person_are_one_family() -> None:
    firefighters = {BY_KEY[key_of(one)].family for one in ("🧑‍🚒", "👩‍🚒", "👨🏿‍🚒", "👩🏽‍🚒")}
    assert len(firefighters) == 1
    assert BY_KEY[key_of("👩‍🚀")].family not in firefighters


def test_two_skin_tones_are_nobodys_facet() -> None:
    couple = BY_KEY[key_of("👩🏻‍🤝‍👩🏿")]
    assert "tone" not in couple.facets
    assert couple.is_combination


@given(st.sampled_from(sorted(BY_KEY)))
def test_keys_and_characters_are_two_ways_to_write_one_thing(key: str) -> None:
    assert key_of(characters_of(key)) == key


def test_about_a_tenth_of_the_combinations_is_held_out_and_nothing_else() -> None:
    combined = [emoji for emoji in BY_KEY.values() if emoji.is_combination]
    held_out = [emoji for emoji in BY_KEY.values() if emoji.held_out]
    assert all(emoji.is_combination for emoji in held_out)
    assert 0.08 < len(held_out) / len(combined) < 0.12


@given(st.sampled_from(sorted(BY_KEY)))
def test_what_is_held_out_depends_on_the_sequence_alone(key: str) -> None:
    emoji = BY_KEY[key]
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2], "big")
    renamed = Emoji(key, "x", "x", "x", "x", emoji.facets)
    assert emoji.held_out == renamed.held_out == (emoji.is_combination and number < 6553)


def test_every_single_tone_is_in_words() -> None:
    for emoji in BY_KEY.values():
        tones = {int(point, 16) for point in emoji.key.split("-")} & TONES.keys()
        if len(tones) == 1:
            assert emoji.facets["tone"] == TONES[tones.pop()]
            assert "skin tone" not in emoji.subject
