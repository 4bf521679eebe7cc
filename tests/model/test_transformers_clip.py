"""CLIPs of transformers as backbones: the same features, and clear words for all else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model import weights_cache
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.fingerprint import weights_hash
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.names import absolute_name, is_transformers
from fti_qdrant.model.transformers_clip import load_transformers_clip
from tests.model.transformers_models import (
    TEXT_LENGTH,
    VOCABULARY,
    processor,
    save_byte_pairs,
    save_clip,
    tokenizer,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["red dress", "", "A RED  Dress, isn't it?", "naïve 🙂 红色", "red " * 50, "x" * 21]
WEIGHTS = "model.safetensors"


def features_of(output: Any) -> torch.Tensor:
    """transformers 5 returns an object, earlier versions the tensor."""
    return getattr(output, "pooler_output", output)


@torch.no_grad()
def check_same(backbone: Backbone, model: Any, pictures: list[Image.Image]) -> None:
    """Both towers, from pictures and texts on, against transformers' own."""
    side = model.config.vision_config.image_size
    pixels = processor(side)(pictures, return_tensors="pt")["pixel_values"]
    ours = backbone.preprocess.normalize(backbone.preprocess.batch(pictures))
    torch.testing.assert_close(ours, pixels, rtol=0, atol=1e-6)
    features = backbone.image_features(pictures)
    expected = features_of(model.get_image_features(pixel_values=pixels))
    torch.testing.assert_close(features.pooled, expected, **TOLERANCE)
    last = model.vision_model(pixels, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(features.required_tokens(), last, **TOLERANCE)

    options = {"padding": "max_length", "truncation": True, "max_length": TEXT_LENGTH}
    inputs = tokenizer()(TEXTS, return_tensors="pt", **options)
    texts = features_of(model.get_text_features(**inputs))
    tokens = backbone.tokenize(TEXTS)
    torch.testing.assert_close(backbone.text_features(tokens), texts, **TOLERANCE)
    assert tokens.truncated == (False, False, False, False, True, False)
    apart = (texts[:, None] - texts).norm(dim=-1) + torch.eye(len(texts)) * 9
    assert apart.min() > 1e-2, "texts so alike that another one would not show"


MODELS = {
    "as the defaults": {},
    "gelu": {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu"}},
    "two activations": {"text": {"hidden_act": "gelu_new"}, "vision": {"hidden_act": "gelu"}},
    "patches of 32": {"vision": {"image_size": 96, "patch_size": 32}},
    "patches of 14, not filling": {"vision": {"image_size": 45, "patch_size": 14}},
    "other norms": {"text": {"layer_norm_eps": 1e-2}, "vision": {"layer_norm_eps": 1e-3}},
    "one head, wide projection": {"vision": {"num_attention_heads": 1}, "projection_dim": 80},
    "old end of text": {"text": {"eos_token_id": 2}},
}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS.keys())
def test_both_towers_are_transformers_own(tmp_path, pictures, changes):
    model = save_clip(tmp_path, **changes)
    backbone = Backbone.load(f"local-dir:{tmp_path}", device="cpu", precision="fp32")
    check_same(backbone, model, pictures)
    assert backbone.dim == model.config.projection_dim


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_clip(folder)


@pytest.fixture
def saved(original, tmp_path) -> tuple[Path, Any]:
    """A model in a folder of its own, to change."""
    folder, model = original
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path, model


def load(folder: Path) -> Backbone:
    return Backbone.load(str(folder), device="cpu", precision="fp32")


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def in_shards(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, folder / file)
    table = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": table}))
    (folder / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def with_old_buffers(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["text_model.embeddings.position_ids"] = torch.arange(TEXT_LENGTH)[None]
    tensors["classifier.weight"] = torch.zeros(2, 2)
    save_file(tensors, folder / WEIGHTS)


def with_old_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config_dict"] = config["text_config"]
    config["vision_config_dict"] = None
    config["text_config"] = {"hidden_size": 999}
    (folder / "config.json").write_text(json.dumps(config))


def with_one_json_for_both(folder: Path) -> None:
    (folder / "preprocessor_config.json").rename(folder / "x.json")
    values = {"image_processor": json.loads((folder / "x.json").read_text())}
    (folder / "processor_config.json").write_text(json.dumps(values))


def with_remote_code(folder: Path) -> None:
    """As BGE-VL: the model is a plain CLIPModel, and its code is not needed."""
    change_json(folder / "config.json", auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('code of a repository was run')")


WAYS_TO_SAVE = [
    in_shards,
    pickled,
    save_byte_pairs,
    with_old_buffers,
    with_old_config,
    with_one_json_for_both,
    with_remote_code,
]


@pytest.mark.parametrize("change", WAYS_TO_SAVE)
def test_ways_to_save_a_model(saved, pictures, change):
    folder, model = saved
    change(folder)
    check_same(load(folder), model, pictures)


@pytest.mark.parametrize("change", [lambda folder: None, save_byte_pairs])
def test_prompts_are_shown_as_they_were_sent(saved, change):
    folder, _ = saved
    change(folder)
    backbone = load(folder)
    sent = backbone.vocabulary.as_sent([None, *backbone.vocabulary.encode("But")], [])
    assert str(sent) == "* but"
    text = backbone.vocabulary.encode("A red  Dress")
    assert str(backbone.vocabulary.as_sent([], text)) == "a red dress"


def test_half_precision_files_are_loaded_in_float32(saved, pictures):
    folder, model = saved
    halves = {name: value.half() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(halves, folder / WEIGHTS)
    check_same(load(folder), copy.deepcopy(model).half().float(), pictures)


def test_without_a_processor_clips_own_is_taken(saved, pictures):
    folder, model = saved
    (folder / "preprocessor_config.json").unlink()
    check_same(load(folder), model, pictures)


def test_without_a_tokenizer_it_must_be_clips_own(saved, tmp_path):
    folder, _ = saved
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no tokenizer.json.*520 tokens are not"):
        load(folder)
    own = tmp_path / "own"
    save_clip(own, text={"vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406})
    (own / "tokenizer.json").unlink()
    ids = open_clip.get_tokenizer("ViT-B-32", context_length=TEXT_LENGTH)(TEXTS)
    assert torch.equal(load(own).tokenize(TEXTS).ids, ids)


def test_a_hub_repository(original, pictures, tmp_path, monkeypatch):
    """By its name, from the hub's own cache, without any network; and of one revision."""
    folder, model = original
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cache = tmp_path / "models--some--clip"
    commit = "c" * 40
    (cache / "snapshots").mkdir(parents=True)
    (cache / "snapshots" / commit).symlink_to(folder)
    for name in ("main", "v2"):
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / name).write_text(commit)
    for name in ("hf:some/clip", "hf:some/clip@v2"):
        backbone = Backbone.load(name, device="cpu", precision="fp32")
        assert backbone.fingerprint.model == name
        check_same(backbone, model, pictures)
    with pytest.raises(UnsupportedModel, match=r"hf:some/clip@v3.*no config.json.*not cached"):
        Backbone.load("hf:some/clip@v3", device="cpu")
    with pytest.raises(UnsupportedModel, match=r"hf:other/clip.*cannot be reached"):
        Backbone.load("hf:other/clip", device="cpu")
    for bad in ("hf:", "hf:a/b/c", "hf:no spaces/x"):
        with pytest.raises(UnsupportedModel, match=f"{bad}.*cannot be fetched"):
            Backbone.load(bad, device="cpu")


def test_names_of_folders(saved, monkeypatch):
    folder, _ = saved
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), f"local-dir:{folder}", folder.name, f"./{folder.name}"):
        assert is_transformers(name)
        assert absolute_name(name) == f"local-dir:{folder.resolve()}"
    assert not is_transformers("mini")
    assert not is_transformers("ViT-B-32/openai")
    for strange in ("x" * 5000, "a\0b", ""):
        with pytest.raises(UnsupportedModel, match="unknown model"):
            Backbone.load(strange, device="cpu")


def test_the_same_weights_of_open_clip_have_the_same_hash(saved, tmp_path):
    """A gallery may be opened by either name of a model."""
    folder, _ = saved
    backbone = load(folder)
    own = open_clip.CLIP(
        28,
        {"image_size": 32, "patch_size": 16, "width": 40, "head_width": 20, "layers": 2}
        | {"mlp_ratio": 2.26},
        {"context_length": TEXT_LENGTH, "vocab_size": len(VOCABULARY), "width": 48, "heads": 4}
        | {"layers": 2, "mlp_ratio": 2.1},
        quick_gelu=True,
    )
    own.load_state_dict(load_transformers_clip(str(folder)).model.state_dict())
    assert weights_hash(own.state_dict().items()) == backbone.fingerprint.weights
    assert backbone.fingerprint.activation == "QuickGELU"
    assert backbone.fingerprint.preprocess == "bicubic/center-crop-32-down"


@pytest.mark.parametrize("change", [lambda folder: None, in_shards])
def test_a_second_load_hashes_nothing(saved, change, tmp_path, monkeypatch):
    folder, _ = saved
    change(folder)
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "cache"))
    first = load(folder).fingerprint
    monkeypatch.setattr(weights_cache, "weights_hash", None)
    assert load(folder).fingerprint == first


def test_an_inverter_works_on_it(saved, pictures):
    backbone = load(saved[0])
    inverter = Inverter.for_backbone(backbone, project_relevance=True)
    composed = Composer(backbone, inverter).compose(pictures[:2], ["red dress", ""])
    torch.testing.assert_close(composed.norm(dim=1), torch.ones(2))


SIZES = [
    ({"shortest_edge": 40}, {"height": 32, "width": 32}),
    ({"height": 32, "width": 32}, None),
]


@pytest.mark.parametrize(("size", "crop"), SIZES)
@pytest.mark.parametrize("resample", [2, 3, 1])
def test_other_processors(saved, pictures, size, crop, resample):
    folder, _ = saved
    theirs = type(processor(32))(
        size=size,
        crop_size=crop,
        do_center_crop=crop is not None,
        resample=resample,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.4, 0.5, 0.6],
    )
    theirs.save_pretrained(folder)
    preprocess = load(folder).preprocess
    expected = theirs(pictures, return_tensors="pt")["pixel_values"]
    ours = preprocess.normalize(preprocess.batch(pictures))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def without(name: str) -> Any:
    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        del tensors[name]
        save_file(tensors, folder / WEIGHTS)

    return change


def another(name: str, *shape: int) -> Any:
    def change(folder: Path) -> None:
        save_file(load_file(folder / WEIGHTS) | {name: torch.zeros(*shape)}, folder / WEIGHTS)

    return change


def config(**values: Any) -> Any:
    return lambda folder: change_json(folder / "config.json", **values)


def pictures_of(**values: Any) -> Any:
    return lambda folder: change_json(folder / "preprocessor_config.json", **values)


def unsafe(folder: Path) -> None:
    """A pickle that would run code."""
    (folder / WEIGHTS).unlink()
    torch.save({"x": Path}, folder / "pytorch_model.bin")


def file(name: str, content: bytes | None) -> Any:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)

    return change


QUERY = "text_model.encoder.layers.1.self_attn.q_proj.bias"
BAD = {
    "SigLIP": (config(model_type="siglip"), "not a CLIPModel.*model_type 'siglip'.*open_clip"),
    "BLIP": (config(model_type="blip"), "model_type 'blip'"),
    "a causal LM": (config(model_type="llama"), "model_type 'llama'"),
    "half of a CLIP": (config(model_type="clip_text_model"), "model_type 'clip_text_model'"),
    "no type": (config(model_type=None), "model_type None"),
    "no config": (file("config.json", b"{"), "config.json cannot be read"),
    "a list": (file("config.json", b"[]"), "config.json holds no JSON object"),
    "a missing tensor": (without(QUERY), f"lacks the tensor '{QUERY}'"),
    "no projection": (without("visual_projection.weight"), "'visual_projection.weight'"),
    "a tensor too many": (another("visual_projection.bias", 28), "no place for.*projection.bias"),
    "other shapes": (another("logit_scale", 3), r"logit_scale.*\(3,\).*asks for \(\)"),
    "other sizes": (config(projection_dim=30), r"\(48, 28\).*asks for \(48, 30\)"),
    "another activation": (
        config(text_config={"hidden_act": "relu", "vocab_size": 520, "eos_token_id": 2}),
        "the activation 'relu'; known ones are quick_gelu",
    ),
    "no weights": (file(WEIGHTS, None), "has no model.safetensors or .*pytorch_model.bin"),
    "torn weights": (file(WEIGHTS, b"torn"), "model.safetensors cannot be read"),
    "a pickle with code": (unsafe, "pytorch_model.bin cannot be read"),
    "an empty index": (
        lambda folder: (
            file(WEIGHTS, None)(folder),
            file(f"{WEIGHTS}.index.json", b"{}")(folder),
        ),
        "lists no files",
    ),
    "an index of elsewhere": (
        lambda folder: (
            file(WEIGHTS, None)(folder),
            file(f"{WEIGHTS}.index.json", b'{"weight_map": {"a": "../x"}}')(folder),
        ),
        "lists no files beside it",
    ),
    "a word for a number": (config(projection_dim="many"), "projection_dim.*'many'"),
    "a broken tokenizer": (file("tokenizer.json", b"{}"), "tokenizer cannot be read"),
    "another end": (
        config(text_config={"eos_token_id": 7, "vocab_size": 520}),
        "end with token 7.*ends them with 519",
    ),
    "a tokenizer that is too large": (
        config(text_config={"vocab_size": 100, "eos_token_id": 2}),
        "token 519.*only 100 tokens",
    ),
    "gray pictures": (config(vision_config={"num_channels": 1}), "1 channels; only RGB"),
    "an oblong input": (config(vision_config={"image_size": [32, 48]}), "image_size"),
    "pictures of another size": (pictures_of(crop_size=24), "squares of 32 pixels"),
    "pictures that are not cropped": (pictures_of(do_center_crop=False), "squares of 32"),
    "pictures that are not resized": (pictures_of(do_resize=False), "squares of 32"),
    "values in another range": (pictures_of(rescale_factor=1 / 127.5), "squares of 32"),
    "an unknown filter": (pictures_of(resample=17), "resample"),
    "two means": (pictures_of(image_mean=[0.1, 0.2]), "image_mean"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_loaded_is_named(saved, change, message):
    folder, _ = saved
    change(folder)
    with pytest.raises(UnsupportedModel, match=message) as refused:
        load(folder)
    assert str(folder) in str(refused.value)


def test_noise_is_cropped_where_transformers_crops(saved):
    """Margins of every parity: transformers rounds them down."""
    folder, _ = saved
    preprocess = load(folder).preprocess
    for width in range(33, 45):
        noise = np.random.default_rng(width).integers(0, 256, (32, width, 3), dtype=np.uint8)
        (theirs,) = processor(32, do_rescale=False, do_normalize=False)(
            Image.fromarray(noise), return_tensors="np"
        )["pixel_values"]
        assert (preprocess.pixels(Image.fromarray(noise)) == theirs).all()
