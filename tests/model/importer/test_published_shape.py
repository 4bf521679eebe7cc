"""Checkpoints as a training on a graphics card leaves them: losses, targets, ``cuda:0``."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.files import MAGIC, read_checkpoint
from fti_qdrant.model.importer.import_checkpoint import import_checkpoint
from fti_qdrant.model.importer.stand_ins import StoredModule
from tests.model.importer.standins import (
    IMG2TEXT,
    authors_modules,
    network,
    on_two_cards,
    save,
    saved_on,
)
from tests.model.importer.test_conversion import assert_answers_alike

SIZES = (24, 16)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("wrap", [lambda made: made, on_two_cards], ids=["bare", "parallel"])
@pytest.mark.parametrize("whole", [True, False], ids=["module", "state dict"])
def test_saved_on_a_card(tmp_path, zipped, whole, wrap, half):
    direct = network(*SIZES)
    direct = direct.half() if half else direct
    held = wrap(direct)
    path = tmp_path / "model.pth"
    with saved_on("cuda:0"):
        save(held if whole else held.state_dict(), path, zipped=zipped)
    written = path.read_bytes()
    assert b"cuda:0" in written
    if whole:
        for name in (b"CosineEmbeddingLoss", b"MSELoss", b"LongStorage"):
            assert name in written
    assert_answers_alike(import_checkpoint(path), direct.float())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_torch_itself_needs_the_card(tmp_path, zipped):
    """Otherwise the test above proves nothing about machines without one."""
    with saved_on("cuda:0"):
        path = save(network(*SIZES), tmp_path / "model.pth", zipped=zipped)
    with authors_modules(), pytest.raises(RuntimeError, match="CUDA"):
        torch.load(path, weights_only=False)


def test_no_code_of_a_layer_runs(tmp_path, zipped, monkeypatch):
    direct = network(*SIZES)
    path = save(on_two_cards(direct), tmp_path / "model.pth", zipped=zipped)

    def run(self: object, *_: object) -> None:
        raise AssertionError(f"code of {type(self).__name__} runs")

    with monkeypatch.context() as patch:
        for name in ("__setstate__", "__call__", "__getattr__", "__setattr__"):
            patch.setattr(nn.Module, name, run)
        read_checkpoint(path)


LAYERS = sorted(
    {
        one
        for name, module in sys.modules.items()
        if name.startswith("torch.nn.modules.")
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, nn.Module) and one.__module__ == name
    },
    key=lambda one: one.__name__,
)


def named(module: str, name: str) -> bytes:
    """A pickle that makes an object of this name, with a state."""
    return f"c{module}\n{name}\n)R}}S'kept'\nI1\nsb.".encode()


def test_every_layer_of_torch_becomes_a_stand_in(tmp_path):
    assert {nn.MSELoss, nn.CosineEmbeddingLoss, nn.Conv2d, nn.Tanh, nn.LSTM} <= set(LAYERS)
    path = tmp_path / "model.pth"
    for layer in LAYERS:
        path.write_bytes(pickle_in_a_stream(named(layer.__module__, layer.__name__)))
        read = read_checkpoint(path)
        assert type(read).__name__ == layer.__name__
        assert isinstance(read, StoredModule)
        assert not isinstance(read, nn.Module)
        assert read.state == {"kept": 1}


NO_LAYERS = [
    ("torch.nn.modules.module", "register_module_forward_hook"),
    ("torch.nn.modules.module", "_global_backward_hooks"),
    ("torch.nn.modules.linear", "init"),
    ("torch.nn.modules.linear", "Module"),
    ("torch.nn.modules.container", "OrderedDict"),
    ("torch.nn.modules.loss", "NoSuchLoss"),
    ("torch.nn.modules.loss", "MSELoss.forward"),
    ("torch.nn.modules.loss", "__builtins__"),
    ("torch.nn.modules.nothing", "Linear"),
    ("torch.nn.modules", "Linear"),
    ("torch.nn.modules.", "Linear"),
    ("torch.nn.modulesx.linear", "Linear"),
    ("torch.nn.utils.parametrize", "ParametrizationList"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel"),
    ("torch.ao.nn.quantized.modules.linear", "Linear"),
    ("torch.jit._script", "RecursiveScriptModule"),
]


@pytest.mark.parametrize(("module", "name"), NO_LAYERS)
def test_no_other_name_of_torch_is_accepted(tmp_path, module, name):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle_in_a_stream(named(module, name)))
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(path)
    assert f"it names '{module}.{name}'" in str(refused.value)
    assert "model.pth" in str(refused.value)


def pickle_in_a_stream(written: bytes) -> bytes:
    """A file of ``torch.save``'s older format around a pickle, without storages."""
    start: list[Any] = [MAGIC, 1001, {"little_endian": sys.byteorder == "little"}]
    return b"".join(pickle.dumps(one, 2) for one in start) + written + pickle.dumps([], 2)


def more_losses(direct: IMG2TEXT) -> None:
    direct.weighted = nn.CrossEntropyLoss(weight=torch.ones(3))
    direct.triplet = nn.TripletMarginLoss()
    direct.distance = nn.PairwiseDistance()


def more_targets(direct: IMG2TEXT) -> None:
    direct.target = torch.arange(5, dtype=torch.int32)
    direct.mask = torch.eye(3, dtype=torch.bool)
    direct.counts = [torch.zeros(2, dtype=torch.uint8), {"seen": torch.tensor(7)}]


def no_losses(direct: IMG2TEXT) -> None:
    del direct.cosine_criterion, direct.criterion_target, direct.ortho_loss


@pytest.mark.parametrize("change", [more_losses, more_targets, no_losses])
def test_what_is_kept_beside_the_weights(tmp_path, zipped, change):
    direct = network(*SIZES)
    change(direct)
    inverter = import_checkpoint(save(direct, tmp_path / "model.pth", zipped=zipped))
    assert_answers_alike(inverter, direct)


@pytest.fixture
def with_buffers() -> IMG2TEXT:
    direct = network(*SIZES)
    target = direct.criterion_target
    del direct.criterion_target
    direct.register_buffer("criterion_target", target)
    direct.register_buffer("steps", torch.tensor(3))
    return direct


@pytest.mark.parametrize("whole", [True, False], ids=["module", "state dict"])
def test_buffers_of_whole_numbers_are_named_and_left_out(tmp_path, with_buffers, whole, caplog):
    held = with_buffers if whole else with_buffers.state_dict()
    inverter = import_checkpoint(save(held, tmp_path / "model.pth"))
    assert_answers_alike(inverter, with_buffers)
    assert "'criterion_target', 'steps'" in caplog.text


def test_a_pickle_with_an_unknown_name_is_refused_by_name(tmp_path: Path, zipped):
    direct = network(*SIZES)
    direct.optimizer = torch.optim.AdamW(direct.parameters())
    with pytest.raises(CheckpointError, match=r"it names 'torch\.optim\.adamw\.AdamW'"):
        import_checkpoint(save(direct, tmp_path / "model.pth", zipped=zipped))
