"""The registry: light, in order, and the one place that knows the composers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fti_qdrant.composers import registry
from fti_qdrant.composers.defaults import default_composer
from fti_qdrant.composers.description import ComposerDescription
from fti_qdrant.composers.registry import (
    COMPOSERS,
    IMAGE_ONLY,
    TEXT_ONLY,
    composer_names,
    find_composer,
    register,
)
from fti_qdrant.errors import BadQuery


def test_the_registry_loads_without_torch_or_numpy():
    code = (
        "import sys, fti_qdrant.composers.registry; "
        "sys.exit(bool({'torch', 'numpy', 'open_clip', 'qdrant_client'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_and_needs():
    without = ("image", "text", "sum", "slerp", "raw-sum")
    assert composer_names() == ("pdv", "fti", "subject", *without)
    assert composer_names(inverter=False) == without
    assert {name for name, one in COMPOSERS.items() if not one.uses_image} == {TEXT_ONLY}
    assert {name for name, one in COMPOSERS.items() if not one.uses_text} == {IMAGE_ONLY}
    for name, one in COMPOSERS.items():
        assert find_composer(name) is one
        assert one.name == name
        assert one.summary


def test_the_default_is_the_best_there_is():
    assert default_composer(inverter=True) == "pdv"
    assert default_composer(inverter=False) == "sum"


@pytest.mark.parametrize("name", ["magic", "", "FTI", None, ["fti"]])
def test_unknown_composers_are_refused(name):
    with pytest.raises(BadQuery, match=r"unknown composer .*; use one of pdv, fti, subject"):
        find_composer(name)


def test_a_new_composer_is_one_description(tiny_composer, pictures, monkeypatch):
    """Its function and its needs are all that the rest asks for."""
    difference = ComposerDescription(
        "difference",
        "image minus text",
        lambda inputs, _: inputs.image - inputs.text,
        needs=("image", "text"),
    )
    monkeypatch.setattr(registry, "COMPOSERS", dict(COMPOSERS))
    register(difference)
    images = tiny_composer.compose(pictures[:2], ["", ""], "image")
    texts = tiny_composer.texts(["in red", "smaller"]).vectors
    made = tiny_composer.compose(pictures[:2], ["in red", "smaller"], "difference")
    torch.testing.assert_close(made, torch.nn.functional.normalize(images - texts, dim=-1))
    assert "difference" in composer_names(inverter=False)
