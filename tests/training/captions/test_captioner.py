"""The captioner against plain transformers, and models that are none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BlipForConditionalGeneration, BlipProcessor

from fti_qdrant.errors import UnsupportedModel
from fti_training.captions.captioner import Captioner, Pixels
from tests.ingest.sources_and_runs import picture
from tests.training.captions.tiny_blip import SIDE

PICTURES = [picture(seed, size) for seed, size in enumerate([(48, 40), (20, 64), (90, 31)])]


def test_captions_are_those_of_plain_transformers_one_by_one(tiny_blip: Path) -> None:
    processor: Any = BlipProcessor.from_pretrained(tiny_blip)
    model: Any = BlipForConditionalGeneration.from_pretrained(tiny_blip).eval()
    plain = []
    for one in PICTURES:
        written = model.generate(
            **processor(images=one, return_tensors="pt"),
            num_beams=3,
            min_new_tokens=10,
            max_new_tokens=25,
        )
        assert 10 <= written.shape[1] - 1 <= 25
        plain.append(processor.decode(written[0], skip_special_tokens=True).strip())
    pixels = Pixels(str(tiny_blip))
    captioner = Captioner(str(tiny_blip), device="cpu")
    assert captioner([pixels(one) for one in PICTURES]) == plain
    assert len(set(plain)) == len(PICTURES)


def test_pixels_travel_to_the_workers(tiny_blip: Path) -> None:
    pixels = Pixels(str(tiny_blip))
    there = pickle.loads(pickle.dumps(pixels))
    values = there(PICTURES[0])
    assert values.dtype == np.float32
    assert values.shape == (3, SIDE, SIDE)
    assert values.nbytes == pixels.nbytes
    np.testing.assert_array_equal(values, pixels(PICTURES[0]))


def test_reduced_precision_still_writes(tiny_blip: Path) -> None:
    captioner = Captioner(str(tiny_blip), "bf16", device="cpu")
    assert captioner.dtype is torch.bfloat16
    assert captioner([Pixels(str(tiny_blip))(Image.new("RGB", (8, 8)))])[0]


class TestModelsThatAreNone:
    def test_an_unknown_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UnsupportedModel, match="'no/such/model' cannot be loaded") as caught:
            Pixels("no/such/model")
        assert "\n" not in str(caught.value)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedModel, match="cannot be loaded"):
            Pixels(str(tmp_path))

    def test_a_model_of_another_kind(self, tiny_blip: Path, tmp_path: Path) -> None:
        BertConfig().save_pretrained(tmp_path)
        processor: Any = BlipProcessor.from_pretrained(tiny_blip)
        processor.image_processor.save_pretrained(tmp_path)
        with pytest.raises(UnsupportedModel, match="of the kind 'bert'"):
            Pixels(str(tmp_path))

    def test_truncated_weights(self, tiny_blip: Path, tmp_path: Path) -> None:
        for file in tiny_blip.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        with pytest.raises(UnsupportedModel, match="cannot be loaded"):
            Captioner(str(tmp_path), device="cpu")

    def test_pixels_of_another_size(self, tiny_blip: Path) -> None:
        captioner = Captioner(str(tiny_blip), device="cpu")
        with pytest.raises(UnsupportedModel, match="cannot caption a picture alone"):
            captioner([np.zeros((3, SIDE + 16, SIDE), np.float32)])
