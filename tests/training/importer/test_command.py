"""``fti-train import`` as it is typed, and the folder that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter
from fti_training.cli.main import main
from fti_training.importer.import_inverter import import_inverter
from fti_training.importer.output import OUR_FILES
from tests.model.importer.standins import save
from tests.model.importer.test_conversion import assert_answers_alike
from tests.model.importer.test_hostile import PAYLOADS, SYSTEM


def fti_train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], terminal_width=200)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_import(for_mini, checkpoint, tmp_path):
    out = tmp_path / "inverters" / "fti4cir"
    done = fti_train("import", checkpoint, "--backbone", "mini", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert "24 latent attributes, 3 layers, topk 12, epsilon 0.05" in done.stdout
    assert done.stdout.endswith(f"load it with Composer.load('mini', '{out}')\n")
    assert names(out) == sorted(OUR_FILES)
    assert names(out.parent) == ["fti4cir"]
    composer = Composer.load("mini", str(out), device="cpu")
    assert_answers_alike(composer.inverter, for_mini)


def test_hostile_file(tmp_path):
    path = tmp_path / "model.pth"
    held = PAYLOADS["os.system"][0](tmp_path / "marker")
    save({"templates": held}, path)
    done = fti_train("import", path, "--backbone", "mini", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: checkpoint '{path}' is refused: it names '{SYSTEM}'")
    assert names(tmp_path) == ["model.pth"]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("ViT-B-32-quickgelu/openai", "trained with width 192, d 192, t 192"),
        ("ViT-L-14/openai", "use ViT-L-14-quickgelu/openai"),
    ],
)
def test_another_backbone(checkpoint, tmp_path, backbone, message):
    done = fti_train("import", checkpoint, "--backbone", backbone, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert names(tmp_path) == []


def test_help():
    done = fti_train("import", "--help")
    assert "fti-train import FTI4CIR_model.pth --backbone ViT-L-14-quickgelu/openai" in done.stdout
    assert "import" in fti_train("--help").stdout


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with another inverter."""
    Inverter(8, 8, 8).save_pretrained(tmp_path / "out")
    (tmp_path / "out" / "README.md").unlink()
    return tmp_path / "out"


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_inverter_is_not_replaced_unasked(checkpoint, for_mini, out):
    before = state(out)
    with pytest.raises(CheckpointError, match=r"already holds an inverter.*--force"):
        import_inverter(checkpoint, "mini", out)
    assert state(out) == before
    import_inverter(checkpoint, "mini", out, force=True)
    assert names(out) == sorted(OUR_FILES)
    assert_answers_alike(load_inverter(str(out)), for_mini)
    assert names(out.parent) == ["out"]


def test_what_is_no_inverter_s_is_never_replaced(checkpoint, out):
    (out / "notes.txt").write_text("mine")
    before = state(out)
    with pytest.raises(CheckpointError, match=r"holds 'notes\.txt'"):
        import_inverter(checkpoint, "mini", out, force=True)
    assert state(out) == before


def test_an_empty_folder_is_as_good_as_none(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    import_inverter(checkpoint, "mini", tmp_path / "out")
    assert names(tmp_path / "out") == sorted(OUR_FILES)


def test_a_file_as_the_folder(checkpoint, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file"):
        import_inverter(checkpoint, "mini", tmp_path / "out", force=True)
    with pytest.raises(CheckpointError, match="cannot be written"):
        import_inverter(checkpoint, "mini", tmp_path / "out" / "deeper")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_refused_file_leaves_the_old_inverter(tmp_path, out):
    before = state(out)
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError):
        import_inverter(tmp_path / "model.pth", "mini", out, force=True)
    assert state(out) == before


@pytest.mark.parametrize("failing", ["save_pretrained", "rename"])
def test_a_full_disk_leaves_nothing_half_written(checkpoint, out, monkeypatch, failing):
    before = state(out)

    def torn(self, folder, **_):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    rename = Path.rename

    def refused(self, target):
        if self.name == "inverter":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    if failing == "rename":
        monkeypatch.setattr(Path, "rename", refused)
    else:
        monkeypatch.setattr(Inverter, "save_pretrained", torn)
    for folder, force in ((out, True), (out.with_name("new"), False)):
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
            import_inverter(checkpoint, "mini", folder, force=force)
    assert state(out) == before
    assert names(out.parent) == ["out"]
