"""Prompts by construction: where the stars stand, and what gives way in a short context."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from bench import plain
from fti_qdrant.errors import PromptTooLong, UnsupportedModel
from fti_qdrant.model.prompts import Prompts
from fti_qdrant.model.tokens import Tokens, Vocabulary

TOKENIZER = SimpleTokenizer()
VOCABULARY = Vocabulary.of(TOKENIZER, 77)
PROMPTS = Prompts(VOCABULARY)
STAR = TOKENIZER.encode("*")[0]

texts = st.text(max_size=60) | st.sampled_from(
    ["", " ", "*", "* with *", "and * but *", "🙂", "一张照片", "word " * 200, "<end_of_text> red"]
)
reference_counts = st.lists(st.integers(0, 12), min_size=1, max_size=3)
queries = st.lists(st.tuples(reference_counts, texts), min_size=1, max_size=5)


def filled(tokens: Tokens, row: int) -> list[int]:
    """The ids of one prompt up to its end, stars put into their places."""
    ids = tokens.ids[row].clone()
    ids[tokens.columns[tokens.rows == row]] = STAR
    return ids[: int(tokens.ends[row]) + 1].tolist()


def test_the_query_prompt_reads_as_the_paper_writes_it():
    tokens = PROMPTS.composed([[3], [0], [2]], ["in red, long sleeves", "smaller", ""])
    spelled = ["a photo of * with * * * but in red, long sleeves", "a photo of * but smaller"]
    spelled.append("a photo of * with * *")
    for row, (text, expected) in enumerate(zip(spelled, TOKENIZER(spelled))):
        # open_clip reads "* * *" as three tokens too, so its own tokenization is the reference
        assert filled(tokens, row) == expected[: int(expected.argmax()) + 1].tolist(), text
    assert tokens.truncated == (False, False, False)


def test_several_references_are_joined_by_and():
    tokens = PROMPTS.composed([[1, 0, 2]], ["together"])
    (expected,) = TOKENIZER("a photo of * with * and * and * with * * but together")
    assert filled(tokens, 0) == expected[: int(expected.argmax()) + 1].tolist()


@given(queries)
@settings(max_examples=150, deadline=None)
def test_composed_prompts_agree_with_the_plain_ones(batch):
    counts, modifications = [c for c, _ in batch], [t for _, t in batch]
    tokens = PROMPTS.composed(counts, modifications)
    for row, (count, text) in enumerate(batch):
        expected = plain.composed_sentence(count, text)
        assert tokens.ids[row].tolist() == expected.ids
        assert int(tokens.ends[row]) == expected.end
        assert tokens.columns[tokens.rows == row].tolist() == expected.stars


@given(queries)
@settings(max_examples=150, deadline=None)
def test_no_pseudo_word_and_no_end_is_ever_lost(batch):
    tokens = PROMPTS.composed([c for c, _ in batch], [t for _, t in batch])
    stars = torch.bincount(tokens.rows, minlength=len(batch)).tolist()
    assert stars == [len(count) + sum(count) for count, _ in batch]
    assert (tokens.rows.diff() >= 0).all(), "places must stand row by row"
    assert tokens.ids[torch.arange(len(batch)), tokens.ends].tolist() == [plain.END] * len(batch)
    assert (tokens.ids[:, 0] == plain.START).all()
    assert (tokens.columns < tokens.ends[tokens.rows]).all()
    for row, (count, text) in enumerate(batch):
        room = 77 - len(plain.composed_sentence(count, text).stars)
        assert tokens.truncated[row] or len(TOKENIZER.encode(text)) < room
        assert not tokens.ids[row, int(tokens.ends[row]) + 1 :].any(), "padded with zeros"


@pytest.mark.parametrize("text", ["*", "a * b", "* with * but *", "***"])
def test_a_star_in_a_text_is_only_a_star(text):
    tokens = PROMPTS.composed([[2]], [text])
    assert tokens.columns.tolist() == [4, 6, 7]  # start, a, photo, of, *, with, *, *
    assert set(TOKENIZER.encode(text)) <= set(tokens.ids[0].tolist())


def test_a_long_text_loses_its_end_only():
    words = [f"word{number}" for number in range(200)]
    tokens = PROMPTS.composed([[12], [12]], [" ".join(words), "short"])
    assert tokens.truncated == (True, False)
    assert int(tokens.ends[0]) == 76
    assert (tokens.rows == 0).sum() == 13
    fixed = 1 + 3 + 1 + 1 + 12 + 1  # start, a photo of, *, with, * x 12, but
    kept = tokens.ids[0, fixed:76].tolist()
    assert kept == TOKENIZER.encode(" ".join(words))[: 76 - fixed]


def test_a_text_that_just_fits_is_not_truncated():
    fixed = 1 + 3 + 1 + 1 + 12 + 1
    room = 77 - fixed - 1
    tokens = PROMPTS.composed([[12]] * 2, ["a " * room, "a " * (room + 1)])
    assert tokens.truncated == (False, True)
    assert tokens.ends.tolist() == [76, 76]
    assert torch.equal(tokens.ids[0], tokens.ids[1])


def test_more_stars_than_the_context_holds_is_an_error():
    with pytest.raises(PromptTooLong, match="the context holds 77"):
        PROMPTS.composed([[12] * 6], ["in red"])


def test_a_long_subject_gives_way_and_never_a_star():
    tokens = PROMPTS.subject_in_words(["word " * 70, "dog"], [12, 2])
    assert tokens.rows.tolist() == [0] * 12 + [1] * 2
    assert tokens.columns[:12].tolist() == list(range(64, 76))
    assert tokens.ends[0] == 76


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_plain_texts_are_tokenized_as_open_clip_does(batch):
    tokens = VOCABULARY.tokenize(batch)
    assert torch.equal(tokens.ids, TOKENIZER(batch))
    assert len(tokens.rows) == len(tokens.columns) == 0
    lengths = [len(TOKENIZER.encode(text)) for text in batch]
    assert tokens.truncated == tuple(length > 75 for length in lengths)


def test_training_prompts_read_as_the_paper_writes_them():
    subjects, attributes = ["dog", "a red car"], ["a long tail", "big * wheels"]
    cases = [
        (PROMPTS.in_words(subjects, attributes), "a photo of {s} with {a}"),
        (PROMPTS.attributes_in_words(attributes), "a photo of * with {a}"),
        (PROMPTS.subject_in_words(subjects, [2, 2]), "a photo of {s} with * *"),
    ]
    for tokens, template in cases:
        for row, (subject, attribute) in enumerate(zip(subjects, attributes)):
            (expected,) = TOKENIZER(template.format(s=subject, a=attribute))
            assert filled(tokens, row) == expected[: int(expected.argmax()) + 1].tolist()
        assert (tokens.rows == 0).sum() == template.count("*")


@given(queries, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_select_keeps_places_with_their_prompts(batch, random):
    tokens = PROMPTS.composed([c for c, _ in batch], [t for _, t in batch])
    chosen = random.sample(range(len(batch)), random.randint(1, len(batch)))
    some, kept = tokens.select(torch.tensor(chosen))
    words = torch.arange(len(tokens.rows))
    assert torch.equal(some.ids, tokens.ids[chosen])
    assert some.truncated == tuple(tokens.truncated[row] for row in chosen)
    for new, old in enumerate(chosen):
        ours = some.rows == new
        assert torch.equal(some.columns[ours], tokens.columns[tokens.rows == old])
        assert torch.equal(words[kept][ours], words[tokens.rows == old])


@pytest.fixture
def wrapped(tmp_path):
    """Builds open_clip's wrapper of a transformers tokenizer that spells a text by a template."""
    from open_clip.tokenizer import HFTokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    def build(template: str) -> HFTokenizer:
        words = ["</s>", "<pad>", "<unk>", "<s>", "a", "photo", "of", "red", "with", "but"]
        ids = {word: number for number, word in enumerate(words)}
        inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        inner.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("</s>", 0), ("<s>", 3)]
        )
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **special)
        tokenizer.save_pretrained(tmp_path)
        return HFTokenizer(str(tmp_path), context_length=16, clean="canonicalize")

    return build


@pytest.mark.parametrize(("template", "start"), [("$A </s>", ()), ("<s> $A </s>", (3,))])
def test_a_transformers_tokenizer_gives_the_same_ids(wrapped, template, start):
    """SigLIP's kind has no start token and pads with a token of its own."""
    tokenizer = wrapped(template)
    vocabulary = Vocabulary.of(tokenizer, 16)
    assert (vocabulary.start, vocabulary.end, vocabulary.pad) == (start, 0, 1)
    texts = ["a photo of red", "", "a, Photo!", "red " * 30]
    tokens = vocabulary.tokenize(texts)
    assert torch.equal(tokens.ids, tokenizer(texts))
    assert tokens.truncated == (False, False, False, True)

    composed = Prompts(vocabulary).composed([[2]], ["red"])
    line = composed.ids[0, : int(composed.ends[0]) + 1].tolist()
    assert line == [*start, 4, 5, 6, 0, 8, 0, 0, 9, 7, 0]
    assert composed.columns.tolist() == [len(start) + place for place in (3, 5, 6)]


def test_a_tokenizer_without_an_end_is_refused(wrapped):
    with pytest.raises(UnsupportedModel, match="end-of-text"):
        Vocabulary.of(wrapped("<s> $A"), 16)
