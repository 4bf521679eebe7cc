"""Checkpoint files and where they are kept: complete or not there, and never unpickled."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fti_qdrant.errors import CheckpointError, FtiError, OutputUnavailable
from fti_training.loop import checkpoint_file
from fti_training.loop.checkpoint_storage import CheckpointStorage


class Killed(BaseException):
    pass


@pytest.fixture
def module() -> nn.Module:
    return nn.Linear(3, 2)


@pytest.fixture
def optimizer(module: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return optimizer


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "cut to its header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path: path.write_bytes(b""),
    "not safetensors": lambda path: path.write_text("step 6"),
    "without facts": lambda path: save_file({"a": torch.zeros(1)}, path),
    "facts of something else": lambda path: save_file({}, path, metadata={"facts": "{"}),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused(damage, module, optimizer, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint_file.save(path, module, optimizer, {"step": 6})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    damage(path)
    with pytest.raises(CheckpointError, match=r"state\.safetensors.*delete its folder"):
        checkpoint_file.load(path, module, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_an_interrupted_write_leaves_the_last_file(
    module, optimizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint_file.save(path, module, optimizer, {"step": 2})
    before = path.read_bytes()

    def torn(tensors, path, metadata):
        Path(path).write_bytes(before[:100])
        raise Killed

    monkeypatch.setattr(checkpoint_file, "save_file", torn)
    with pytest.raises(Killed):
        checkpoint_file.save(path, module, optimizer, {"step": 4})
    assert path.read_bytes() == before


def test_facts_come_back_and_the_file_is_safetensors(module, optimizer, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    facts = {"step": 3, "identity": {"name": "一"}}
    checkpoint_file.save(path, module, optimizer, facts)
    assert checkpoint_file.load(path, module, optimizer) == facts
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def write(storage: CheckpointStorage, step: int, score: float | None = None) -> None:
    figures = {} if score is None else {"R": score}
    storage.write(step, figures, lambda folder: (folder / "step.txt").write_text(str(step)))


def steps(storage: CheckpointStorage) -> list[int]:
    return [one.step for one in storage.stored()]


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStorage:
    """A folder whose name would be a pattern, or a file system that is not this machine's."""
    place = str(tmp_path / "run [1]") if request.param == "local" else f"memory://{tmp_path}/run"
    return CheckpointStorage.at(place, "R")


def test_the_newest_two_and_the_best_are_kept(storage: CheckpointStorage) -> None:
    assert storage.newest() is None
    assert storage.best() is None
    for step, score in ((5, 0.1), (10, 0.4), (15, 0.4), (20, 0.2), (25, 0.3)):
        write(storage, step, score)
    assert steps(storage) == [10, 20, 25]
    assert len(storage.system.ls(storage.folder)) == 3
    best, restored = storage.best(), []
    assert best is not None
    with storage.opened(best) as folder:
        assert (folder / "step.txt").read_text() == "10"
    storage.restore_newest(lambda folder: restored.append((folder / "step.txt").read_text()))
    assert restored == ["25"]


def test_without_a_validation_there_is_no_best(storage: CheckpointStorage) -> None:
    write(storage, 5)
    assert storage.best() is None


def test_a_checkpoint_that_was_not_finished_does_not_count(storage: CheckpointStorage) -> None:
    write(storage, 5)
    for torn in ("step-00000010", "step-00000010.part"):
        storage.system.makedirs(f"{storage.folder}/{torn}")
        storage.system.pipe_file(f"{storage.folder}/{torn}/step.txt", b"1")
    assert steps(storage) == [5]
    write(storage, 10)
    assert steps(storage) == [5, 10]


def test_a_failed_write_is_an_error_of_ours_and_leaves_the_last(storage: CheckpointStorage) -> None:
    write(storage, 5)

    def full(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputUnavailable, match=r"step 10 cannot.*No space left.*--resume"):
        storage.write(10, {}, full)
    assert steps(storage) == [5]


@pytest.mark.parametrize("index", ["", "{", '{"step": 5}', '{"step": "a", "figures": {}}'])
def test_a_damaged_index_is_refused(storage: CheckpointStorage, index: str) -> None:
    write(storage, 5)
    name = f"{storage.folder}/step-00000005/checkpoint.json"
    storage.system.pipe_file(name, index.encode())
    with pytest.raises(CheckpointError, match="step-00000005' cannot be used"):
        storage.newest()


def test_checkpoints_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint_manager_snapshot.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="earlier version"):
        CheckpointStorage.at(str(tmp_path)).newest()


def test_a_worker_that_does_not_see_the_folder(tmp_path: Path) -> None:
    storage = CheckpointStorage.at(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"does not see .*--storage"):
        storage.check_shared()
    storage.make_folder()
    storage.check_shared()


def test_an_unknown_protocol() -> None:
    with pytest.raises(FtiError, match="Protocol not known: nowhere"):
        CheckpointStorage.at("nowhere://x")
