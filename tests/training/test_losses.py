"""Each loss against explicit loops in float64, and against values known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import plain
from fti_training import losses

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def check(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), expected, **TOLERANCE)


@given(st.integers(1, 9), st.integers(0, 1000), st.floats(0.01, 100), st.floats(0.05, 2))
@settings(max_examples=40, deadline=None)
def test_contrastive_agrees_with_the_plain_loop(batch, seed, scale, temperature):
    torch.manual_seed(seed)
    g, f = torch.randn(batch, 16) * scale, torch.randn(batch, 16)
    expected = plain.contrastive(g, f, temperature)
    check(losses.contrastive(g, f, temperature), expected)
    check(losses.contrastive(f, g, temperature), expected)


def test_contrastive_gradients_agree_with_the_plain_loop():
    g, f = torch.randn(2, 6, 16)
    gradients = []
    for loss in (losses.contrastive, plain.contrastive):
        leaves = [g.clone().requires_grad_(), f.clone().requires_grad_()]
        gradients.append(torch.autograd.grad(loss(*leaves), leaves))
    for ours, expected in zip(*gradients):
        torch.testing.assert_close(ours, expected, **TOLERANCE)
        assert expected.abs().max() > 1e-3


def test_contrastive_gradients_are_the_differences():
    g, f = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(losses.contrastive, (g, f))


@pytest.mark.parametrize("batch", [2, 5])
def test_contrastive_of_known_vectors(batch):
    one = torch.ones(batch, 4)
    assert float(losses.contrastive(one, one)) == pytest.approx(math.log(2 * batch - 1), abs=1e-5)
    apart = torch.eye(batch)  # partner at cosine 1, the other 2B - 2 at 0, itself excluded
    expected = math.log(math.exp(1 / 0.2) + 2 * batch - 2) - 1 / 0.2
    assert float(losses.contrastive(apart, 7 * apart)) == pytest.approx(expected, abs=1e-5)


def test_contrastive_tells_partners_apart():
    g = torch.randn(8, 16)
    matched, shuffled = losses.contrastive(g, g), losses.contrastive(g, g.roll(1, dims=0))
    assert matched < shuffled


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_orthogonality_agrees_with_the_plain_loop(batch, topk, seed):
    torch.manual_seed(seed)
    z = torch.rand(batch, topk, 16) + 0.01
    check(losses.orthogonality(z), plain.orthogonality(z))
    check(losses.orthogonality(3 * z), plain.orthogonality(z))


def test_orthogonality_of_known_vectors():
    assert float(losses.orthogonality(torch.eye(6)[None])) == 0
    topk = 4  # all alike: every one of the topk (topk - 1) pairs is off by 1
    alike = torch.ones(2, topk, 3)
    expected = topk * (topk - 1) / topk**2
    assert float(losses.orthogonality(alike)) == pytest.approx(expected, abs=1e-6)


def test_tri_wise_agrees_with_the_plain_formula():
    sentence, *prompts = torch.randn(4, 7, 16)
    expected = torch.stack([plain.one_minus_cosine(p, sentence) for p in prompts]).sum()
    check(losses.tri_wise(sentence, *prompts), expected)


def test_tri_wise_of_known_vectors():
    sentence = torch.randn(3, 8)
    assert float(losses.tri_wise(sentence, sentence, 2 * sentence)) == pytest.approx(0, abs=1e-6)
    assert float(losses.tri_wise(sentence, -sentence, sentence)) == pytest.approx(2, abs=1e-6)


def test_clip_agrees_with_the_written_out_formula():
    images, texts = torch.randn(2, 5, 8)
    scale = torch.tensor(3.0)
    a, b = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (images, texts))
    terms = []
    for left, right in ((a, b), (b, a)):
        for row in range(5):
            scores = 3.0 * right @ left[row]
            terms.append(scores.exp().sum().log() - scores[row])
    check(losses.clip(images, texts, scale), torch.stack(terms).mean())


def test_the_constants_are_the_paper_s():
    assert (losses.TEMPERATURE, losses.TRI_WISE_WEIGHT) == (0.2, 1.4)
