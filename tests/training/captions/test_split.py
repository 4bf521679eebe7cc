"""Where captions are split, by both taggers, and what is cut off their ends."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti_qdrant.errors import FtiError
from fti_training.captions.split import (
    RULES_NAME,
    Splitter,
    choose_splitter,
    cut_repeated_end,
    rule_splitter,
)
from fti_training.split_caption import SplitCaption

EXPECTED = """
a woman | in a red dress standing on a beach
a tennis player | holding a racket on a court
a small brown dog | sitting on a couch
two men | riding horses on the beach
two men | ride horses on the beach
a dog | runs along the beach with a stick
a surfer | rides a large wave in the ocean
three giraffes | eat leaves from a tall tree
a smiling boy | with a baseball bat
a group of smiling children | sitting on the grass
a group of young men | playing a game of soccer
a herd of sheep | grazing on a lush green field
a bunch of bananas | hanging from a tree
a glass of wine | sitting next to a plate
the front of a building | with a clock on it
a statue of a man | on a horse in a park
an aerial view of a city | with tall buildings
a black and white photo of a man | on a bench
a black and white dog | running through grass
a red, white and blue flag | flying in the wind
a double-decker bus | driving down the street
a blue t-shirt | with a white logo on the front
a boeing 747 | parked at an airport gate
2 elephants | walking in a line near water
a man's hand | holding a cell phone
the man's red car | is parked in a garage
men's short sleeve polo shirt | in navy
a living room | filled with furniture and a tv
a dining room table | with chairs and a vase
a wooden cutting board | with a knife on it
a pick up truck | parked in a lot
an old brick building | with a large clock tower
a building | painted with bright colors and murals
a man | painting a picture on a wall
a brightly colored bird | sitting on a branch
a very tall giraffe | standing next to a tree
a snow covered mountain | with a lake in front
a stuffed animal | sitting on top of a bed
a bowl | full of fruit on a table
a cat | and a dog laying on a bed
several boats | docked in a harbor near houses
someone | is holding a hot dog in their hand
people | walking down a street with umbrellas
long sleeved floral print dress | with belt
"""

OPENED = """
there is a cat that is laying on a bed | a cat | that is laying on a bed
there are many types of food on the table | many types of food | on the table
a close up of a red and white bus on a street | a red and white bus | on a street
a close up view of a bird on a branch | a bird | on a branch
this is a picture of a fire hydrant on a sidewalk | a fire hydrant | on a sidewalk
A picture of a Dog, asleep on the sofa. | a Dog | asleep on the sofa
"""

CASES = [
    (f"{subject} {attributes}", subject, attributes)
    for subject, attributes in (line.split(" | ") for line in EXPECTED.strip().splitlines())
] + [tuple(line.split(" | ")) for line in OPENED.strip().splitlines()]

WITHOUT = [
    "a black cat",  # three words
    "a large brown cat",  # nothing follows
    "a large brown cat .",
    "sitting on a bench in the park",
    "riding a horse on the beach",
    "in the park on a bench",
    "on and of the with",
    "",
    "? ! , . - -",
]

LEADS = [
    *("🔥 ", "🔥🔥 ", "👗", "👩🏽‍🚒 ", "❤️ ", "🇫🇷 ", "1️⃣ ", "#️⃣ ", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 ", "☀ ", "★ ", "➡️ "),
    *("“", "‘", "«", "« ", "„", "「", "『", "《", "‹", '"', "'", "``", "‚", "(", "[", "【"),
    *(
        "- ",
        "– ",
        "— ",
        "• ",
        "· ",
        "* ",
        "> ",
        "… ",
        "... ",
        "# ",
        "§ ",
        "¿",
        "¡",
        "~ ",
        "| ",
        "_",
    ),
    *(
        "1. ",
        "12) ",
        "① ",
        "❶ ",
        "$ ",
        "\ufeff",
        "\u200b",
        "\u200e",
        "\u00a0",
        " \t",
        "。",
        "؟ ",
        "।",
    ),
    *("🔥 “", "- 👗 «", "“ 1. ", "\ufeff• "),
]
"""What a caption may begin with before its first word."""


@pytest.mark.parametrize("lead", LEADS)
def test_what_stands_before_the_first_word_does_not_matter(lead: str) -> None:
    expected = SplitCaption("a woman", "in a red dress standing on a beach")
    assert rules(f"{lead}a woman in a red dress standing on a beach") == expected
    assert rules(f"{lead}a photo of {lead}a woman in a red dress standing on a beach") == expected
    assert rules(f"{lead}there is a woman in a red dress standing on a beach") == expected


@given(lead=st.text(st.characters(categories=["P", "S", "Z", "Mn", "Cf", "Cc"]), max_size=6))
def test_any_marks_and_symbols_before_the_first_word(lead: str) -> None:
    split = rules(f"{lead} two small brown dogs sitting on a couch")
    assert split == SplitCaption("two small brown dogs", "sitting on a couch")


@pytest.mark.parametrize(
    ("caption", "subject", "attributes"),
    [
        ("“a woman in a red dress”", "a woman", "in a red dress"),
        ("«a woman» in a red dress", "a woman", "in a red dress"),
        ("a woman in a red dress 🔥🔥", "a woman", "in a red dress"),
        ("a woman in a red dress ❤️", "a woman", "in a red dress"),
        ("a woman 👗 in a red dress", "a woman", "in a red dress"),
        ("a 🔥 red dress with a belt", "a 🔥 red dress", "with a belt"),
        ("a ‘red’ dress with a belt", "a ‘red’ dress", "with a belt"),
        ("a (red) dress with a belt", "a (red) dress", "with a belt"),
        ("a red dress with a belt (size M)", "a red dress", "with a belt (size M)"),
        ("「a woman」 in a red dress。", "a woman", "in a red dress"),
    ],
)
def test_marks_and_symbols_inside_and_at_the_end(
    caption: str, subject: str, attributes: str
) -> None:
    assert rules(caption) == SplitCaption(subject, attributes)


@pytest.mark.parametrize(
    "caption", ["🔥 a black cat", "- a black cat", "« a black cat »", "🔥 🔥 🔥 🔥"]
)
def test_symbols_are_no_words(caption: str) -> None:
    """Three words and a symbol are not four words."""
    assert rules(caption) is None


PLAIN = """
a woman | in a red dress standing on a beach
a tennis player | holding a racket on a court
a group of people | standing around a table
a man's hand | holding a cell phone
a double-decker bus | driving down the street
a black and white dog | running through grass
"""
"""Captions that any English tagger reads alike."""

SOME_WORDS = ["a", "man", "of", "two", "'s", "red", "-", ",", "and", "sits", "up"]

rules = rule_splitter()


@pytest.mark.parametrize(("caption", "subject", "attributes"), CASES)
def test_the_rules_split_after_the_first_noun(caption: str, subject: str, attributes: str) -> None:
    assert rules(caption) == SplitCaption(subject, attributes)


@pytest.mark.parametrize("caption", WITHOUT)
def test_captions_without_a_split(caption: str) -> None:
    assert rules(caption) is None


@given(
    st.text()
    | st.lists(
        st.sampled_from(["a", "man", "of", "two", "'s", "red", "-", ",", "and", "sits", "up"])
    ).map(" ".join)
)
def test_whatever_is_split_the_parts_are_pieces_of_it(caption: str) -> None:
    split = rules(caption)
    if split is not None:
        assert split.subject in caption
        assert split.attributes in caption
        assert caption.index(split.subject) <= caption.rindex(split.attributes)
        assert split.subject.strip()
        assert split.attributes.strip()


class TestChoice:
    def test_without_spacy_the_rules_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "spacy", None)
        assert choose_splitter().name == RULES_NAME

    def test_with_a_model_of_spacy_its_tagger_runs(self) -> None:
        splitter = spacy_or_skip()
        assert splitter.name.startswith("spacy en_")
        for line in PLAIN.strip().splitlines():
            subject, attributes = line.split(" | ")
            assert splitter(f"{subject} {attributes}") == SplitCaption(subject, attributes)
        assert splitter("sitting on a bench in the park") is None

    def test_a_model_that_cannot_be_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        spacy: Any = pytest.importorskip("spacy")
        monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["en_not_there"])
        with pytest.raises(FtiError, match="spaCy's model en_not_there cannot be loaded"):
            choose_splitter()


def spacy_or_skip() -> Splitter:
    spacy: Any = pytest.importorskip("spacy")
    if not any(name.startswith("en_") for name in spacy.util.get_installed_models()):
        pytest.skip("no spaCy English model is installed")
    return choose_splitter()


class TestCutTail:
    @pytest.mark.parametrize(
        ("caption", "cut"),
        [
            ("a woman with red hair hair hair hair", "a woman with red hair"),
            ("a dog and a cat and a cat and a cat", "a dog and a cat"),
            ("a dog, a dog, a dog", "a dog,"),
            ("a red Red red", "a red"),
            ("hair", "hair"),
            ("  two   spaces ", "two spaces"),
            ("a man in a man in a hat", "a man in a man in a hat"),
            ("", ""),
        ],
    )
    def test_a_run_at_the_end_stays_once(self, caption: str, cut: str) -> None:
        assert cut_repeated_end(caption) == cut

    @given(st.text() | st.lists(st.sampled_from("abAB,")).map(" ".join))
    def test_once_is_enough_and_nothing_grows(self, caption: str) -> None:
        cut = cut_repeated_end(caption)
        assert cut_repeated_end(cut) == cut
        assert len(cut) <= len(caption)
        assert caption.split()[: len(cut.split())] == cut.split()

    @given(
        st.lists(st.sampled_from(["the", "red", "hair"]), max_size=5),
        st.lists(st.sampled_from(["w1", "w2", "w3"]), min_size=1, max_size=12, unique=True),
        st.integers(1, 6),
    )
    def test_a_run_of_words_that_differ_is_found(
        self, before: list[str], run: list[str], times: int
    ) -> None:
        assert cut_repeated_end(" ".join(before + run * times)) == " ".join(before + run)
