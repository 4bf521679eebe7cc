"""Files that would run something: refused with the name of it, and nothing has run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.contents import contents_of
from fti_qdrant.model.importer.files import MAGIC, read_checkpoint
from fti_qdrant.model.importer.stand_ins import StoredModule
from tests.model.importer.standins import IMG2TEXT, network, save


class Call:
    """Pickled as a call, which a free unpickler makes."""

    def __init__(self, function: Callable[..., Any], *arguments: object):
        self.call = (function, arguments)

    def __call__(self) -> None:
        """Only so that a call can be the function of another."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


SYSTEM = f"{os.system.__module__}.system"

PAYLOADS: dict[str, tuple[Callable[[Path], Call], str]] = {
    "os.system": (lambda marker: Call(os.system, f"touch {marker}"), SYSTEM),
    "eval": (lambda marker: Call(eval, f"open({str(marker)!r}, 'w')"), "builtins.eval"),
    "exec": (lambda marker: Call(exec, f"open({str(marker)!r}, 'w')"), "builtins.exec"),
    "open": (lambda marker: Call(builtins.open, str(marker), "w"), ".open"),
    "Popen": (lambda marker: Call(subprocess.Popen, ["touch", str(marker)]), ".Popen"),
    "getattr chain": (
        lambda marker: Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {marker}"),
        "builtins.getattr",
    ),
    "torch.hub.load": (lambda marker: Call(torch.hub.load, str(marker), "x"), "torch.hub.load"),
    "torch.load": (lambda marker: Call(torch.load, str(marker)), "torch.serialization.load"),
    "a tensor method": (
        lambda marker: Call(torch.Tensor.apply_, torch.zeros(1), print),
        "builtins.getattr",
    ),
}


@pytest.fixture(params=PAYLOADS.values(), ids=PAYLOADS.keys())
def payload(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Call, str]:
    make, name = request.param
    return make(tmp_path / "marker"), name


def assert_refused(path: Path, name: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        contents_of(read_checkpoint(path))
    assert name in str(refused.value)
    assert path.name in str(refused.value)
    assert not (path.parent / "marker").exists()


def test_the_payload_would_run(tmp_path):
    """Otherwise the tests below prove nothing."""
    pickle.loads(pickle.dumps(PAYLOADS["os.system"][0](tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_in_a_plain_pickle(payload, tmp_path, protocol):
    held, name = payload
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(held, protocol))
    assert_refused(path, name)


@pytest.mark.parametrize("protocol", [2, 4])
def test_in_place_of_the_network(payload, tmp_path, zipped, protocol):
    held, name = payload
    path = tmp_path / "model.pth"
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_refused(path, name)


def as_value(held: Call) -> object:
    return {**network(8, 8).state_dict(), "extra": held}


def as_key(held: Call) -> object:
    return {held: torch.zeros(1)}


def as_attribute(held: Call) -> object:
    made = network(8, 8)
    made.extra = held
    return made


def as_a_child(held: Call) -> object:
    made = network(8, 8)
    made.phi_s._modules["hidden"] = held
    return made


def as_a_hook(held: Call) -> object:
    made = network(8, 8)
    made.transformer.layers[0]._forward_hooks[0] = held
    return made


def as_a_constant(held: Call) -> object:
    made = network(8, 8)
    made.topk = held
    return made


def deep_inside(held: Call) -> object:
    made = network(8, 8)
    made.extra = OrderedDict(a=[{"b": (1, {"c": [held]})}])
    return made


HIDING_PLACES = [as_value, as_key, as_attribute, as_a_child, as_a_hook, as_a_constant, deep_inside]


@pytest.mark.parametrize("hide", HIDING_PLACES)
def test_inside_a_checkpoint(tmp_path, hide, zipped):
    make, name = PAYLOADS["os.system"]
    path = save(hide(make(tmp_path / "marker")), tmp_path / "model.pth", zipped=zipped)
    assert_refused(path, name)


@pytest.mark.parametrize("number", range(1, 5))
def test_in_each_pickle_of_the_stream(payload, tmp_path, number):
    """Version, machine, object, storage keys."""
    held, name = payload
    pickles: list[object] = [MAGIC, 1001, {"little_endian": True}, {}, []]
    pickles[number] = held
    path = tmp_path / "model.pth"
    path.write_bytes(b"".join(pickle.dumps(one, 2) for one in pickles))
    assert_refused(path, name)


def short(text: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stacked(module: str, name: str) -> bytes:
    """STACK_GLOBAL."""
    return short(module) + short(name) + b"\x93"


TRICKS = {
    "dotted": (
        b"\x80\x04" + stacked("fti_qdrant.model.importer.files", "io.os.system") + b".",
        "fti_qdrant.model.importer.files.io.os.system",
    ),
    "dotted in an allowed module": (
        b"\x80\x04" + stacked("collections", "OrderedDict.fromkeys") + b".",
        "collections.OrderedDict.fromkeys",
    ),
    "dotted through torch.nn": (
        b"\x80\x04" + stacked("torch.nn.modules.linear", "Linear.__init__.__globals__") + b".",
        "torch.nn.modules.linear.Linear.__init__.__globals__",
    ),
    "split otherwise": (
        b"\x80\x04" + stacked("collections.OrderedDict", "") + b".",
        "OrderedDict.",
    ),
    "INST": (b"(S'touch {marker}'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch {marker}'\no.", "os.system"),
    "an extension": (b"\x80\x02\x82\x01.", "unregistered extension code 1"),
    "the inert classes themselves": (
        b"\x80\x04" + stacked("fti_qdrant.model.importer.stand_ins", "StoredModule") + b".",
        "fti_qdrant.model.importer.stand_ins.StoredModule",
    ),
    "a name to upset terminals": (b"c\x1b[31mos\nsystem\n.", "\\x1b[31mos.system"),
}


@pytest.mark.parametrize(("written", "name"), TRICKS.values(), ids=TRICKS.keys())
def test_tricks_with_names(tmp_path, written, name):
    path = tmp_path / "model.pth"
    path.write_bytes(written.replace(b"{marker}", str(tmp_path / "marker").encode()))
    assert_refused(path, name)


MODULE = b"ci2t_model\nIMG2TEXT\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STATE = b"}S'__setstate__'\nccollections\nOrderedDict\ns"

INERT = {
    "state of a class": MODULE + STATE + b"b.",
    "slots of a class": MODULE + b"N" + STATE + b"\x86b.",
    "slots of OrderedDict": b"ccollections\nOrderedDict\nN" + STATE + b"\x86b.",
    "state of a function": REBUILD + STATE + b"b.",
    "slots of a function": REBUILD + b"N" + STATE + b"\x86b.",
    "an activation's state": b"ctorch.nn.functional\nrelu\n" + STATE + b"b.",
    "a module that is no dictionary": MODULE + b")\x81K\x01b.",
    "a module with slots": MODULE + b")\x81N" + STATE + b"\x86b.",
    "a module with arguments": MODULE + b"(K\x01tR.",
    "a tensor of nothing": REBUILD + b")R.",
    "a tensor without a storage": REBUILD + b"(K\x01K\x00K\x01\x85K\x01\x85tR.",
    "a parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n(NNNtR.",
    "a call of a storage type": b"ctorch\nFloatStorage\n)R.",
}


@pytest.mark.parametrize("written", INERT.values(), ids=INERT.keys())
def test_stand_ins_cannot_be_changed_or_misused(tmp_path, written):
    before = {name: dict(vars(one)) for name, one in vars(StoredModule).items() if callable(one)}
    path = tmp_path / "model.pth"
    path.write_bytes(written)
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        contents_of(read_checkpoint(path))
    after = {name: dict(vars(one)) for name, one in vars(StoredModule).items() if callable(one)}
    assert before == after


def test_a_memo_number_that_would_take_all_memory(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(CheckpointError, match="memo"):
        read_checkpoint(path)


def test_a_network_within_itself(tmp_path):
    made = network(8, 8)
    made.phi_s._modules["again"] = made
    contents = contents_of(read_checkpoint(save(made, tmp_path / "model.pth")))
    assert set(contents.tensors) == set(network(8, 8).state_dict())


def test_many_names_for_one_module(tmp_path):
    """Forty layers of two names for the next: a walk of every path would never end."""
    made: torch.nn.Module = IMG2TEXT(8, 8)
    for _ in range(40):
        outer = IMG2TEXT(8, 8)
        outer._modules.update(left=made, right=made)
        made = outer
    contents = contents_of(read_checkpoint(save(made, tmp_path / "model.pth")))
    assert len(contents.tensors) == 41 * len(network(8, 8).state_dict())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive(tmp_path):
    path = tmp_path / "model.pth"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert_refused(path, "compressed")


def test_a_compressed_archive(tmp_path, checkpoint):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)


def test_a_tar_with_a_way_out(tmp_path):
    """torch.load would unpack it."""
    path = tmp_path / "model.pth"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("../marker")
        archive.addfile(entry, io.BytesIO())
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        read_checkpoint(path)
    assert not (tmp_path.parent / "marker").exists()
