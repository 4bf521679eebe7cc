"""Captions of the mini backbone: what they may say, and what they must never have said."""

from __future__ import annotations

import random

import open_clip
import pytest

from fti_qdrant.benchmarks.emoji.edits import UNSEEN_WORDINGS
from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.model.tokens import Vocabulary
from fti_training.mini.captions import Captioner
from fti_training.mini.inverter import split_caption

TRAINED = [emoji for emoji in all_emoji() if not emoji.held_out]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    vocabulary = Vocabulary.of(open_clip.tokenizer.SimpleTokenizer(), 77)
    return Captioner(TRAINED, vocabulary, random.Random(0))


def test_the_same_seed_writes_the_same_captions(captioner: Captioner) -> None:
    written = []
    for _ in range(2):
        captioner.rng.seed("a step")
        written.append([captioner.tokens(emoji) for emoji in TRAINED[::40]])
    assert written[0] == written[1]


def test_an_edit_tells_the_target_by_another_of_its_family(captioner: Captioner) -> None:
    emoji = next(one for one in TRAINED if one.name == "woman firefighter medium skin tone")
    captions = {captioner.caption(emoji) for _ in range(400)}
    message = [caption for caption in captions if " but " in caption]
    assert message
    assert any(caption.endswith("medium skin tone") for caption in message)
    assert any(caption.endswith("woman") for caption in message)


def test_no_caption_holds_an_unseen_wording(captioner: Captioner) -> None:
    phrases = [
        phrase.split("{value}")[0].strip(" ,")
        for choices in UNSEEN_WORDINGS.values()
        for phrase in choices
    ]
    assert "the skin is changed to" in phrases
    assert "has" in phrases
    for emoji in TRAINED:
        caption = f" {captioner.caption(emoji)} "
        assert not any(f" {phrase} " in caption for phrase in phrases), caption


def test_no_caption_speaks_of_a_held_out_combination(captioner: Captioner) -> None:
    assert not any(one.held_out for family in captioner.families.values() for one in family)
    held_out = {emoji.name for emoji in all_emoji() if emoji.held_out}
    trained = {emoji.name for emoji in TRAINED}
    for emoji in TRAINED:
        message = captioner.caption(emoji).removeprefix("a photo of ").split(" but ")[0]
        assert message in trained or message not in held_out


def test_a_caption_splits_where_the_sequence_states_attributes() -> None:
    by_name = {emoji.name: emoji for emoji in all_emoji()}
    split = split_caption(by_name["woman medium skin tone red hair"])
    assert split is not None
    assert (split.subject, split.attributes) == ("woman", "medium skin tone red hair")
    assert split_caption(by_name["cat face"]) is None
