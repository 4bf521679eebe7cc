"""Pseudo-words told in real words."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bench import plain
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.explain import COMMON_WORDS, WORDS_FILE, Explainer, common_words, words_of
from fti_qdrant.model.inverter import PseudoWords

WORDS = ["dog", "cat", "red", "hat", "beard", "firefighter"]


@pytest.fixture
def explainer(tiny_backbone: Backbone) -> Explainer:
    explainer = Explainer(tiny_backbone)
    explainer.words = WORDS
    return explainer


def embedding(backbone: Backbone, word: str) -> torch.Tensor:
    (token,) = backbone.vocabulary.encode(word)
    return backbone.text.token_embedding.weight[token]


def test_a_real_word_s_embedding_is_explained_by_that_word(explainer, tiny_backbone):
    rows = torch.stack([embedding(tiny_backbone, word) for word in ("dog", "hat", "red", "cat")])
    words = PseudoWords(rows[:1], rows[None, 1:], torch.tensor([2]))
    explanation = explainer.explain(words, most=3)
    assert [near.token for near in explanation] == ["subject", "attribute 1", "attribute 2"]
    assert [near.words[0] for near in explanation] == [("dog", 1.0), ("hat", 1.0), ("red", 1.0)]
    assert all(len(near.words) == 3 for near in explanation)


@torch.no_grad()
def test_cosines_are_of_the_prompts_features(explainer, tiny_backbone, tiny_composer, pictures):
    features = tiny_backbone.image_features(pictures[:2])
    words = tiny_composer.inverter(features)
    explanation = explainer.explain(words, most=99)
    assert len(explanation.attributes) == int(words.counts[0])
    real = plain.text_features(
        tiny_backbone, [plain.sentence([f"a photo of {w}"]) for w in WORDS], [None] * len(WORDS)
    )
    for near, star in zip(explanation, words.used()):
        (pseudo,) = plain.text_features(
            tiny_backbone, [plain.sentence(["a photo of", 1])], [star[None]]
        )
        cosines = torch.cosine_similarity(real, pseudo[None]).tolist()
        expected = sorted(zip(WORDS, cosines), key=lambda pair: -pair[1])
        assert dict(near.words) == pytest.approx(dict(expected), abs=1e-4)
        values = [cosine for _, cosine in near.words]
        assert values == sorted(values, reverse=True)


def test_words_are_encoded_once(explainer, tiny_composer, pictures):
    features = tiny_composer.backbone.image_features(pictures[:1])
    words = tiny_composer.references(features, (1,)).words
    first = explainer.explain(words)
    remembered = explainer._vocabulary()
    assert explainer.explain(words) == first
    assert explainer._vocabulary() is remembered


def test_common_words_are_whole_english_words():
    words = common_words()
    assert len(words) == len(set(words)) == COMMON_WORDS
    assert {"the", "red", "dog", "photo"} <= set(words)
    assert all(word.isalpha() and word.isascii() and len(word) > 2 for word in words)


def test_a_model_may_bring_its_own_words(tmp_path):
    name = f"local-dir:{tmp_path}"
    assert words_of(name) == common_words()
    (tmp_path / WORDS_FILE).write_text("dog\nfirefighter\n", encoding="utf-8")
    assert words_of(name) == ["dog", "firefighter"]


@pytest.mark.parametrize("name", ["tiny", "hf-hub:some/model", "ViT-B-32/laion2b_s34b_b79k"])
def test_models_from_elsewhere_use_the_common_words(name):
    assert words_of(name) == common_words()


def test_an_explanation_is_read_only(explainer, tiny_composer, pictures):
    features = tiny_composer.backbone.image_features(pictures[:1])
    explanation = explainer.explain(tiny_composer.references(features, (1,)).words)
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.subject = None
