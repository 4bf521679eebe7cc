"""Files that are damaged, are something else, or hold other weights: always one CheckpointError."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.contents import contents_of
from fti_qdrant.model.importer.files import MAGIC, errors_name, read_checkpoint
from fti_qdrant.model.importer.import_checkpoint import import_checkpoint
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from tests.model.importer.conftest import MINI_SIZES
from tests.model.importer.standins import network, save


@pytest.fixture(scope="module", params=["zip", "stream"])
def small(request, tmp_path_factory) -> tuple[bytes, Path]:
    """A small checkpoint's bytes, and where to put changed ones."""
    path = tmp_path_factory.mktemp("small") / "model.pth"
    save(network(4, 4, num_k=2, topk=2), path, zipped=request.param == "zip")
    return path.read_bytes(), path.with_name("changed.pth")


def read(path: Path, written: bytes) -> None:
    path.write_bytes(written)
    loaded = read_checkpoint(path)
    with errors_name(path):
        contents_of(loaded)


@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=150, deadline=None)
def test_truncated(small, part):
    data, path = small
    with pytest.raises(CheckpointError, match=r"changed\.pth"):
        read(path, data[: int(part * len(data))])


@pytest.mark.parametrize("cut", [1, 2, 21, 22, 23, 64, 200])
def test_the_end_is_missing(small, cut):
    data, path = small
    with pytest.raises(CheckpointError, match=r"changed\.pth"):
        read(path, data[:-cut])


@given(place=st.floats(0, 1, exclude_max=True), value=st.binary(min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_overwritten_bytes(small, place, value):
    """A changed file is read or refused; it never raises anything else."""
    data, path = small
    at = int(place * len(data))
    try:
        read(path, data[:at] + value + data[at + len(value) :])
    except CheckpointError as error:
        assert "changed.pth" in str(error)  # noqa: PT017


@given(data=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_pickle_opcodes(small, data):
    with pytest.raises(CheckpointError, match=r"changed\.pth"):
        read(small[1], b"\x80\x02" + data)


def write_jpeg(path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(path, "JPEG")


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no tensors")


def write_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def write_cut_safetensors(path: Path) -> None:
    write_safetensors(path)
    path.write_bytes(path.read_bytes()[:-3])


def write_ours(path: Path) -> None:
    save_file(Inverter(4, 4, 4).state_dict(), path)


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "missing": (lambda path: None, "does not exist"),
    "a picture": (write_jpeg, "is not a checkpoint"),
    "text": (
        lambda path: path.write_text("<!DOCTYPE html><html>404</html>"),
        "is not a checkpoint but a web page",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "is not a checkpoint"),
    "a plain pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a plain pickle"),
    "another archive": (write_zip, "no data.pkl"),
    "other safetensors": (write_safetensors, "it has no tensor 'templates'"),
    "cut safetensors": (write_cut_safetensors, "safetensors '/"),
    "our own safetensors": (write_ours, "an inverter of fti-qdrant, and needs no conversion"),
    "our own weights, pickled": (
        lambda path: torch.save(Inverter(4, 4, 4).state_dict(), path),
        "an inverter of fti-qdrant, and needs no conversion",
    ),
    "our own folder": (
        lambda path: save_inverter(Inverter(4, 4, 4), path),
        "needs no conversion: pass the folder",
    ),
    "a pointer of Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is not a checkpoint but a pointer of Git LFS",
    ),
    "the first pickle alone": (
        lambda path: path.write_bytes(pickle.dumps(MAGIC, 2)),
        "is not a checkpoint",
    ),
    "a tensor": (lambda path: torch.save(torch.zeros(2), path), "no network and no state dict"),
    "a number": (lambda path: torch.save(3, path), "it holds a int"),
    "a state dict inside": (
        lambda path: torch.save({"state_dict": {}, "epoch": 3}, path),
        "the value at 'state_dict' is a dict, no tensor",
    ),
    "no tensors": (lambda path: torch.save({}, path), "not an FTI4CIR network"),
    "part of the network": (
        lambda path: save(network(4, 4).phi_s, path),
        "it holds a Phi, not an IMG2TEXT",
    ),
    "another network": (
        lambda path: torch.save(torch.nn.Conv2d(1, 1, 1), path),
        "it holds a Conv2d, not an IMG2TEXT",
    ),
}


@pytest.mark.parametrize(("write", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_no_checkpoint_of_the_authors(tmp_path, write, message):
    write(tmp_path / "model.pth")
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint(tmp_path / "model.pth")
    assert message in str(refused.value)
    assert "model.pth" in str(refused.value)


State = dict[str, Tensor]
FC1 = "transformer.layers.1.mlp.fc1.weight"


def without(prefix: str) -> Callable[[State], State]:
    return lambda state: {k: v for k, v in state.items() if not k.startswith(prefix)}


def with_value(name: str, value: Tensor) -> Callable[[State], State]:
    return lambda state: {**state, name: value}


def with_a_spoilt(value: float) -> Callable[[State], State]:
    def change(state: State) -> State:
        spoilt = state[FC1].clone()
        spoilt[3, 4] = value
        return {**state, FC1: spoilt}

    return change


def with_a_fourth_layer(state: State) -> State:
    more = {k.replace(".2.", ".3."): v for k, v in state.items() if "layers.2." in k}
    return {**state, **more}


OTHER_WEIGHTS: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (without("phi_a.layers.3.bias"), "1 tensors are missing: 'phi_a.layers.3.bias'"),
    "no templates": (without("templates"), "no tensor 'templates'"),
    "two layers": (without("transformer.layers.2"), "12 tensors are missing: 'transformer.la"),
    "four layers": (with_a_fourth_layer, "not part of the method: 'transformer.layers.3."),
    "extra": (with_value("temperature", torch.ones(1)), "not part of the method: 'temperature'"),
    "query bias": (
        with_value("transformer.layers.0.attn.to_queries.bias", torch.ones(192)),
        "not part of the method",
    ),
    "transposed": (lambda state: {**state, FC1: state[FC1].T}, f"{FC1} is (192, 384), not (384"),
    "a scalar": (with_value(FC1, torch.tensor(1.0)), f"{FC1} is (), not"),
    "templates of 2 dimensions": (with_value("templates", torch.zeros(24, 192)), "(24, 192)"),
    "no latents": (with_value("templates", torch.zeros(1, 0, 192)), "(1, 0, 192)"),
    "flat layers": (with_value("phi_s.layers.0.weight", torch.zeros(5)), "no matrices"),
    "integers": (with_value(FC1, torch.ones(384, 192, dtype=torch.int64)), "no real numbers"),
    "NaN": (with_a_spoilt(float("nan")), f"{FC1} holds values that are not finite"),
    "infinity": (with_a_spoilt(float("inf")), f"{FC1} holds values that are not finite"),
    "repeated values": (with_value(FC1, torch.zeros(1).expand(384, 192)), "too few"),
}


@pytest.mark.parametrize(("change", "message"), OTHER_WEIGHTS.values(), ids=OTHER_WEIGHTS.keys())
def test_other_weights(for_mini, tmp_path, change, message):
    path = save(change(for_mini.state_dict()), tmp_path / "state.pth")
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint(path)
    assert message in str(refused.value)
    assert "state.pth" in str(refused.value)


@pytest.mark.parametrize("layers", [2, 4])
def test_a_network_of_another_depth(tmp_path, layers):
    path = save(network(*MINI_SIZES, num_layers=layers), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"tensors are .*'transformer\.layers\.[23]\."):
        import_checkpoint(path)


def test_a_module_that_was_never_initialized(tmp_path):
    made = network(4, 4)
    del made.phi_s.__dict__["_parameters"]
    path = save(made, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="Phi has no _parameters"):
        contents_of(read_checkpoint(path))


def test_types_that_no_weights_have_are_named(tmp_path):
    path = tmp_path / "state.pth"
    torch.save({"a": torch.ones(3, dtype=torch.complex64)}, path)
    with pytest.raises(CheckpointError, match=r"torch\.ComplexFloatStorage"):
        read_checkpoint(path)
