"""One training step against the plain one: two visual passes, whole context, nothing cached."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from bench import plain
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_training.precision import autocast
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep, Triplets, Weights

CAPTIONS = [
    ("dog", "a long tail"),
    None,
    ("woman firefighter", "dark skin tone * hat"),
    ("一只猫", "🙂"),
    ("dog", "a long tail"),
    None,
    ("house", "windows " * 90),
    ("a car", "red"),
]
PARTS = ("total", "contrastive", "orthogonality", "tri_wise")


@pytest.fixture
def inverter(tiny_composer):
    """A copy of its own for each test, as training changes it."""
    return copy.deepcopy(tiny_composer.inverter).requires_grad_(True)


def split(captions) -> list[SplitCaption | None]:
    return [caption and SplitCaption(*caption) for caption in captions]


def gradients_of(loss: torch.Tensor, inverter: torch.nn.Module) -> dict[str, torch.Tensor]:
    names, parameters = zip(*inverter.named_parameters())
    return dict(zip(names, torch.autograd.grad(loss, parameters)))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_step_agrees_with_the_plain_step(tiny_backbone, inverter, pictures, training):
    """In training, both draw the same dropout from the same seed."""
    inverter.train(training)
    torch.manual_seed(3)
    ours = InverterStep(tiny_backbone, inverter)(
        tiny_backbone.image_features(pictures), split(CAPTIONS)
    )
    torch.manual_seed(3)
    pixels = plain.pixels_of(tiny_backbone, pictures)
    expected = plain.training_step(tiny_backbone, inverter, pixels, CAPTIONS)
    for name, value in zip(PARTS, expected):
        torch.testing.assert_close(
            getattr(ours, name).double(), value, rtol=1e-5, atol=1e-5, msg=name
        )
    gradients, wanted = gradients_of(ours.total, inverter), gradients_of(expected[0], inverter)
    for name, gradient in gradients.items():
        size = wanted[name].abs().max()
        gap = (gradient - wanted[name]).abs().max()
        assert gap <= 1e-4 * size + 1e-6, f"{name}: off by {gap} of {size}"
    assert gradients["queries"].abs().max() > 0


def test_a_step_in_groups_agrees_with_the_plain_step(tiny_backbone, inverter):
    """A batch so large that the text tower takes it in groups of like length."""
    inverter.eval()
    pixels = torch.randn(66, 3, 32, 32)
    captions = [("dog " * (row % 7 + 1), "tail " * (row % 11 + 1)) for row in range(66)]
    features = tiny_backbone.visual_pass(pixels)
    ours = InverterStep(tiny_backbone, inverter)(features, split(captions))
    expected = plain.training_step(tiny_backbone, inverter, pixels, captions)
    for name, value in zip(PARTS, expected):
        torch.testing.assert_close(
            getattr(ours, name).double(), value, rtol=1e-5, atol=1e-5, msg=name
        )


def test_the_total_is_the_weighted_sum(tiny_backbone, inverter, pictures):
    features, captions = tiny_backbone.image_features(pictures), split(CAPTIONS)
    for weight in (0.0, 1.4):
        loss = InverterStep(tiny_backbone, inverter.eval(), Weights(tri_wise=weight))(
            features, captions
        )
        expected = loss.contrastive + loss.orthogonality + weight * loss.tri_wise
        torch.testing.assert_close(loss.total, expected)
    log = loss.figures()
    assert set(log) == {*PARTS, "mean_count"}
    counts = inverter(features).counts
    assert log["mean_count"] == pytest.approx(float(counts.float().mean()))


def test_without_split_captions_only_the_other_losses_count(tiny_backbone, inverter, pictures):
    features = tiny_backbone.image_features(pictures)
    loss = InverterStep(tiny_backbone, inverter.eval())(features, [None] * len(pictures))
    assert float(loss.tri_wise.detach()) == 0
    torch.testing.assert_close(loss.total, loss.contrastive + loss.orthogonality)
    assert gradients_of(loss.total, inverter)["subject_mlp.0.weight"].abs().max() > 0


def test_real_sentences_are_encoded_once(tiny_backbone, inverter, pictures, monkeypatch):
    step = InverterStep(tiny_backbone, inverter.eval())
    features = tiny_backbone.image_features(pictures)
    sizes: list[int] = []
    encode = tiny_backbone.text_features

    def counted(tokens, words=None):
        if words is None:
            sizes.append(len(tokens))
        return encode(tokens, words)

    monkeypatch.setattr(tiny_backbone, "text_features", counted)
    first = step(features, split(CAPTIONS)).total
    assert sizes == [5], "six captions, five of them distinct"
    shifted = split(CAPTIONS[1:] + CAPTIONS[:1])
    again = step(features, split(CAPTIONS)).total
    other = step(features, shifted).total
    assert sizes == [5]
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    fresh = InverterStep(tiny_backbone, inverter)(features, shifted).total
    torch.testing.assert_close(other, fresh, rtol=1e-5, atol=1e-5)


def test_only_the_inverter_learns(tiny_backbone, inverter, pictures):
    inverter.eval()
    before = {name: value.clone() for name, value in tiny_backbone.state_dict().items()}
    step = InverterStep(tiny_backbone, inverter)
    features = tiny_backbone.image_features(pictures)
    optimizer = torch.optim.AdamW(inverter.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        loss = step(features, split(CAPTIONS)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert totals[-1] < totals[0] - 0.1
    assert all(parameter.grad is None for parameter in tiny_backbone.parameters())
    for name, value in tiny_backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_features_of_a_batch_may_be_cached(tiny_backbone, inverter, pictures):
    """A row's features do not depend on the batch they came in."""
    parts = [tiny_backbone.image_features([picture]) for picture in pictures]
    step = InverterStep(tiny_backbone, inverter.eval())
    joined = step(ImageFeatures.join(parts), split(CAPTIONS)).total
    together = step(tiny_backbone.image_features(pictures), split(CAPTIONS)).total
    torch.testing.assert_close(joined, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_losses_stay_in_float32_under_autocast(
    tiny_backbone, inverter, pictures, precision
) -> None:
    features = tiny_backbone.image_features(pictures)
    step = InverterStep(tiny_backbone, inverter.eval())
    exact = step(features, split(CAPTIONS))
    with autocast(precision, tiny_backbone):
        rough = step(features, split(CAPTIONS))
    assert rough.total.dtype == torch.float32
    assert float(rough.total.detach()) == pytest.approx(float(exact.total.detach()), rel=0.02)
    rough.total.backward()
    assert all(torch.isfinite(one.grad).all() for one in inverter.parameters())


def test_a_step_in_bf16_learns_what_one_in_fp32_learns(tiny_clip, tiny_backbone, pictures) -> None:
    """The frozen backbone in bf16, the inverter's weights and its gradients in float32."""
    half = Backbone(copy.deepcopy(tiny_clip), SimpleTokenizer(), "tiny", "bf16")
    steps = {"fp32": tiny_backbone, "bf16": half}
    inverter = Inverter.for_backbone(tiny_backbone)
    losses, gradients = {}, {}
    for precision, backbone in steps.items():
        step = InverterStep(backbone, inverter.eval())
        with autocast("auto", backbone):
            loss = step(tiny_backbone.image_features(pictures), split(CAPTIONS))
        losses[precision] = loss.figures()
        gradients[precision] = gradients_of(loss.total, inverter)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]
    for name, wanted in gradients["fp32"].items():
        found = gradients["bf16"][name]
        assert found.dtype == torch.float32
        assert torch.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.99, name


def test_a_subject_longer_than_the_context_loses_its_end(tiny_backbone, inverter, pictures) -> None:
    captions = [SplitCaption("dog " * 100, "a tail")] * len(pictures)
    loss = InverterStep(tiny_backbone, inverter)(tiny_backbone.image_features(pictures), captions)
    assert torch.isfinite(loss.total)


def test_triplets_pull_composed_queries_to_their_answers(tiny_backbone, inverter, pictures):
    """Against a loop over queries whose prompts are composed one by one."""
    inverter.eval()
    features = tiny_backbone.image_features(pictures)
    others = tiny_backbone.image_features(pictures[:2]).take([1, 0])
    rows, texts = [0, 3, 4, 8, 9], ["in red", "not a dog, a cat", "", "as a bird", "in red"]
    targets = torch.randn(5, tiny_backbone.dim)
    asked, answers = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([20, 20, 21, 22, 23])
    shown = torch.tensor([21, 1, 20, 3, 4, 20, 6, 7, 22, 9])
    weights = Weights(triplet=0.5, triplet_temperature=0.3)
    step = InverterStep(tiny_backbone, inverter, weights)
    captions = split(CAPTIONS)
    loss = step(
        features, captions, triplets=Triplets(rows, texts, targets, asked, answers, shown, others)
    )
    known, same = [*answers, *shown], [*asked, *[-1] * 10]
    everything = ImageFeatures.join([features, others])
    candidates = [*targets, *everything.pooled]
    expected = 0.0
    for query, (row, text) in enumerate(zip(rows, texts)):
        words = inverter(everything.take([row]))
        tokens = tiny_backbone.prompts.composed([words.counts.tolist()], [text])
        made = tiny_backbone.text_features(tokens, words.used())[0]
        scores = {
            at: torch.cosine_similarity(made, one, dim=0).double() / 0.3
            for at, one in enumerate(candidates)
            if at == query or (known[at] != known[query] and same[at] != same[query])
        }
        total = sum(score.exp() for score in scores.values())
        expected -= (scores[query].exp() / total).log() / len(rows)
    torch.testing.assert_close(loss.triplet.double(), expected, rtol=1e-5, atol=1e-5)
    without = step(features, captions)
    torch.testing.assert_close(loss.total, without.total + 0.5 * loss.triplet)
    for name in ("contrastive", "orthogonality", "tri_wise", "mean_count"):
        torch.testing.assert_close(getattr(loss, name), getattr(without, name))
    none = Triplets([], [], targets[:0], asked[:0], answers[:0], shown[:8])
    assert step(features, captions, triplets=none).triplet == 0
    assert loss.figures()["triplet"] == pytest.approx(float(expected), rel=1e-5)
    assert without.triplet is None
