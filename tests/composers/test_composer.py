"""Every composer against a written-out formula, alone and in any batch."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from bench import plain
from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composers.description import ComposerInputs
from fti_qdrant.composers.mixing import TextWeight, slerp, weighted_sum
from fti_qdrant.composers.registry import COMPOSERS, composer_names
from fti_qdrant.errors import BadQuery, ModelMismatch, PromptTooLong
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter, PseudoWords

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["in red", "", "* and *", "a word " * 100, "🙂 with 🎩", "戴着帽子", "smaller", "   "]


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def encoded(backbone, text: str) -> torch.Tensor:
    (vector,) = plain.text_features(backbone, [plain.sentence([], text)], [None])
    return unit(vector)


def pooled(backbone, pictures) -> list[torch.Tensor]:
    pixels = plain.pixels_of(backbone, pictures)
    with torch.no_grad():
        return [unit(g) for g in plain.global_features(backbone, pixels)]


def one_reference_each(composer: Composer, pictures) -> References:
    features = composer.backbone.image_features(pictures)
    return composer.references(features, (1,) * len(pictures))


def test_fti_agrees_with_the_plain_implementation(tiny_composer, pictures):
    vectors = tiny_composer.compose(pictures, TEXTS, "fti")
    for picture, text, vector in zip(pictures, TEXTS, vectors):
        expected = plain.compose(tiny_composer.backbone, tiny_composer.inverter, [picture], text)
        torch.testing.assert_close(vector, expected, **TOLERANCE, msg=text)
    counts = one_reference_each(tiny_composer, pictures).words.counts
    assert len(counts.unique()) > 2, "the pictures must differ in r"


def test_fti_of_several_references_agrees_with_the_plain_implementation(tiny_composer, pictures):
    sizes = (2, 1, 3, 2)
    features = tiny_composer.backbone.image_features(pictures)
    references = tiny_composer.references(features, sizes)
    composed = tiny_composer.compose_references(references, TEXTS[:4], "fti")
    start = 0
    for size, text, vector in zip(sizes, TEXTS, composed.vectors):
        images = pictures[start : start + size]
        expected = plain.compose(tiny_composer.backbone, tiny_composer.inverter, images, text)
        torch.testing.assert_close(vector, expected, **TOLERANCE)
        start += size
    assert composed.truncated == (False, False, False, True)


@torch.no_grad()
def test_subject_is_a_prompt_of_one_star(tiny_composer, pictures):
    backbone, inverter = tiny_composer.backbone, tiny_composer.inverter
    vectors = tiny_composer.compose(pictures, TEXTS, "subject")
    pixels = plain.pixels_of(backbone, pictures)
    g, p = plain.global_features(backbone, pixels), plain.visual_tokens(backbone, pixels)
    inverted = plain.invert(inverter, g, p)
    for row, text in enumerate(TEXTS):
        prompt = plain.composed_sentence([0], text)
        assert len(prompt.stars) == 1
        (expected,) = plain.text_features(backbone, [prompt], [inverted.subject[[row]]])
        torch.testing.assert_close(vectors[row], unit(expected), **TOLERANCE)


@torch.no_grad()
def test_image_text_and_sum_are_their_formulas(tiny_composer, pictures):
    backbone = tiny_composer.backbone
    methods = ("image", "text", "sum")
    composed = {name: tiny_composer.compose(pictures, TEXTS, name) for name in methods}
    for row, (image, text) in enumerate(zip(pooled(backbone, pictures), TEXTS)):
        words = encoded(backbone, text)
        torch.testing.assert_close(composed["image"][row], image, **TOLERANCE)
        torch.testing.assert_close(composed["text"][row], words, **TOLERANCE)
        expected = unit(0.2 * image + 0.8 * words)
        torch.testing.assert_close(composed["sum"][row], expected, **TOLERANCE)


@torch.no_grad()
def test_slerp_is_the_middle_of_the_arc(tiny_composer, pictures):
    half = {"text_weight": 0.5}
    vectors = tiny_composer.compose(pictures, TEXTS, "slerp", options=half)
    for row, (image, text) in enumerate(zip(pooled(tiny_composer.backbone, pictures), TEXTS)):
        words = encoded(tiny_composer.backbone, text)
        angle = math.acos(float(image.double() @ words.double()))
        expected = (math.sin(angle / 2) * image + math.sin(angle / 2) * words) / math.sin(angle)
        torch.testing.assert_close(vectors[row], expected, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("name", ["image", "sum", "slerp"])
def test_several_references_are_the_mean_of_unit_vectors(tiny_composer, pictures, name):
    sizes = (3, 1, 4)
    features = tiny_composer.backbone.image_features(pictures)
    references = tiny_composer.references(features, sizes)
    options = {} if name == "image" else {"text_weight": 0.5}
    composed = tiny_composer.compose_references(references, TEXTS[:3], name, options=options)
    units, start = pooled(tiny_composer.backbone, pictures), 0
    for size, text, vector in zip(sizes, TEXTS, composed.vectors):
        mean = unit(torch.stack(units[start : start + size]).mean(dim=0))
        words = encoded(tiny_composer.backbone, text)
        expected = mean if name == "image" else unit(mean + words)  # slerp's middle is the sum
        torch.testing.assert_close(vector, expected, **TOLERANCE)
        start += size


@given(seed=st.integers(0, 1000), weight=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_slerp_stays_on_the_sphere_and_divides_the_angle(seed, weight):
    generator = torch.Generator().manual_seed(seed)
    image, text = (
        torch.nn.functional.normalize(torch.randn(1, 8, generator=generator).double(), dim=-1)
        for _ in range(2)
    )
    inputs, options = ComposerInputs({"image": image, "text": text}), TextWeight(text_weight=weight)
    between = slerp(inputs, options)
    whole = torch.acos((image * text).sum())
    part = torch.acos((image * between).sum().clamp(-1, 1))
    assert abs(float(between.norm()) - 1) < 1e-5
    assert abs(float(part - weight * whole)) < 1e-4
    assert torch.allclose(weighted_sum(inputs, options), image + weight * (text - image))


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_slerp_of_parallel_vectors_is_finite(angle):
    image = torch.tensor([[1.0, 0.0]])
    text = torch.tensor([[math.cos(angle), 0.0]])
    assert slerp(ComposerInputs({"image": image, "text": text}), TextWeight()).isfinite().all()


@pytest.mark.parametrize("name", COMPOSERS)
def test_a_batch_is_its_queries_one_by_one(tiny_composer, pictures, name):
    sizes = (1, 3, 2, 2)
    features = tiny_composer.backbone.image_features(pictures)
    references = tiny_composer.references(features, sizes)
    together = tiny_composer.compose_references(references, TEXTS[:4], name)
    assert together.vectors.shape == (4, 64)
    if COMPOSERS[name].unit:
        torch.testing.assert_close(together.vectors.norm(dim=1), torch.ones(4), **TOLERANCE)
    start = 0
    for row, size in enumerate(sizes):
        part = slice(start, start + size)
        words = references.words
        alone = References(
            references.pooled[part],
            PseudoWords(words.subject[part], words.attributes[part], words.counts[part]),
            (size,),
        )
        single = tiny_composer.compose_references(alone, [TEXTS[row]], name)
        torch.testing.assert_close(together.vectors[row], single.vectors[0], **TOLERANCE)
        assert together.truncated[row] == single.truncated[0]
        start += size


def test_a_large_batch_of_any_r_is_its_queries_one_by_one(tiny_composer):
    """From 64 prompts on they go through the text tower in groups."""
    size = 70
    counts = torch.arange(size) % 12 + 1
    words = PseudoWords(torch.randn(size, 64), torch.randn(size, 12, 64), counts)
    references = References(torch.randn(size, 64), words, (1,) * size)
    texts = [TEXTS[row % len(TEXTS)] for row in range(size)]
    together = tiny_composer.compose_references(references, texts)
    for row in range(0, size, 9):
        rows = slice(row, row + 1)
        part = PseudoWords(words.subject[rows], words.attributes[rows], words.counts[rows])
        alone = References(references.pooled[rows], part, (1,))
        single = tiny_composer.compose_references(alone, [texts[row]])
        torch.testing.assert_close(together.vectors[row], single.vectors[0], **TOLERANCE)
        assert together.truncated[row] == single.truncated[0]


def test_unused_attributes_do_not_matter(tiny_composer, pictures):
    references = one_reference_each(tiny_composer, pictures)
    words = references.words
    spoiled = words.attributes.clone()
    for row, count in enumerate(words.counts.tolist()):
        spoiled[row, count:] = 1000.0
    other = References(
        references.pooled, PseudoWords(words.subject, spoiled, words.counts), references.sizes
    )
    expected = tiny_composer.compose_references(references, TEXTS).vectors
    assert torch.equal(tiny_composer.compose_references(other, TEXTS).vectors, expected)


@pytest.mark.parametrize("name", COMPOSERS)
def test_truncation_is_reported(tiny_composer, pictures, name):
    """Of a text that the composer reads."""
    references = one_reference_each(tiny_composer, pictures[:2])
    composed = tiny_composer.compose_references(references, ["short", "long " * 200], name)
    assert composed.truncated == (False, COMPOSERS[name].uses_text)


def test_unknown_composer(tiny_composer, pictures):
    with pytest.raises(
        BadQuery, match=r"'sun'.*pdv, fti, subject, image, text, sum, slerp, raw-sum"
    ):
        tiny_composer.compose(pictures[:1], ["in red"], "sun")


def test_without_an_inverter_the_others_work(tiny_backbone, tiny_composer, pictures):
    bare = Composer(tiny_backbone)
    assert (bare.default_composer, tiny_composer.default_composer) == ("sum", "pdv")
    assert torch.equal(
        bare.compose(pictures[:2], TEXTS[:2], "sum"),
        tiny_composer.compose(pictures[:2], TEXTS[:2], "sum"),
    )
    for name in ("pdv", "fti", "subject"):
        with pytest.raises(BadQuery, match=f"'{name}' needs an inverter.*'tiny'"):
            bare.compose(pictures[:1], ["in red"], name)


@pytest.mark.parametrize("sizes", [(47, 64, 64), (48, 32, 32)])
def test_inverter_of_another_backbone(tiny_backbone, sizes):
    with pytest.raises(ModelMismatch, match=r"\(48, 64, 64\)"):
        Composer(tiny_backbone, Inverter(*sizes))


def test_both_parts_are_loaded_by_name(tiny_clip, tiny_config, tiny_composer, pictures, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(tiny_config))
    save_file(tiny_clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    tiny_composer.inverter.save_pretrained(tmp_path / "inverter")
    name = f"local-dir:{tmp_path}"
    loaded = Composer.load(name, str(tmp_path / "inverter"), device="cpu")
    torch.testing.assert_close(
        loaded.compose(pictures, TEXTS), tiny_composer.compose(pictures, TEXTS), **TOLERANCE
    )
    assert Composer.load(name, device="cpu").inverter is None
    Inverter(32, 64, 64).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelMismatch, match="load the inverter trained for this backbone"):
        Composer.load(name, str(tmp_path / "other"), device="cpu")


def test_numbers_of_images_and_texts_must_agree(tiny_composer, pictures):
    with pytest.raises(BadQuery, match="2 images and 1 texts"):
        tiny_composer.compose(pictures[:2], ["in red"])
    references = one_reference_each(tiny_composer, pictures[:2])
    for name in composer_names():
        with pytest.raises(BadQuery, match="1 texts for the references of 2"):
            tiny_composer.compose_references(references, ["in red"], name)
    with pytest.raises(BadQuery, match=r"2 images cannot be \(3,\)"):
        References(references.pooled, references.words, (3,))
    with pytest.raises(BadQuery, match="at least one reference"):
        References(references.pooled, references.words, (2, 0))


def test_more_references_than_the_context_holds(tiny_composer):
    words = PseudoWords(torch.randn(6, 64), torch.randn(6, 12, 64), torch.full((6,), 12))
    references = References(torch.randn(6, 64), words, (6,))
    with pytest.raises(PromptTooLong, match="fewer reference images"):
        tiny_composer.compose_references(references, ["in red"])


def test_lower_precision_composes_nearly_the_same(tiny_clip, tiny_composer, pictures):
    half = Backbone(copy.deepcopy(tiny_clip), SimpleTokenizer(), "tiny", "bf16")
    composer = Composer(half, tiny_composer.inverter)
    references = one_reference_each(tiny_composer, pictures)
    ours = composer.compose_references(references, TEXTS).vectors
    exact = tiny_composer.compose_references(references, TEXTS).vectors
    assert ours.dtype == torch.float32
    assert torch.cosine_similarity(ours, exact).min() > 0.99
