"""Options of composers, weights of references, and composers that others bring."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from fti_qdrant.composers import registry
from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composers.defaults import OPTIONS_FILE, default_composer, options_with_defaults
from fti_qdrant.composers.description import ComposerDescription, ComposerOptions
from fti_qdrant.composers.registry import (
    COMPOSERS,
    all_composers,
    composer_names,
    find_composer,
    register,
)
from fti_qdrant.errors import BadQuery, CheckpointError
from fti_training.mini.train import COMPOSER_OPTIONS

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize(
    ("composer", "options", "message"),
    [
        ("sum", {"text_weight": 2}, "'sum': text_weight must be at most 1, got 2"),
        ("slerp", {"text_weight": -0.1}, r"text_weight must be at least 0, got -0\.1"),
        ("pdv", {"text_weight": "half"}, "text_weight must be a number, got 'half'"),
        ("sum", {"text_weight": float("nan")}, "text_weight must be"),
        ("sum", {"text_weight": True}, "text_weight must be a number"),
        ("fti", {"text_weight": 0.5}, r"'fti' has no option 'text_weight'; its options are: none"),
        ("pdv", {"step": 1.0}, "has no option 'step'; its options are: text_weight, image_step"),
    ],
)
def test_options_are_checked(tiny_composer, composer, options, message):
    with pytest.raises(BadQuery, match=message):
        tiny_composer.options(composer, options)


def test_models_have_defaults_of_their_own(tmp_path):
    """The packaged model has those that ``fti-train mini`` writes."""
    for name, options in COMPOSER_OPTIONS.items():
        assert options_with_defaults("mini", name, {}) == options
        find_composer(name).check_options(options)
    assert options_with_defaults("ViT-L-14/openai", "sum", {}) == {}
    assert options_with_defaults(f"local-dir:{tmp_path}", "sum", {}) == {}
    assert find_composer("sum").check_options({}).text_weight == 0.8
    assert default_composer("hf:BAAI/BGE-VL-large@main", inverter=False) == "raw-sum"
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / OPTIONS_FILE).write_text('["sum"]')
    with pytest.raises(CheckpointError, match=r"composers\.json: not the composer options"):
        options_with_defaults(f"local-dir:{broken}", "sum", {})


@pytest.mark.parametrize("name", COMPOSERS)
def test_a_weight_of_zero_leaves_an_image_out(tiny_composer, pictures, name):
    features = tiny_composer.backbone.image_features(pictures[:3])
    parts = tiny_composer.references(features, (3,))
    weighted = References(parts.pooled, parts.words, (3,), (0.0, 2.5, 0.0))
    alone = References(parts.pooled[1:2], parts.words.take([1]), (1,))
    torch.testing.assert_close(
        tiny_composer.compose_references(weighted, ["in red"], name).vectors,
        tiny_composer.compose_references(alone, ["in red"], name).vectors,
        **TOLERANCE,
    )


@given(weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_images_and_prompts_are_weighted_means(tiny_composer, pictures, weights):
    features = tiny_composer.backbone.image_features(pictures[:3])
    parts = tiny_composer.references(features, (3,))
    weighted = References(parts.pooled, parts.words, (3,), tuple(weights))
    texts = ["in red"] * 3
    for name in ("image", "fti"):
        each = tiny_composer.compose(pictures[:3], texts, name)
        mean = (each * torch.tensor(weights)[:, None]).sum(dim=0)
        (vector,) = tiny_composer.compose_references(weighted, texts[:1], name).vectors
        torch.testing.assert_close(vector, mean / mean.norm(), **TOLERANCE)


def test_weights_fit_the_images(tiny_composer, pictures):
    features = tiny_composer.backbone.image_features(pictures[:2])
    with pytest.raises(BadQuery, match="1 weights for 2 images"):
        References(features.pooled, None, (2,), (1.0,))


def test_requests_of_different_composers_share_one_text_pass(tiny_composer, pictures, monkeypatch):
    features = tiny_composer.backbone.image_features(pictures[:4])
    references = tiny_composer.references(features, (1,) * 4)
    texts = ["in red", "smaller", "in red", ""]
    requests = [tiny_composer.request(references, texts, name) for name in composer_names()]
    calls = []
    original = tiny_composer.backbone.text_features
    monkeypatch.setattr(
        tiny_composer.backbone,
        "text_features",
        lambda *given: calls.append(given) or original(*given),
    )
    together = tiny_composer.compose_requests(requests)
    assert len(calls) == 1
    for name, composed in zip(composer_names(), together):
        alone = tiny_composer.compose_references(references, texts, name)
        torch.testing.assert_close(composed.vectors, alone.vectors, **TOLERANCE)
        assert composed.prompts == alone.prompts


def test_the_prompt_is_shown_as_it_was_sent(tiny_composer, pictures):
    references = tiny_composer.references(tiny_composer.backbone.image_features(pictures[:1]), (1,))
    stars = " ".join("*" * int(references.words.counts[0]))
    expected = {
        "fti": f"a photo of * with {stars} but in red",
        "pdv": f"a photo of * with {stars} but in red",
        "subject": "a photo of * but in red",
        "sum": "in red",
        "text": "in red",
        "image": None,
    }
    for name, prompt in expected.items():
        (sent,) = tiny_composer.compose_references(references, ["In  RED"], name).prompts
        assert [str(one) for one in sent] == ([] if prompt is None else [prompt])
    ((cut,),) = tiny_composer.compose_references(references, ["so " * 100], "fti").prompts
    assert 40 < str(cut).count("so") < 77


class Amount(ComposerOptions):
    amount: float = Field(0.5, ge=0, le=1)


def away(inputs, options):
    return inputs.image - options.amount * inputs.text


AWAY = ComposerDescription("away", "image less text", away, ("image", "text"), Amount)


@pytest.fixture
def own_registry(monkeypatch) -> dict[str, ComposerDescription]:
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "COMPOSERS", dict(COMPOSERS))
    registry._installed.cache_clear()
    yield registry.COMPOSERS
    registry._installed.cache_clear()


def test_a_registered_composer_works_with_its_options(own_registry, tiny_composer, pictures):
    assert register(AWAY) is AWAY
    register(AWAY)  # a module that is imported twice
    image, text = (tiny_composer.compose(pictures[:1], ["x"], name) for name in ("image", "text"))
    made = tiny_composer.compose(pictures[:1], ["x"], "away", options={"amount": 0.25})
    expected = torch.nn.functional.normalize(image - 0.25 * text, dim=-1)
    torch.testing.assert_close(made, expected, **TOLERANCE)
    with pytest.raises(BadQuery, match="'away': amount must be at most 1, got 7"):
        tiny_composer.options("away", {"amount": 7})
    with pytest.raises(BadQuery, match="there is a composer 'sum' already"):
        register(ComposerDescription("sum", "another", away, ("image", "text")))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda inputs, _: inputs.image[0], r"returned \[64\] for 2 queries"),
        (lambda inputs, _: "red", "returned str for 2 queries"),
        (lambda inputs, _: inputs.image * float("nan"), "not finite"),
        (lambda inputs, _: inputs.prompt, "reads 'prompt' without having asked for it"),
    ],
)
def test_mistakes_of_a_composer_are_named(own_registry, tiny_composer, pictures, function, message):
    register(ComposerDescription("mine", "mine", function, needs=("image",)))
    with pytest.raises(BadQuery, match=message):
        tiny_composer.compose(pictures[:2], ["a", "b"], "mine")


def test_an_installed_package_brings_composers(
    own_registry, tiny_backbone, pictures, monkeypatch, tmp_path
):
    info = tmp_path / "shopcomposers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shopcomposers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fti_qdrant.composers]\ntwice = shopcomposers:twice\nbroken = shopcomposers:absent\n"
        "wrong = shopcomposers:wrong\n"
    )
    (tmp_path / "shopcomposers.py").write_text(
        "from fti_qdrant.composers.description import ComposerDescription\n"
        "twice = ComposerDescription('twice', 'text twice', lambda x, _: x.image + 2 * x.text,\n"
        "                            needs=('image', 'text'))\n"
        "wrong = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        made = Composer(tiny_backbone).compose(pictures[:1], ["in red"], "twice")
        weight = {"text_weight": 2 / 3}
        expected = Composer(tiny_backbone).compose(pictures[:1], ["in red"], "sum", options=weight)
        torch.testing.assert_close(made, expected, **TOLERANCE)
        with pytest.raises(BadQuery, match=r"'broken' of shopcomposers:absent cannot be loaded"):
            find_composer("broken")
        with pytest.raises(BadQuery, match="'wrong' is shopcomposers:wrong, which is not a"):
            find_composer("wrong")
        with pytest.raises(BadQuery, match="cannot be loaded"):
            all_composers()
        with pytest.raises(BadQuery, match=r"unknown composer 'none'; use one of .*, wrong"):
            find_composer("none")
    finally:
        sys.modules.pop("shopcomposers", None)
