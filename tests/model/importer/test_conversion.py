"""An imported checkpoint answers as the direct computation does."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fti_qdrant.errors import CheckpointError, FtiError, ModelMismatch
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.model.importer.convert import their_name
from fti_qdrant.model.importer.import_checkpoint import import_checkpoint
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter, save_inverter
from tests.model.importer.conftest import MINI_SIZES
from tests.model.importer.standins import IMG2TEXT, network, save

TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def assert_answers_alike(inverter: Inverter, direct: IMG2TEXT, batch: int = 5) -> None:
    torch.manual_seed(11)
    width, dim, _ = inverter.sizes
    pooled = nn.functional.normalize(torch.randn(batch, dim), dim=-1) * 8
    features = ImageFeatures(pooled, torch.randn(batch, 17, width))
    with torch.no_grad():
        expected = direct(features.pooled, features.tokens)
        local = inverter.local_features(features)
        words = inverter(features)
    torch.testing.assert_close(local, expected.local, **TOLERANCE)
    relevance = inverter.relevance(local, features.pooled)
    torch.testing.assert_close(relevance, expected.relevance, **TOLERANCE)
    torch.testing.assert_close(words.subject, expected.subject, **TOLERANCE)
    torch.testing.assert_close(words.attributes, expected.attributes, **TOLERANCE)
    assert words.counts.tolist() == expected.counts


def test_the_direct_computation_is_not_trivial(for_mini):
    pooled = nn.functional.normalize(torch.randn(40, 192), dim=-1) * 8
    with torch.no_grad():
        computed = for_mini(pooled, torch.randn(40, 17, 192))
    assert len(set(computed.counts)) > 3
    assert computed.local.std(dim=1).min() > 0.05


def test_a_whole_network(for_mini, tmp_path, zipped):
    path = save(for_mini, tmp_path / "model.pth", zipped=zipped)
    assert "i2t_model" not in sys.modules
    inverter = import_checkpoint(path)
    save_inverter(inverter, tmp_path / "out")
    assert_answers_alike(inverter, for_mini)
    assert_answers_alike(load_inverter(str(tmp_path / "out")), for_mini)
    assert not inverter.training
    assert all(value.requires_grad for value in inverter.parameters())


def test_a_state_dict(for_mini, tmp_path, zipped):
    path = save(for_mini.state_dict(), tmp_path / "state.pth", zipped=zipped)
    assert_answers_alike(import_checkpoint(path), for_mini)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_in_safetensors(for_mini, tmp_path, prefix):
    state = {f"{prefix}{name}": value for name, value in for_mini.state_dict().items()}
    save_file(state, tmp_path / "state.safetensors")
    assert_answers_alike(import_checkpoint(tmp_path / "state.safetensors"), for_mini)


def test_constants_come_from_a_whole_network(tmp_path):
    direct = network(*MINI_SIZES, num_k=9, topk=5, epsilon=0.12)
    inverter = import_checkpoint(save(direct, tmp_path / "model.pth"))
    assert (inverter.queries.shape[1], inverter.topk, inverter.epsilon) == (9, 5, 0.12)
    assert_answers_alike(inverter, direct)


def test_constants_of_a_state_dict_are_given(tmp_path):
    direct = network(*MINI_SIZES, num_k=9, topk=5, epsilon=0.12)
    path = save(direct.state_dict(), tmp_path / "state.pth")
    inverter = import_checkpoint(path, topk=5, epsilon=0.12)
    assert_answers_alike(inverter, direct)
    with pytest.raises(ModelMismatch, match=r"topk = 12 must lie in 1\.\.latents = 9"):
        import_checkpoint(path)


def test_a_parallel_wrapper(for_mini, tmp_path, zipped):
    wrapped = nn.DataParallel(for_mini)
    path = save(wrapped, tmp_path / "model.pth", zipped=zipped)
    assert_answers_alike(import_checkpoint(path), for_mini)
    path = save(wrapped.state_dict(), tmp_path / "state.pth", zipped=zipped)
    assert_answers_alike(import_checkpoint(path), for_mini)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    direct = network(*MINI_SIZES).to(dtype)
    path = save(direct, tmp_path / "model.pth")
    inverter = import_checkpoint(path)
    assert {value.dtype for value in inverter.parameters()} == {torch.float32}
    assert_answers_alike(inverter, direct.float())


def test_views_of_one_storage(for_mini, tmp_path):
    """Tensors that share their storage, transposed and at an offset, are read as torch does."""
    state = dict(for_mini.state_dict())
    together = torch.cat([torch.zeros(3), *(value.flatten() for value in state.values())])
    at = 3
    for name, value in state.items():
        state[name] = together[at : at + value.numel()].view(value.shape)
        at += value.numel()
    name = "transformer.layers.1.attn.to_queries.weight"
    state[name] = state[name].T.contiguous().T
    assert not state[name].is_contiguous()
    inverter = import_checkpoint(save(state, tmp_path / "state.pth"))
    save_inverter(inverter, tmp_path / "out")
    assert_answers_alike(inverter, for_mini)
    assert_answers_alike(load_inverter(str(tmp_path / "out")), for_mini)


def test_every_tensor_has_its_name(for_mini):
    ours = Inverter(*MINI_SIZES, MINI_SIZES[1]).state_dict()
    assert sorted(map(their_name, ours)) == sorted(for_mini.state_dict())


@pytest.mark.parametrize("constant", ["topk", "epsilon"])
def test_a_network_that_does_not_state_a_constant(tmp_path, constant):
    direct = network(*MINI_SIZES)
    value = getattr(direct, constant)
    delattr(direct, constant)
    path = save(direct, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=rf"--{constant} \(the paper's is {value}\)"):
        import_checkpoint(path)
    assert getattr(import_checkpoint(path, **{constant: value}), constant) == value


def test_a_given_constant_that_differs(checkpoint):
    with pytest.raises(CheckpointError, match="trained with topk = 12, not 11"):
        import_checkpoint(checkpoint, topk=11)
    assert import_checkpoint(checkpoint, topk=12).topk == 12


CONSTANTS = {
    "num_k of others": ("num_k", 23, "num_k = 23, but templates has 24"),
    "topk text": ("topk", "12", "topk of the network"),
    "topk none": ("topk", 0, "topk of the network"),
    "topk too many": ("topk", 25, r"topk = 25 must lie in 1\.\.latents = 24"),
    "epsilon not a number": ("epsilon", float("nan"), "epsilon of the network"),
    "epsilon a list": ("epsilon", [[0.05]], "epsilon of the network"),
}


@pytest.mark.parametrize(("name", "value", "message"), CONSTANTS.values(), ids=CONSTANTS.keys())
def test_constants_are_checked(tmp_path, name, value, message):
    direct = network(*MINI_SIZES)
    setattr(direct, name, value)
    with pytest.raises(FtiError, match=message):
        import_checkpoint(save(direct, tmp_path / "model.pth"))


def two_heads(direct: IMG2TEXT) -> None:
    direct.transformer.layers[1].attn.num_heads = 2


def other_norm(direct: IMG2TEXT) -> None:
    direct.transformer.layers[2].norm1.eps = 1e-6


def gelu_function(direct: IMG2TEXT) -> None:
    direct.transformer.layers[0].mlp.act = nn.functional.gelu


def gelu_layer(direct: IMG2TEXT) -> None:
    del direct.transformer.layers[0].mlp.act
    direct.transformer.layers[0].mlp.act = nn.GELU()


def relu_in_phi(direct: IMG2TEXT) -> None:
    direct.phi_a.layers[4] = nn.ReLU()


def approximate(direct: IMG2TEXT) -> None:
    direct.phi_s.layers[1] = nn.GELU(approximate="tanh")


def no_sigmoid(direct: IMG2TEXT) -> None:
    direct.local_atte_fc[1] = nn.Identity()


def tanh_for_dropout(direct: IMG2TEXT) -> None:
    direct.phi_s.layers[2] = nn.Tanh()


def one_layer_more(direct: IMG2TEXT) -> None:
    direct.phi_a.layers.append(nn.Softplus())


def another_order(direct: IMG2TEXT) -> None:
    layers = direct.phi_s.layers._modules
    layers["0"] = layers.pop("0")


def group_norm(direct: IMG2TEXT) -> None:
    direct.transformer.layers[1].norm2 = nn.GroupNorm(1, MINI_SIZES[0])


def other_scale(direct: IMG2TEXT) -> None:
    direct.transformer.layers[0].attn.scale = 1.0


def decoder(direct: IMG2TEXT) -> None:
    direct.transformer.enc_dec = True


OTHER_NETWORKS = [
    (two_heads, r"num_heads of transformer\.layers\.1\.attn"),
    (other_norm, r"eps of transformer\.layers\.2\.norm1"),
    (gelu_function, r"transformer\.layers\.0\.mlp has a gelu"),
    (gelu_layer, r"transformer\.layers\.0\.mlp has a GELU"),
    (relu_in_phi, r"phi_a\.layers\.4 is a ReLU; .* GELU"),
    (approximate, r"phi_s\.layers\.1 is an approximate GELU"),
    (no_sigmoid, r"local_atte_fc\.1 is a Identity; .* Sigmoid"),
    (tanh_for_dropout, r"phi_s\.layers\.2 is a Tanh; .* Dropout"),
    (one_layer_more, r"phi_a\.layers\.7 is a Softplus; the method has nothing there"),
    (another_order, r"phi_s\.layers\.1 is a GELU; the method has a Linear there"),
    (group_norm, r"transformer\.layers\.1\.norm2 is a GroupNorm; .* LayerNorm"),
    (other_scale, r"scale of transformer\.layers\.0\.attn is 1\.0; .* 0\.0721688"),
    (decoder, r"enc_dec of transformer"),
]


@pytest.mark.parametrize(("change", "message"), OTHER_NETWORKS)
def test_weights_that_mean_something_else(tmp_path, change, message):
    direct = network(*MINI_SIZES)
    change(direct)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(save(direct, tmp_path / "model.pth"))


def test_a_relu_layer_is_as_good_as_the_function(tmp_path):
    direct = network(*MINI_SIZES)
    for layer in direct.transformer.layers:
        del layer.mlp.act
        layer.mlp.act = nn.ReLU()
    inverter = import_checkpoint(save(direct, tmp_path / "model.pth"))
    assert_answers_alike(inverter, direct)
