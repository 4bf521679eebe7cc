"""The table of known models agrees with open_clip, with the code, and with itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg

from fti_qdrant.benchmarks.published import PUBLISHED, published_by
from fti_qdrant.composers.defaults import default_composer
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.images.recipes import RECIPES
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter
from fti_qdrant.model.loading import load_open_clip, split_name
from fti_qdrant.model.pretrained import KNOWN_INVERTERS, KNOWN_MODELS

FROM_THE_PROFILE = {
    "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k": 366.12,
    "nllb-clip-base/v1": 501.89,
}
"""Millions of parameters in open_clip's docs/model_profile.csv: to build these, transformers would
fetch a configuration from the hub."""


@pytest.fixture(autouse=True)
def _without_open_clips_warnings() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def of_open_clip() -> list[str]:
    return [name for name in KNOWN_MODELS if name != "mini" and not name.startswith("hf:")]


@pytest.mark.parametrize("name", of_open_clip())
def test_names_and_recipes_are_open_clips(name):
    row = KNOWN_MODELS[name]
    assert split_name(name) == tuple(name.split("/"))
    assert tuple(name.split("/")) in open_clip.list_pretrained()
    config = get_pretrained_cfg(*name.split("/"))
    assert row.preprocess == ("squash" if config["resize_mode"] == "squash" else "target-pad")
    if not name.endswith("/openai"):
        assert config["hf_hub"].rstrip("/") == row.page
    assert bool(config.get("quick_gelu")) == row.architecture.endswith("-quickgelu")


@pytest.mark.parametrize("name", [name for name in KNOWN_MODELS if name != "mini"])
def test_sizes_are_those_of_the_architecture(name):
    row = KNOWN_MODELS[name]
    config = open_clip.get_model_config(row.architecture)
    assert config["embed_dim"] == row.dim
    if name in FROM_THE_PROFILE:
        assert row.parameters == round(FROM_THE_PROFILE[name] * 1e6)
        return
    with torch.device("meta"):
        model = open_clip.create_model(row.architecture, device="meta")
    assert sum(value.numel() for value in model.parameters()) == row.parameters


def test_the_embedded_model():
    row, inverter = KNOWN_MODELS["mini"], KNOWN_INVERTERS["mini"]
    model, _ = load_open_clip("mini")
    assert sum(value.numel() for value in model.parameters()) == row.parameters
    loaded = load_inverter("mini")
    assert sum(value.numel() for value in loaded.parameters()) == inverter.parameters
    assert loaded.sizes[1] == row.dim
    preprocess = Backbone.load("mini", device="cpu").preprocess
    assert preprocess.recipe == row.preprocess
    assert preprocess.by(loaded.preprocess) == preprocess.by(inverter.preprocess)


def test_the_published_inverter_has_the_sizes_of_its_backbone():
    row = KNOWN_INVERTERS["fti4cir"]
    config = open_clip.get_model_config(KNOWN_MODELS[row.backbone].architecture)
    sizes = (config["vision_cfg"]["width"], config["embed_dim"], config["text_cfg"]["width"])
    with torch.device("meta"):
        inverter = Inverter(*sizes)
    assert sum(value.numel() for value in inverter.parameters()) == row.parameters


def test_rows_refer_to_what_is_there():
    for row in KNOWN_MODELS.values():
        assert default_composer(row.name, inverter=False) in composer_names(inverter=False)
        assert row.composer in (None, default_composer(row.name, inverter=False))
    for inverter in KNOWN_INVERTERS.values():
        assert inverter.backbone in KNOWN_MODELS
    for row in (*KNOWN_MODELS.values(), *KNOWN_INVERTERS.values()):
        assert row.purpose
        assert row.license
        assert row.preprocess in RECIPES
        assert row.method is None or published_by(row.method)
    assert {row.name for row in KNOWN_MODELS.values() if row.composer == "raw-sum"} == {
        "hf:BAAI/BGE-VL-base",
        "hf:BAAI/BGE-VL-large",
    }


def test_published_figures_are_percent_and_never_twice():
    keys = [(row.method, row.benchmark, row.split) for row in PUBLISHED]
    assert len(keys) == len(set(keys))
    for row in PUBLISHED:
        assert row.figures
        assert all(0 < value < 100 for value in row.figures.values())
        values = [value for name, value in row.figures.items() if name.startswith("R@")]
        assert values == sorted(values), "recall grows with K"
        assert row.source


def test_published_averages_are_those_of_their_kinds():
    rows = [row for row in PUBLISHED if row.by_kind]
    assert [row.method for row in rows] == ["FTI4CIR"]
    for row in rows:
        for measure, value in row.figures.items():
            kinds = [kind[measure] for kind in row.by_kind.values()]
            assert sum(kinds) / len(kinds) == pytest.approx(value, abs=0.006)
