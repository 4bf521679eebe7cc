"""Captions of the mini backbone: what they may say, and what they must never have said."""

from __future__ import annotations

import random

import open_clip
import pytest

from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.benchmarks.emoji.paraphrases import training_wordings, unused_wordings
from fti_qdrant.benchmarks.emoji.wordings import fill, slots_of
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


def test_the_edits_are_in_training_wordings_and_in_nonsense(captioner: Captioner) -> None:
    by_name = {emoji.name: emoji for emoji in TRAINED}
    reference = by_name["woman firefighter light skin tone"]
    target = by_name["woman firefighter dark skin tone"]
    texts = {captioner.wording("tone", reference, target) for _ in range(600)}
    slots = slots_of("tone", reference, target)
    asked = {str(fill(template, slots)) for template in training_wordings()["tone"]}
    assert len(asked & texts) > 20
    assert any(text.endswith("please") for text in texts)
    assert all("dark" in text for text in texts)
    nonsense = [text for text in texts if not any(one in text for one in asked)]
    assert any("dark skin tone" in text and text.split()[0] != "dark" for text in nonsense)


def test_no_caption_holds_an_unused_wording(captioner: Captioner) -> None:
    """Whatever the value and the reference: the words around the value are compared."""
    for reference in TRAINED[::3]:
        for target, changed in captioner._siblings(reference)[:3]:
            if len(changed) != 1 or changed[0] not in reference.facets:
                continue
            slots = slots_of(changed[0], target, reference)
            filled = (fill(one, slots) for one in unused_wordings()[changed[0]])
            unused = {text.rstrip("?") for text in filled if text is not None}
            text = captioner.wording(changed[0], target, reference)
            assert not any(f" {one} " in f" {text} " for one in unused), text


def test_words_are_encoded_as_the_whole_caption(captioner: Captioner) -> None:
    for emoji in TRAINED[::60]:
        caption = captioner.caption(emoji)
        words = [token for word in caption.split() for token in captioner._encode(word)]
        assert words == captioner.vocabulary.encode(caption)


def test_common_words_come_first(captioner: Captioner) -> None:
    first = captioner.words[:400]
    assert {"the", "has", "would"} <= set(first)
    assert not {"dark", "woman", "red", "right"} & set(captioner.words)


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
