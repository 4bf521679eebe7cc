"""pdv and avoid against their formulas, written out from single prompts."""

from __future__ import annotations

import pytest
import torch

from bench import plain
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import COMPOSERS
from fti_qdrant.errors import BadQuery

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["in red", "smaller", "a word " * 100, "戴着帽子"]


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


@pytest.mark.parametrize("steps", [(0.8, 1.4, 1.0), (0.3, 0.5, 1.7), (0.0, 1.0, 1.0)])
def test_pdv_is_its_formula(tiny_composer, pictures, steps):
    share, image_step, prompt_step = steps
    options = {"text_weight": share, "image_step": image_step, "prompt_step": prompt_step}
    vectors = tiny_composer.compose(pictures[:4], TEXTS, "pdv", options=options)
    images = tiny_composer.compose(pictures[:4], TEXTS, "image")
    for picture, image, text, vector in zip(pictures, images, TEXTS, vectors):
        with_text, without = (
            plain.compose(tiny_composer.backbone, tiny_composer.inverter, [picture], words)
            for words in (text, "")
        )
        direction = with_text - without
        expected = (1 - share) * (image + image_step * direction) + share * (
            with_text + (prompt_step - 1) * direction
        )
        torch.testing.assert_close(vector, unit(expected), **TOLERANCE, msg=text)


def test_pdv_of_the_prompt_alone_is_fti(tiny_composer, pictures):
    only = tiny_composer.compose(pictures[:4], TEXTS, "pdv", options={"text_weight": 1.0})
    fti = tiny_composer.compose(pictures[:4], TEXTS, "fti")
    torch.testing.assert_close(only, fti, **TOLERANCE)


@pytest.mark.parametrize("name", COMPOSERS)
def test_avoid_is_its_formula_for_every_composer(tiny_composer, pictures, name):
    avoid = ["stripes", "", "a hat", ""]
    before = tiny_composer.compose(pictures[:4], TEXTS, name)
    after = tiny_composer.compose(pictures[:4], TEXTS, name, avoid=avoid)
    for row, text in enumerate(avoid):
        length = before[row].norm()
        negative, neutral = tiny_composer.backbone.texts([f"a photo of {text}", "a photo of"])
        expected = unit(unit(before[row]) - 0.5 * (negative - neutral)) * length
        torch.testing.assert_close(after[row], expected if text else before[row], **TOLERANCE)


def test_the_avoided_is_less_similar_afterwards(tiny_composer, pictures):
    """The cosine with the direction of the avoided text falls, whatever the picture."""
    before = tiny_composer.compose(pictures, ["in red"] * len(pictures), "fti")
    avoid = ["stripes"] * len(pictures)
    after = tiny_composer.compose(pictures, ["in red"] * len(pictures), "fti", avoid=avoid)
    negative, neutral = tiny_composer.backbone.texts(["a photo of stripes", "a photo of"])
    assert (after @ (negative - neutral) < before @ (negative - neutral)).all()


def test_each_query_may_avoid_something(tiny_composer, pictures):
    with pytest.raises(BadQuery, match="1 texts to avoid, for 2 queries"):
        tiny_composer.compose(pictures[:2], TEXTS[:2], "sum", avoid=["stripes"])
    bare = Composer(tiny_composer.backbone)
    assert bare.compose(pictures[:1], [""], "image", avoid=["stripes"]).isfinite().all()


def test_raw_sum_adds_what_the_towers_give(tiny_composer, pictures):
    backbone = tiny_composer.backbone
    vectors = tiny_composer.compose(pictures[:4], TEXTS, "raw-sum")
    images = backbone.image_features(pictures[:4]).pooled
    for row, text in enumerate(TEXTS):
        (words,) = plain.text_features(backbone, [plain.sentence([], text)], [None])
        torch.testing.assert_close(vectors[row], images[row] + words, **TOLERANCE)
    assert not torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=0.1)
