"""Recorded graphs: the same results as without, on whatever device there is."""

from __future__ import annotations

import copy

import pytest
import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.gpu import (
    GraphedFunction,
    attention_of_any_length,
    matmul_precision,
)
from fti_qdrant.model.inverter import Inverter

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_on_a_cpu_the_function_is_called_as_it_is():
    calls = []

    def double(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(len(x))
        return (2 * x,)

    graphed = GraphedFunction(double)
    for _ in range(3):
        with torch.no_grad():
            assert torch.equal(graphed(torch.ones(2))[0], torch.full((2,), 2.0))
    assert calls == [2, 2, 2]


def test_a_copied_backbone_runs_its_own_weights(tiny_backbone, pictures):
    """A copy of the function that is recorded belongs to the copy of the model."""
    other = copy.deepcopy(tiny_backbone)
    with torch.no_grad():
        for weights in other.parameters():
            weights.zero_()
    assert other.image_features(pictures[:1]).pooled.abs().max() == 0
    assert tiny_backbone.image_features(pictures[:1]).pooled.abs().max() > 0


def test_the_precision_of_products_is_restored():
    before = torch.get_float32_matmul_precision()
    with matmul_precision(exact=False):
        assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(ValueError, match="inside"), matmul_precision(exact=False):
        raise ValueError("inside")
    with matmul_precision(exact=True):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before
    with attention_of_any_length(torch.device("cpu")):
        assert torch.backends.cuda.flash_sdp_enabled()


@needs_gpu
@pytest.mark.parametrize("size", [1, 3, 13, 16, 64])
def test_small_batches_on_a_gpu_equal_single_ones(tiny_backbone, pictures, size):
    backbone = copy.deepcopy(tiny_backbone).to("cuda")
    composer = Composer(backbone, Inverter.for_backbone(tiny_backbone))
    chosen = [pictures[row % len(pictures)] for row in range(size)]
    on_cpu = tiny_backbone.image_features(chosen)
    for _ in range(2):  # recorded, and played again
        features = backbone.image_features(chosen)
        torch.testing.assert_close(features.pooled.cpu(), on_cpu.pooled, rtol=1e-3, atol=1e-3)
        words = composer.references(features, (1,) * size).words
        expected = composer.inverter(features)
        torch.testing.assert_close(words.subject, expected.subject, rtol=1e-4, atol=1e-4)
        assert torch.equal(words.counts, expected.counts)
    backbone.to("cpu").to("cuda")  # to other memory
    again = backbone.image_features(chosen)
    torch.testing.assert_close(again.pooled.cpu(), on_cpu.pooled, rtol=1e-3, atol=1e-3)


@needs_gpu
def test_prompts_of_any_length_on_a_gpu(tiny_backbone):
    backbone = copy.deepcopy(tiny_backbone).to("cuda")
    texts = ["word " * length for length in range(1, 60, 7)]
    for text in texts:
        made = backbone.texts([text]).cpu()
        torch.testing.assert_close(made, tiny_backbone.texts([text]), rtol=1e-3, atol=1e-3)
