"""An imported checkpoint answers as the direct computation does."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fti_qdrant.errors import CheckpointError, FtiError, ModelMismatch, UnsupportedModel
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter
from fti_training.importer.backbone_sizes import sizes_of
from fti_training.importer.convert import their_name
from fti_training.importer.import_inverter import convert_checkpoint, import_inverter
from tests.training.importer.conftest import MINI_SIZES
from tests.training.importer.standins import IMG2TEXT, network, save

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
    inverter = import_inverter(path, "mini", tmp_path / "out")
    assert_answers_alike(inverter, for_mini)
    assert_answers_alike(load_inverter(str(tmp_path / "out")), for_mini)
    assert not inverter.training
    assert all(value.requires_grad for value in inverter.parameters())


def test_a_state_dict(for_mini, tmp_path, zipped):
    path = save(for_mini.state_dict(), tmp_path / "state.pth", zipped=zipped)
    assert_answers_alike(convert_checkpoint(path, "mini"), for_mini)


def test_constants_come_from_a_whole_network(tmp_path):
    direct = network(*MINI_SIZES, num_k=9, topk=5, epsilon=0.12)
    inverter = convert_checkpoint(save(direct, tmp_path / "model.pth"), "mini")
    assert (inverter.queries.shape[1], inverter.topk, inverter.epsilon) == (9, 5, 0.12)
    assert_answers_alike(inverter, direct)


def test_constants_of_a_state_dict_are_given(tmp_path):
    direct = network(*MINI_SIZES, num_k=9, topk=5, epsilon=0.12)
    path = save(direct.state_dict(), tmp_path / "state.pth")
    inverter = convert_checkpoint(path, "mini", topk=5, epsilon=0.12)
    assert_answers_alike(inverter, direct)
    with pytest.raises(ModelMismatch, match=r"topk = 12 must lie in 1\.\.latents = 9"):
        convert_checkpoint(path, "mini")


def test_a_parallel_wrapper(for_mini, tmp_path, zipped):
    wrapped = nn.DataParallel(for_mini)
    path = save(wrapped, tmp_path / "model.pth", zipped=zipped)
    assert_answers_alike(convert_checkpoint(path, "mini"), for_mini)
    path = save(wrapped.state_dict(), tmp_path / "state.pth", zipped=zipped)
    assert_answers_alike(convert_checkpoint(path, "mini"), for_mini)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    direct = network(*MINI_SIZES).to(dtype)
    path = save(direct, tmp_path / "model.pth")
    inverter = convert_checkpoint(path, "mini")
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
    inverter = import_inverter(save(state, tmp_path / "state.pth"), "mini", tmp_path / "out")
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
        convert_checkpoint(path, "mini")
    assert getattr(convert_checkpoint(path, "mini", **{constant: value}), constant) == value


def test_a_given_constant_that_differs(checkpoint):
    with pytest.raises(CheckpointError, match="trained with topk = 12, not 11"):
        convert_checkpoint(checkpoint, "mini", topk=11)
    assert convert_checkpoint(checkpoint, "mini", topk=12).topk == 12


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
        convert_checkpoint(save(direct, tmp_path / "model.pth"), "mini")


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


OTHER_NETWORKS = [
    (two_heads, r"num_heads of transformer\.layers\.1\.attn"),
    (other_norm, r"eps of transformer\.layers\.2\.norm1"),
    (gelu_function, r"transformer\.layers\.0\.mlp has a gelu"),
    (gelu_layer, r"transformer\.layers\.0\.mlp has a GELU"),
    (relu_in_phi, r"phi_a\.layers\.4 is a ReLU; .* GELU"),
    (approximate, r"phi_s\.layers\.1 is an approximate GELU"),
    (no_sigmoid, r"local_atte_fc\.1 is a Identity; .* Sigmoid"),
]


@pytest.mark.parametrize(("change", "message"), OTHER_NETWORKS)
def test_weights_that_mean_something_else(tmp_path, change, message):
    direct = network(*MINI_SIZES)
    change(direct)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(save(direct, tmp_path / "model.pth"), "mini")


def test_a_relu_layer_is_as_good_as_the_function(tmp_path):
    direct = network(*MINI_SIZES)
    for layer in direct.transformer.layers:
        del layer.mlp.act
        layer.mlp.act = nn.ReLU()
    inverter = convert_checkpoint(save(direct, tmp_path / "model.pth"), "mini")
    assert_answers_alike(inverter, direct)


def test_another_backbone_is_told_with_both_sizes(checkpoint, tmp_path):
    message = (
        "trained with width 192, d 192, t 192; ViT-B-32-quickgelu/openai has "
        "width 768, d 512, t 512; try the backbone that it was trained with"
    )
    with pytest.raises(ModelMismatch, match=message):
        convert_checkpoint(checkpoint, "ViT-B-32-quickgelu/openai")
    state = network(8, 8).state_dict() | {
        "templates": torch.zeros(1, 24, 1024),
        "phi_s.layers.0.weight": torch.zeros(4, 768),
        "local_atte_fc.0.weight": torch.zeros(768, 4),
    }
    with pytest.raises(ModelMismatch, match=r"has width 192.*try ViT-L-14-quickgelu/openai"):
        convert_checkpoint(save(state, tmp_path / "large.pth"), "mini")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ViT-L-14/openai", ModelMismatch, "use ViT-L-14-quickgelu/openai"),
        ("ViT-L-14-quickgelu/openia", UnsupportedModel, "no such weights.*quickgelu/openai"),
        ("ViT-L-14-quickgelu", UnsupportedModel, "names no weights"),
        ("RN50-quickgelu/openai", UnsupportedModel, "ModifiedResNet"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", UnsupportedModel, "class token"),
        ("NoSuchModel/openai", UnsupportedModel, "unknown model"),
        ("local-dir:/no/such/folder", UnsupportedModel, "/no/such/folder"),
    ],
)
def test_backbones_that_cannot_be_meant(checkpoint, name, kind, message):
    with pytest.raises(kind, match=message):
        convert_checkpoint(checkpoint, name)


def test_sizes_without_weights(caplog):
    assert sizes_of("ViT-L-14-quickgelu/openai") == (1024, 768, 768)
    assert sizes_of("ViT-B-16-SigLIP/webli") == (768, 768, 768)
    assert sizes_of("mini") == (192, 192, 192)
    assert not caplog.records


def test_the_record_says_where_the_weights_came_from(checkpoint, tmp_path: Path):

    import_inverter(checkpoint, "mini", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record == {
        "backbone": "mini",
        "imported_from": {"file": "FTI4CIR_model.pth", "sha256": digest},
    }
