"""Any open_clip model gives image and text features; who needs more asks, and is told."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names, find_composer
from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model.abilities import Abilities
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.explain import Explainer
from fti_qdrant.model.inverter import Inverter, PseudoWords
from tests.model.open_clip_models import FAMILIES, WITH_INVERSION, save_family

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["a photo of red dress", "", "red", "blue " * 100]


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def name(family, tmp_path_factory) -> str:
    return save_family(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def backbone(name) -> Backbone:
    return Backbone.load(name, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def bare(name) -> torch.nn.Module:
    """The same model as open_clip itself loads it."""
    return open_clip.create_model(name, require_pretrained=True).eval()


@pytest.fixture(scope="module")
def squares(backbone) -> list[Image.Image]:
    """Pictures of the tower's size, which no preprocessing changes."""
    side = backbone.preprocess.size
    patches = torch.randint(0, 256, (2, 3, 3, 3), dtype=torch.uint8).numpy()
    return [Image.fromarray(one).resize((side, side)) for one in patches]


@torch.no_grad()
def test_image_features_are_open_clips(backbone, bare, squares, family):
    transform = open_clip.image_transform(
        backbone.preprocess.size, is_train=False, mean=None, std=None
    )
    features = backbone.image_features(squares)
    pixels = torch.stack([transform(one) for one in squares])
    # CoCa's own function normalizes by default
    options = {"normalize": False} if family == "coca" else {}
    torch.testing.assert_close(features.pooled, bare.encode_image(pixels, **options), **TOLERANCE)
    assert features.pooled.shape == (2, backbone.dim)
    assert (features.pooled[0] - features.pooled[1]).abs().max() > 1e-3


@torch.no_grad()
def test_text_features_are_open_clips(backbone, bare, name, family):
    ids = open_clip.get_tokenizer(name)(TEXTS)
    options = {"normalize": False} if family == "coca" else {}
    tokens = backbone.tokenize(TEXTS)
    assert torch.equal(tokens.ids, ids)
    assert tokens.truncated == (False, False, False, True)
    features = backbone.text_features(tokens)
    torch.testing.assert_close(features, bare.encode_text(ids, **options), **TOLERANCE)
    assert features.shape == (len(TEXTS), backbone.dim)
    assert (features[0] - features[2]).abs().max() > 1e-3
    many = backbone.text_features(backbone.tokenize(TEXTS * 20))
    torch.testing.assert_close(many[-len(TEXTS) :], features, **TOLERANCE)


def test_patch_tokens_are_given_or_none(backbone, squares):
    features = backbone.image_features(squares)
    assert (features.tokens is not None) == backbone.abilities.patch_tokens
    joined = type(features).join([features, features.take([1])])
    assert len(joined) == 3
    if features.tokens is None:
        assert joined.tokens is None
        with pytest.raises(UnsupportedModel, match="no patch tokens"):
            features.required_tokens()
    else:
        assert joined.required_tokens().shape == (3, *features.tokens.shape[1:])
        assert features.tokens.shape[2] == backbone.width


def test_an_inverter_is_for_those_that_can(backbone, family, squares):
    if family in WITH_INVERSION:
        assert backbone.abilities == Abilities()
        inverter = Inverter.for_backbone(backbone, project_relevance=True)
        composer = Composer(backbone, inverter)
        assert composer.compose(squares, ["red", ""], "fti").isfinite().all()
        return
    with pytest.raises(UnsupportedModel, match=r"an inverter needs .*sum or slerp"):
        Inverter.for_backbone(backbone)
    with pytest.raises(UnsupportedModel, match="an inverter needs"):
        Composer(backbone, Inverter(48, 24, 24))


def test_composers_without_an_inverter_work(backbone, squares):
    composer = Composer(backbone)
    for name in composer_names(inverter=False):
        vectors = composer.compose(squares, ["a photo of red dress", "blue"], name)
        if name != "raw-sum":
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    long = composer.texts(["blue " * 100, "red"])
    assert long.truncated == (True, False)


def test_a_fingerprint_says_what_changes_vectors(backbone, name):
    again = Backbone.load(name, device="cpu", precision="fp32").fingerprint
    assert again == backbone.fingerprint
    assert again.activation == "GELU"
    assert again.dim == 24


def test_lower_precision_is_the_same_model(backbone, name, squares):
    half = Backbone.load(name, device="cpu", precision="bf16")
    assert half.fingerprint.matches(backbone.fingerprint)
    for ours, exact in (
        (half.image_features(squares).pooled, backbone.image_features(squares).pooled),
        (half.texts(TEXTS), backbone.texts(TEXTS)),
    ):
        assert ours.dtype == torch.float32
        assert torch.cosine_similarity(ours, exact).min() > 0.98


LACKING = {
    "resnet": ("patch tokens", "its image tower is a ModifiedResNet"),
    "convnext": ("patch tokens", "its image tower is a ConvNeXt"),
    "mobileclip": ("patch tokens", "its image tower is a FastVit"),
    "coca": ("pseudo-words", "its text tower has a class token"),
    "roberta": ("pseudo-words", "its text tower is a HFTextEncoder"),
    "nllb": ("pseudo-words", "its text tower is a HFTextEncoder"),
    "clipa": ("pseudo-words", "its tokenizer .* does not end a text"),
}


def test_the_message_names_model_ability_and_reason(backbone, family, name):
    if family not in LACKING:
        return backbone.require("patch_tokens", "pseudo_words", needed_by="this test")
    ability, reason = LACKING[family]
    message = f"this test needs {ability}.*{name}.*{reason}"
    with pytest.raises(UnsupportedModel, match=message):
        backbone.require("patch_tokens", "pseudo_words", needed_by="this test")
    asks = {
        "patch tokens": [lambda: backbone.width],
        "pseudo-words": [
            lambda: backbone.token_dim,
            lambda: backbone.vocabulary,
            lambda: backbone.prompts,
            lambda: backbone.text_features(backbone.tokenize([""]), torch.zeros(1, 24)),
            lambda: Explainer(backbone).explain(one_word()),
        ],
    }
    for ask in asks[ability]:
        with pytest.raises(UnsupportedModel, match=reason):
            ask()
    return None


def one_word() -> PseudoWords:
    return PseudoWords(torch.zeros(1, 24), torch.zeros(1, 12, 24), torch.tensor([1]))


def test_the_composers_that_messages_name_need_no_inverter():
    with pytest.raises(UnsupportedModel) as refused:
        Abilities(no_patch_tokens="x").require("m", "patch_tokens", needed_by="a test")
    named = str(refused.value).rpartition("such as ")[2].replace(" or ", ", ").split(", ")
    assert named == ["image", "text", "sum", "slerp"]
    assert not any(find_composer(name).needs_inverter for name in named)


def test_training_branches_are_joined(tmp_path: Path):
    """MobileCLIP's parallel convolutions become one: fewer weights, the same features."""
    name = save_family("mobileclip", tmp_path)
    bare = open_clip.create_model(name, require_pretrained=True)
    backbone = Backbone.load(name, device="cpu", precision="fp32")
    before = len(list(bare.visual.parameters()))
    assert len(list(backbone.visual.parameters())) < 0.7 * before
