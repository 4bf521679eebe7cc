"""Models by name, and the mistakes that open_clip would load without a word."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fti_qdrant.errors import ModelMismatch, UnsupportedModel
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.loading import split_name
from fti_qdrant.model.names import MINI, local_folder

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"


def save(model: torch.nn.Module, config: dict[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)


@pytest.fixture
def saved(tiny_clip, tiny_config, tmp_path) -> Path:
    """A folder that open_clip loads as ``local-dir:``."""
    save(tiny_clip, tiny_config, tmp_path)
    return tmp_path


@pytest.fixture
def _no_loading(monkeypatch) -> None:
    """The check must come before anything is built or downloaded."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("open_clip.create_model was called")

    monkeypatch.setattr(open_clip, "create_model", refuse)


def test_local_dir_gives_the_weights_back(saved, tiny_backbone, pictures):
    loaded = Backbone.load(f"local-dir:{saved}", device="cpu")
    assert loaded.fingerprint.matches(tiny_backbone.fingerprint)
    assert loaded.fingerprint.model == f"local-dir:{saved}"
    assert loaded.preprocess == tiny_backbone.preprocess
    torch.testing.assert_close(
        loaded.image_features(pictures).pooled, tiny_backbone.image_features(pictures).pooled
    )
    texts = ["in red", ""]
    torch.testing.assert_close(loaded.texts(texts), tiny_backbone.texts(texts))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), torch.device("cpu", 0)])
def test_a_device_by_name_or_as_torch_has_it(saved, device):
    assert Backbone.load(f"local-dir:{saved}", device=device).device.type == "cpu"


@pytest.mark.usefixtures("_no_loading")
@pytest.mark.parametrize("device", ["tpu-5", "cuda:99", torch.device("cuda", 99)])
def test_a_device_that_is_not_there(device):
    with pytest.raises(UnsupportedModel, match=f"device '{device}' cannot be used: .*use cuda"):
        Backbone.load("mini", device=device)


@pytest.mark.usefixtures("_no_loading")
def test_openai_weights_in_the_plain_architecture_are_refused():
    with pytest.raises(ModelMismatch, match=r"QuickGELU.*use ViT-B-32-quickgelu/openai"):
        Backbone.load("ViT-B-32/openai")


@pytest.mark.usefixtures("_no_loading")
def test_every_known_quickgelu_weight_is_told_apart():
    """Each (architecture, tag) pair that open_clip lists is either consistent or refused."""
    from open_clip.pretrained import get_pretrained_cfg

    refused = 0
    for architecture, tag in open_clip.list_pretrained():
        trained = get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
        built = open_clip.get_model_config(architecture).get("quick_gelu", False)
        if bool(trained) != bool(built):
            refused += 1
            with pytest.raises(ModelMismatch):
                Backbone.load(f"{architecture}/{tag}")
    assert refused > 0


@pytest.mark.usefixtures("_no_loading")
@pytest.mark.parametrize("name", ["ViT-Z-99/openai", "", "mini/inverter", "/openai", "vit-b-32"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UnsupportedModel, match=r"unknown model.*ARCH/PRETRAINED"):
        Backbone.load(name)


@pytest.mark.usefixtures("_no_loading")
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32/"])
def test_a_name_without_weights_lists_the_choices(name):
    with pytest.raises(UnsupportedModel, match=r"names no weights.*ViT-B-32/laion2b_s34b_b79k"):
        Backbone.load(name)


def test_unknown_weights_are_refused():
    with pytest.raises(UnsupportedModel, match=r"ViT-B-32/nonsense.*cannot be loaded"):
        Backbone.load("ViT-B-32/nonsense")


def test_code_from_a_repository_is_never_run(saved, tiny_config):
    """open_clip would hand the option on to transformers, which would import the file."""
    text = tiny_config["model_cfg"]["text_cfg"]
    text |= {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    (saved / CONFIG).write_text(json.dumps(tiny_config))
    with pytest.raises(UnsupportedModel, match=r"asks to run code.*never done"):
        Backbone.load(f"local-dir:{saved}", device="cpu")


def test_a_tokenizer_without_transformers_names_the_extra(saved, tiny_config, monkeypatch):
    tiny_config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "x"
    (saved / CONFIG).write_text(json.dumps(tiny_config))
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("fti_qdrant.model.loading.find_spec", lambda name: None)
    with pytest.raises(UnsupportedModel, match=r"needs transformers.*fti-qdrant\[hf\]"):
        Backbone.load(f"local-dir:{saved}", device="cpu")


def _truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def _other_shapes(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["width"] = 32
    (folder / CONFIG).write_text(json.dumps(config))


DAMAGES = {
    "truncated weights": _truncate,
    "empty weights": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "broken config": lambda folder: (folder / CONFIG).write_text("{"),
    "config of something else": lambda folder: (folder / CONFIG).write_text("{}"),
    "other shapes": _other_shapes,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_folder_is_refused(saved, damage):
    damage(saved)
    with pytest.raises(UnsupportedModel, match="cannot be loaded"):
        Backbone.load(f"local-dir:{saved}", device="cpu")


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="cannot be loaded"):
        Backbone.load(f"local-dir:{tmp_path / 'nowhere'}")


def test_names_are_split():
    assert split_name("ViT-B-32-quickgelu/openai") == ("ViT-B-32-quickgelu", "openai")
    assert split_name("hf-hub:some/model") == ("hf-hub:some/model", None)
    assert split_name("mini") == (f"local-dir:{MINI}", None)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mini", MINI), ("local-dir:a/b", Path("a/b")), ("hf-hub:a/b", None), ("tiny", None)],
)
def test_local_folder(name, folder):
    assert local_folder(name) == folder
