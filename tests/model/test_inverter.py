"""The inversion network against the plain one, its selection of attributes, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench import plain
from fti_qdrant.errors import CheckpointError, ModelMismatch
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.model.inverter import Inverter, PseudoWords, linear_chain
from fti_qdrant.model.inverter_loading import load_inverter

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def random_features(batch: int, scale: float = 8.0, width: int = 48, dim: int = 64):
    pooled = torch.nn.functional.normalize(torch.randn(batch, dim), dim=-1) * scale
    return ImageFeatures(pooled, torch.randn(batch, 5, width))


def small(**options) -> Inverter:
    """A random inverter whose latent features differ enough to be more and less relevant."""
    inverter = Inverter(48, 64, 64, **options).eval()
    with torch.no_grad():
        inverter.to_local.weight.mul_(4)
    return inverter


@pytest.mark.parametrize("batch", [1, 7])
def test_forward_agrees_with_the_plain_one(batch):
    inverter, features = small(), random_features(batch)
    with torch.no_grad():
        ours = inverter(features)
        expected = plain.invert(inverter, features.pooled, features.tokens)
        z = inverter.relevant(features).z
    assert ours.counts.tolist() == expected.counts
    torch.testing.assert_close(z, expected.z, **TOLERANCE)
    torch.testing.assert_close(ours.subject, expected.subject, **TOLERANCE)
    torch.testing.assert_close(ours.attributes, expected.attributes, **TOLERANCE)
    assert ours.subject.shape == (batch, 64)
    assert ours.attributes.shape == (batch, 12, 64)


@pytest.mark.parametrize("batch", [1, 4])
def test_gradients_agree_with_the_plain_ones(batch):
    """With fewer rows than the matrices have, and with more."""
    inverter, features = small(), random_features(batch)
    weights = torch.randn(batch, 12, 64)
    gradients = []
    for run in (
        lambda: inverter(features),
        lambda: plain.invert(inverter, features.pooled, features.tokens),
    ):
        inverter.zero_grad()
        words = run()
        ((words.attributes * weights).sum() + (words.subject * weights[:, 0]).sum()).backward()
        gradients.append({name: p.grad.clone() for name, p in inverter.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5, msg=name)
    assert gradients[0]["queries"].abs().max() > 0


@pytest.mark.parametrize("rows", [1, 8, 9, 40])
def test_two_matrices_are_multiplied_first_where_that_is_less(rows, monkeypatch):
    x, first, second, bias = (torch.randn(*shape) for shape in ((rows, 8), (8, 8), (6, 8), (6,)))
    inputs = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        "fti_qdrant.model.inverter.F.linear",
        lambda x, *others: inputs.append(len(x)) or linear(x, *others),
    )
    found = linear_chain(x, first, second, bias)
    torch.testing.assert_close(found, x @ first.T @ second.T + bias, **TOLERANCE)
    assert inputs == ([rows] if rows > 8 else [rows, rows])


def test_dropout_is_the_paper_s_in_training():
    inverter, features = small().train(), random_features(3)
    assert inverter.subject_mlp[2].p == inverter.attribute_mlp[5].p == 0.5
    torch.manual_seed(5)
    ours = inverter(features)
    torch.manual_seed(5)
    expected = plain.invert(inverter, features.pooled, features.tokens)
    torch.testing.assert_close(ours.subject, expected.subject, **TOLERANCE)
    torch.testing.assert_close(ours.attributes, expected.attributes, **TOLERANCE)


def test_the_constants_are_the_official_ones():
    inverter = Inverter(32, 64, 64)
    assert inverter.queries.shape == (1, 24, 32)
    assert (len(inverter.blocks), inverter.topk, inverter.epsilon) == (3, 12, 0.05)
    assert inverter.blocks[0].mlp[0].out_features == 2 * 32
    assert inverter.blocks[0].to_queries.bias is inverter.blocks[0].to_keys_values.bias is None
    assert inverter.blocks[0].project.bias is not None
    assert [layer.out_features for layer in inverter.subject_mlp[::3]] == [256, 256, 64]


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0, 60),
    epsilon=st.floats(0, 0.5),
    sizes=st.integers(1, 24).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k))),
)
@settings(max_examples=30, deadline=None)
def test_relevant_attributes_are_ordered_as_the_paper_says(seed, scale, epsilon, sizes):
    latents, topk = sizes
    torch.manual_seed(seed)
    inverter = small(latents=latents, topk=topk, epsilon=epsilon, layers=1)
    features = random_features(3, scale)
    with torch.no_grad():
        local = inverter.local_features(features)
        relevance = inverter.relevance(local, features.pooled)
        z, counts = inverter.relevant(features)
    spread = relevance.sort(dim=1).values.diff(dim=1).abs()
    assume(latents == 1 or spread.min() > 1e-7)  # equal ones may stand in any order
    assume((relevance - epsilon).abs().min() > 1e-7)
    for row in range(3):
        kept, count = plain.select(relevance[row].tolist(), epsilon, topk)
        assert int(counts[row]) == count == max(1, min(int((relevance[row] > epsilon).sum()), topk))
        assert kept[:count] == sorted(kept[:count])
        assert relevance[row, kept].min() >= relevance[row].sort().values[-topk]
        unit = local[row, kept] / local[row, kept].norm(dim=1, keepdim=True)
        torch.testing.assert_close(z[row], unit, **TOLERANCE)


def test_nothing_relevant_still_leaves_one_attribute():
    inverter = small(epsilon=1.0)
    assert inverter.relevant(random_features(3)).counts.tolist() == [1, 1, 1]


def test_everything_relevant_is_clamped_to_topk_in_latent_order():
    inverter, features = small(epsilon=0.0), random_features(2)
    with torch.no_grad():
        local = inverter.local_features(features)
        relevance = inverter.relevance(local, features.pooled)
        z, counts = inverter.relevant(features)
    assert counts.tolist() == [12, 12]
    best = relevance.topk(12, dim=1).indices.sort(dim=1).values
    for row in range(2):
        expected = torch.nn.functional.normalize(local[row, best[row]], dim=-1)
        torch.testing.assert_close(z[row], expected, **TOLERANCE)


def test_used_tokens_stand_row_after_row():
    words = PseudoWords(
        torch.tensor([[0.0], [10.0]]),
        torch.tensor([[[1.0], [2.0], [3.0]], [[11.0], [12.0], [13.0]]]),
        torch.tensor([3, 1]),
    )
    assert words.used().flatten().tolist() == [0, 1, 2, 3, 10, 11]
    assert words.used_attributes().flatten().tolist() == [1, 2, 3, 11]
    assert PseudoWords.join([words, words]).counts.tolist() == [3, 1, 3, 1]


def test_other_token_width_needs_a_learned_map():
    with pytest.raises(ModelMismatch, match=r"32 values.*64.*project_relevance=True"):
        Inverter(48, 64, 32)
    inverter = small_projected()
    features = random_features(3)
    with torch.no_grad():
        ours = inverter(features)
        expected = plain.invert(inverter, features.pooled, features.tokens)
    assert ours.attributes.shape == (3, 12, 32)
    assert ours.counts.tolist() == expected.counts
    torch.testing.assert_close(ours.attributes, expected.attributes, **TOLERANCE)


def small_projected() -> Inverter:
    inverter = Inverter(48, 64, 32, project_relevance=True).eval()
    with torch.no_grad():
        inverter.to_local.weight.mul_(4)
    return inverter


@pytest.mark.parametrize("topk", [0, 25, -1])
def test_topk_must_lie_within_the_latents(topk):
    with pytest.raises(ModelMismatch, match=f"topk = {topk}"):
        Inverter(48, 64, 64, topk=topk)


@pytest.fixture
def saved(tmp_path) -> tuple[Inverter, Path]:
    inverter = small(latents=6, topk=4, layers=2, epsilon=0.1)
    inverter.save_pretrained(tmp_path)
    return inverter, tmp_path


def test_save_and_load_give_the_same_network(saved, capsys):
    inverter, folder = saved
    assert {CONFIG, WEIGHTS} <= {file.name for file in folder.iterdir()}
    assert not list(folder.glob("*.bin")), "nothing pickled"
    assert json.loads((folder / CONFIG).read_text())["latents"] == 6
    loaded = load_inverter(str(folder))
    assert capsys.readouterr().out == ""
    assert not loaded.training
    assert (loaded.topk, loaded.epsilon, loaded.sizes) == (4, 0.1, inverter.sizes)
    assert loaded.weights_hash == inverter.weights_hash
    for name, value in inverter.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    features = random_features(2)
    assert torch.equal(loaded(features).attributes, inverter(features).attributes)


def test_half_precision_weights_load_as_float32(saved):
    inverter, folder = saved
    inverter.half().save_pretrained(folder)
    assert load_inverter(str(folder)).queries.dtype == torch.float32


def _truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) - 100])


def _reconfigure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


DAMAGES = {
    "truncated": _truncate,
    "cut to its header": lambda folder: (folder / WEIGHTS).write_bytes(b"\x10\0\0\0"),
    "empty": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "broken config": lambda folder: (folder / CONFIG).write_text("{"),
    "config of something else": lambda folder: (folder / CONFIG).write_text("{}"),
    "other latents": lambda folder: _reconfigure(folder, latents=7),
    "more layers": lambda folder: _reconfigure(folder, layers=3),
    "fewer layers": lambda folder: _reconfigure(folder, layers=1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_files_are_refused(saved, damage):
    folder = saved[1]
    damage(folder)
    with pytest.raises(CheckpointError, match=folder.name):
        load_inverter(str(folder))


def test_a_missing_folder_is_refused():
    with pytest.raises(CheckpointError, match="no/such/folder"):
        load_inverter("no/such/folder")
