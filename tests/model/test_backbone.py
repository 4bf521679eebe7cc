"""One visual pass and the text tower with pseudo-words, against open_clip's own forward code."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from bench import plain
from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model import prefix_cache
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.prompts import PHOTO_OF, Prompts
from fti_qdrant.model.text_tower import longest_of_groups
from fti_qdrant.model.tokens import Tokens

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = [
    "",
    "in red",
    "a * between * stars",
    "🙂🙃 smiling",
    "一张照片",
    "long " * 60,
    "with a hat",
]


def wrap(model: Any, config: dict[str, Any], **options: Any) -> Backbone:
    model.visual.preprocess_cfg = config["preprocess_cfg"]
    return Backbone(model, SimpleTokenizer(), "tiny", **options)


def mixed_prompts(backbone: Backbone, size: int) -> tuple[Any, torch.Tensor]:
    """A batch of prompts of many lengths, and words for their stars."""
    counts = [[(3 * row) % 13] if row % 3 else [row % 5, 2] for row in range(size)]
    texts = [TEXTS[row % len(TEXTS)] for row in range(size)]
    tokens = Prompts(backbone.vocabulary).composed(counts, texts)
    return tokens, torch.randn(len(tokens.rows), backbone.token_dim)


def test_pooled_is_what_encode_image_returns(tiny_clip, tiny_backbone, pictures):
    features = tiny_backbone.image_features(pictures)
    with torch.no_grad():
        expected = tiny_clip.encode_image(plain.pixels_of(tiny_backbone, pictures))
    torch.testing.assert_close(features.pooled, expected, **TOLERANCE)
    assert not torch.allclose(features.pooled.norm(dim=1), torch.ones(len(pictures)), atol=0.1)


def test_tokens_are_the_last_block_before_the_final_norm(tiny_clip, tiny_backbone, pictures):
    seen: list[torch.Tensor] = []
    last = tiny_clip.visual.transformer.resblocks[-1]
    hook = last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        tiny_clip.visual(plain.pixels_of(tiny_backbone, pictures))
    hook.remove()
    features = tiny_backbone.image_features(pictures)
    assert features.tokens.shape == (len(pictures), 1 + 4, tiny_backbone.width)
    torch.testing.assert_close(features.tokens, seen[0], **TOLERANCE)
    normed = tiny_clip.visual.ln_post(seen[0])
    assert (features.tokens - normed).abs().max() > 0.1, "p must come before the final norm"


def test_one_visual_pass_agrees_with_the_plain_two(tiny_backbone, pictures):
    pixels = plain.pixels_of(tiny_backbone, pictures)
    features = tiny_backbone.image_features(pictures)
    with torch.no_grad():
        torch.testing.assert_close(
            features.tokens, plain.visual_tokens(tiny_backbone, pixels), **TOLERANCE
        )
        torch.testing.assert_close(
            features.pooled, plain.global_features(tiny_backbone, pixels), **TOLERANCE
        )


def test_features_join_along_the_batch(tiny_backbone, pictures):
    together = tiny_backbone.image_features(pictures)
    parts = [tiny_backbone.image_features([picture]) for picture in pictures]
    joined = ImageFeatures.join(parts)
    assert len(joined) == len(pictures)
    torch.testing.assert_close(joined.pooled, together.pooled, **TOLERANCE)
    torch.testing.assert_close(joined.tokens, together.tokens, **TOLERANCE)


def test_features_can_be_trained_on(tiny_backbone, tiny_composer, pictures):
    """Features carry no gradient themselves, and a network on them may have one."""
    features = tiny_backbone.image_features(pictures[:2])
    words = tiny_composer.inverter(features)
    words.attributes.sum().backward()
    assert tiny_composer.inverter.queries.grad is not None
    tiny_composer.inverter.zero_grad(set_to_none=True)


def test_texts_are_normalized_encode_text(tiny_clip, tiny_backbone):
    with torch.no_grad():
        expected = tiny_clip.encode_text(SimpleTokenizer()(TEXTS), normalize=True)
    torch.testing.assert_close(tiny_backbone.texts(TEXTS), expected, **TOLERANCE)


def plain_text_features(backbone: Backbone, tokens: Tokens, words: torch.Tensor) -> torch.Tensor:
    """open_clip's own blocks over all 77 places."""
    sentences = [
        plain.Sentence(ids.tolist(), int(end), tokens.columns[tokens.rows == row].tolist())
        for row, (ids, end) in enumerate(zip(tokens.ids, tokens.ends))
    ]
    by_row = [words[tokens.rows == row] for row in range(len(tokens))]
    return plain.text_features(backbone, sentences, by_row)


def test_cut_context_is_the_full_context(tiny_backbone):
    """What stands after the end-of-text token cannot reach it: all 77 places, or only the first."""
    tokens, words = mixed_prompts(tiny_backbone, 12)
    short, some = tokens.select(torch.arange(2))
    assert int(short.ends.max()) + 1 < 30
    with torch.no_grad():
        full = plain_text_features(tiny_backbone, tokens, words)
        torch.testing.assert_close(tiny_backbone.text_features(tokens, words), full, **TOLERANCE)
        torch.testing.assert_close(
            tiny_backbone.text_features(short, words[some]), full[:2], **TOLERANCE
        )


@pytest.fixture(params=["packed", "packed for a GPU", "one pass for each group"])
def text_backbone(tiny_backbone, monkeypatch, request):
    """Prompts without padding; padded in groups, in one pass; and as a tower of other blocks."""
    text = tiny_backbone.text
    assert text.packs
    if request.param == "packed for a GPU":
        monkeypatch.setattr(text, "_lengths", longest_of_groups)
    monkeypatch.setattr(text, "packs", "packed" in request.param)
    return tiny_backbone


@pytest.mark.parametrize("size", [63, 64, 65, 130])
def test_a_large_batch_has_the_features_of_its_prompts(text_backbone, size):
    tokens, words = mixed_prompts(text_backbone, size)
    with torch.no_grad():
        features = text_backbone.text_features(tokens, words)
        expected = plain_text_features(text_backbone, tokens, words)
    torch.testing.assert_close(features, expected, **TOLERANCE)
    apart = (expected[:, None] - expected[None]).norm(dim=-1) + torch.eye(size) * 9
    assert apart.min() > 1e-3, "rows so alike that a wrong order would not show"


def test_gradients_reach_the_pseudo_words_of_a_large_batch(text_backbone):
    tokens, words = mixed_prompts(text_backbone, 70)
    weights = torch.randn(70, text_backbone.dim)
    gradients = []
    for encode in (text_backbone.text_features, partial(plain_text_features, text_backbone)):
        leaf = words.clone().requires_grad_()
        (encode(tokens, leaf) * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, **TOLERANCE)
    assert (gradients[0].abs().amax(dim=1) > 0).all(), "every star matters"


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text("ab ", max_size=30), min_size=1, max_size=9), st.booleans())
def test_no_token_is_computed_that_no_feature_needs(tiny_backbone, texts, with_prefix):
    """Any lengths in any order; without the shared beginning too, which is then computed."""
    tower, rows = tiny_backbone.text, []
    lines = [f"{PHOTO_OF} {text}" if with_prefix else text for text in texts]
    tokens = tiny_backbone.tokenize(lines)
    shared = len(tiny_backbone.prompts.prefix) if with_prefix else 0
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        tower(tokens)  # the shared beginning is kept from now on
        project = prefix_cache._project
        patch.setattr(
            prefix_cache, "_project", lambda block, x: rows.append(len(x)) or project(block, x)
        )
        together = tower(tokens)
        assert set(rows) == {sum(int(end) + 1 - shared for end in tokens.ends)}
        alone = torch.cat([tower(tiny_backbone.tokenize([line])) for line in lines])
    torch.testing.assert_close(together, alone, **TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("asking", [1, 5])
def test_attention_written_out_is_the_same(dtype, asking):
    """Where PyTorch's own is slow: in half precision on a CPU, with gradients."""
    exact = [torch.randn(3, 2, length, 16, requires_grad=True) for length in (asking, 9, 9)]
    mask = torch.full((asking, 9), float("-inf")).triu(10 - asking)
    weights = torch.randn(3, 2, asking, 16)
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact, attn_mask=mask)
    (wanted * weights).sum().backward()
    rough = [one.detach().to(dtype).requires_grad_() for one in exact]
    got = prefix_cache.attention_of(*rough, mask.to(dtype))
    assert got.dtype == dtype
    (got.float() * weights).sum().backward()
    near = {"rtol": 0.02, "atol": 0.05}
    torch.testing.assert_close(got.float(), wanted, **near)
    for one, other in zip(rough, exact):
        torch.testing.assert_close(one.grad.float(), other.grad, **near)


def test_precision_is_of_the_model_and_features_are_float32(tiny_clip, tiny_backbone, pictures):
    half = Backbone(copy.deepcopy(tiny_clip), SimpleTokenizer(), "tiny", "bf16")
    assert half.dtype == torch.bfloat16
    assert half.text.token_embedding.weight.dtype == torch.bfloat16
    features, exact = half.image_features(pictures), tiny_backbone.image_features(pictures)
    assert features.pooled.dtype == features.tokens.dtype == torch.float32
    cosine = torch.cosine_similarity(features.pooled, exact.pooled)
    assert cosine.min() > 0.99
    assert torch.cosine_similarity(half.texts(TEXTS), tiny_backbone.texts(TEXTS)).min() > 0.99


def test_a_backbone_is_frozen(tiny_backbone):
    assert not tiny_backbone.training
    assert not any(parameter.requires_grad for parameter in tiny_backbone.parameters())


def test_siglip_like_tower_reads_the_whole_context(tiny_config, pictures):
    """Non-causal text, pooled at the last place, timm ViT without a class token in its output."""
    config = tiny_config["model_cfg"]
    config["text_cfg"] |= {
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "context_length": 20,
    }
    config["vision_cfg"] = {
        "timm_model_name": "test_vit3",
        "timm_pool": "map",
        "timm_proj": "linear",
        "image_size": 160,
    }
    tiny_config["preprocess_cfg"]["size"] = 160
    model = open_clip.CustomTextCLIP(**config).eval()
    backbone = wrap(model, tiny_config)
    assert not backbone.text.causal

    tokens = backbone.vocabulary.tokenize(TEXTS)
    with torch.no_grad():
        expected = model.encode_text(SimpleTokenizer()(TEXTS, context_length=20))
        torch.testing.assert_close(backbone.text_features(tokens), expected, **TOLERANCE)

        features = backbone.image_features(pictures[:2])
        pixels = plain.pixels_of(backbone, pictures[:2])
        torch.testing.assert_close(features.pooled, model.encode_image(pixels), **TOLERANCE)
    assert features.tokens.shape == (2, 1 + 100, backbone.width)
    assert (backbone.width, backbone.token_dim, backbone.dim) == (96, 64, 64)


def test_siglip_like_tower_is_not_grouped_and_takes_words(tiny_config):
    tiny_config["model_cfg"]["text_cfg"] |= {"no_causal_mask": True, "pool_type": "last"}
    backbone = wrap(open_clip.CustomTextCLIP(**tiny_config["model_cfg"]), tiny_config)
    tokens, words = mixed_prompts(backbone, 70)
    with torch.no_grad():
        together = backbone.text_features(tokens, words)
        chosen, some = tokens.select(torch.tensor([5, 40]))
        apart = backbone.text_features(chosen, words[some])
        other = backbone.text_features(chosen, torch.randn_like(words[some]))
    torch.testing.assert_close(together[[5, 40]], apart, **TOLERANCE)
    assert (apart - other).abs().max() > 1e-3


def test_custom_text_tower_is_the_same_model(tiny_config, tiny_clip, tiny_backbone):
    """open_clip keeps one CLIP in two shapes; both hold the same tensors by the same names."""
    custom = open_clip.CustomTextCLIP(**tiny_config["model_cfg"])
    custom.text.load_state_dict(
        {k: v for k, v in tiny_clip.state_dict().items() if k in custom.text.state_dict()}
    )
    backbone = wrap(custom, tiny_config)
    torch.testing.assert_close(backbone.texts(TEXTS), tiny_backbone.texts(TEXTS), **TOLERANCE)


def test_unknown_precision_is_refused(tiny_config):
    with pytest.raises(UnsupportedModel, match=r"'int8'.*fp32"):
        wrap(open_clip.CLIP(**tiny_config["model_cfg"]), tiny_config, precision="int8")


def test_input_must_be_square(tiny_config):
    tiny_config["preprocess_cfg"]["size"] = (32, 48)
    with pytest.raises(UnsupportedModel, match="32 x 48"):
        wrap(open_clip.CLIP(**tiny_config["model_cfg"]), tiny_config)
