"""Inverters by name: known ones, files, and repositories of the hub, with and without a network."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from fti_qdrant.errors import CheckpointError, HubUnavailable, UnsupportedModel
from fti_qdrant.model.hub import HubName, fetching, quiet
from fti_qdrant.model.importer import converted
from fti_qdrant.model.importer.converted import RECORD_FILE, cache_folder
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter, save_inverter
from fti_qdrant.model.loading import load_model
from fti_qdrant.model.names import MINI
from tests.model.hub_standin import Hub, hub_standin
from tests.model.importer.standins import IMG2TEXT, network, on_two_cards, save, saved_on
from tests.model.importer.test_conversion import assert_answers_alike
from tests.model.importer.test_hostile import PAYLOADS

SIZES = (24, 16)
AUTHORS = "iLearn-Lab/SIGIR24-FTI4CIR"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``HF_HOME`` would set it; the constants are read once, at import."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def authors() -> IMG2TEXT:
    torch.manual_seed(5)
    return network(*SIZES)


@pytest.fixture(scope="module")
def checkpoint(authors: IMG2TEXT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: saved on a graphics card, as a whole network."""
    with saved_on("cuda:0"):
        return save(on_two_cards(authors), tmp_path_factory.mktemp("authors") / "img2text.pth")


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """As ``HF_ENDPOINT`` would set it."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)
    monkeypatch.setattr(constants, "ENDPOINT", url)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_standin() as standin:
        use_endpoint(monkeypatch, standin.endpoint)
        yield standin


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cut_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")


def converted_folders() -> list[Path]:
    return [path for path in cache_folder().glob("*") if path.is_dir()]


def never(*_: object, **__: object) -> Any:
    raise AssertionError("converted again")


def test_the_published_inverter_by_name(hub, checkpoint, authors, monkeypatch):
    held = checkpoint.read_bytes()
    commit = hub.put(AUTHORS, {"README.md": b"# FTI4CIR", "img2text.pth": held})
    assert_answers_alike(load_inverter("fti4cir"), authors)
    [folder] = converted_folders()
    assert json.loads((folder / RECORD_FILE).read_text()) == {
        "imported_from": {
            "file": "img2text.pth",
            "sha256": hashlib.sha256(held).hexdigest(),
            "repository": AUTHORS,
            "revision": commit,
        }
    }
    monkeypatch.setattr(converted, "import_checkpoint", never)
    hub.asked.clear()
    assert_answers_alike(load_inverter("fti4cir"), authors)
    assert hub.asked
    assert not any(one.startswith("GET") and "/resolve/" in one for one in hub.asked)


@pytest.mark.parametrize("break_off", [go_offline, cut_the_network])
def test_what_was_fetched_once_needs_no_network(hub, checkpoint, authors, monkeypatch, break_off):
    hub.put(AUTHORS, {"img2text.pth": checkpoint.read_bytes()})
    load_inverter("fti4cir")
    break_off(monkeypatch)
    start = time.monotonic()
    assert_answers_alike(load_inverter("fti4cir"), authors)
    assert time.monotonic() - start < 5, "no retries"
    shutil.rmtree(cache_folder())
    assert_answers_alike(load_inverter("fti4cir"), authors)


@pytest.mark.parametrize(
    ("break_off", "reason"),
    [(go_offline, "HF_HUB_OFFLINE=1 is set"), (cut_the_network, "cannot be reached: ")],
)
@pytest.mark.parametrize("name", ["fti4cir", "me/mine", "me/mine@v2", "me/mine:a.pth"])
def test_without_a_network_one_line_says_so(monkeypatch, capfd, break_off, reason, name):
    break_off(monkeypatch)
    with pytest.raises(HubUnavailable) as refused:
        load_inverter(name)
    message = str(refused.value)
    assert message.startswith(f"inverter {name!r} cannot be loaded: ")
    assert reason in message
    assert str(constants.HF_HUB_CACHE) in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_other_revisions_are_not_taken_for_the_one_asked_for(hub, monkeypatch):
    files = folder_bytes(Inverter(8, 4, 4))
    commit = hub.put("me/mine", files)
    load_inverter("me/mine")
    go_offline(monkeypatch)
    assert load_inverter(f"me/mine@{commit}").sizes == (8, 4, 4)
    with pytest.raises(HubUnavailable, match="'me/mine' at 'v2' is not in the cache"):
        load_inverter("me/mine@v2")


def folder_bytes(inverter: Inverter) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_inverter(inverter, Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_an_inverter_of_ours_on_the_hub(hub, monkeypatch):
    first, second = Inverter(8, 4, 4), Inverter(8, 4, 4)
    hub.put("me/mine", folder_bytes(first))
    hub.put("me/mine", folder_bytes(second), "v2")
    monkeypatch.setattr(converted, "import_checkpoint", never)
    assert load_inverter("me/mine").weights_hash == first.weights_hash
    assert load_inverter("me/mine@v2").weights_hash == second.weights_hash


def test_a_new_commit_is_fetched(hub):
    hub.put("me/mine", folder_bytes(Inverter(8, 4, 4)))
    load_inverter("me/mine")
    newer = Inverter(8, 4, 4)
    hub.put("me/mine", folder_bytes(newer))
    assert load_inverter("me/mine").weights_hash == newer.weights_hash


def test_one_of_several_files(hub, tmp_path):
    first, second = network(*SIZES), network(*SIZES)
    files = {
        f"{name}.pth": save(one, tmp_path / name).read_bytes()
        for name, one in (("first", first), ("second", second))
    }
    hub.put("me/both", files)
    with pytest.raises(CheckpointError, match=r"2 checkpoints: first\.pth, second\.pth; name one"):
        load_inverter("me/both")
    assert_answers_alike(load_inverter("me/both:second.pth"), second)
    assert_answers_alike(load_inverter("me/both@main:first.pth"), first)


def test_a_config_of_the_authors_own_does_not_matter(hub, checkpoint, authors):
    files = {"config.json": b'{"num_k": 24, "lr": 4e-5}', "model.pt": checkpoint.read_bytes()}
    hub.put("me/theirs", files)
    assert_answers_alike(load_inverter("me/theirs"), authors)


WITHOUT = {
    "nothing": ({}, "holds no checkpoint: .*it holds nothing"),
    "no checkpoint": (
        {"README.md": b"", "train.py": b""},
        r"holds no checkpoint: .*it holds README\.md, train\.py",
    ),
    "a model of transformers": (
        {"config.json": b'{"architectures": ["CLIPModel"]}', "model.safetensors": b"large"},
        r"holds another model \(CLIPModel\)",
    ),
    "another model of transformers": (
        {"config.json": b'{"model_type": "blip"}', "pytorch_model.bin": b"large"},
        r"holds another model \(blip\)",
    ),
    "a model of open_clip": (
        {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"large"},
        "holds a CLIP model and no inverter",
    ),
    "no weights": ({"config.json": b'{"width": 8, "dim": 4, "token_dim": 4}'}, "has config.json a"),
    "a broken config": ({"config.json": b"{", "model.safetensors": b""}, "that is not JSON"),
}


@pytest.mark.parametrize(("files", "message"), WITHOUT.values(), ids=WITHOUT.keys())
def test_a_repository_without_an_inverter_is_named(hub, tmp_path, files, message):
    hub.put("me/else", files)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_inverter("me/else")
    assert "repository 'me/else'" in str(refused.value)
    assert not any("GET" in one and "large" in one for one in hub.asked)
    folder = tmp_path / "else"
    folder.mkdir()
    for name, held in files.items():
        (folder / name).write_bytes(held)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_inverter(str(folder))
    assert str(folder) in str(refused.value)


def test_what_the_hub_does_not_have(hub):
    hub.put("me/mine", folder_bytes(Inverter(8, 4, 4)))
    hub.gated.add("me/closed")
    for name, message in {
        "me/nothing": "there is no repository 'me/nothing' on the hub, or it is private",
        "runs/first": "it is no file or folder here, and there is no repository",
        "me/mine@v9": "has no revision 'v9'",
        "me/mine:model.pth": "has no file 'model.pth'; it has config.json, model.safetensors",
        "me/closed": "accept its terms",
        "me/a--b": "is no name of a repository",
    }.items():
        with pytest.raises(CheckpointError) as refused:
            load_inverter(name)
        assert message in str(refused.value)
        assert not isinstance(refused.value, HubUnavailable)


def test_a_download_that_breaks_off(hub, checkpoint, authors, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.put("me/theirs", {"model.pth": checkpoint.read_bytes()})
    hub.breaks.add("model.pth")
    with pytest.raises(HubUnavailable, match=r"'model\.pth' of 'me/theirs' cannot be fetched"):
        load_inverter("me/theirs")
    assert converted_folders() == []
    hub.breaks.clear()
    assert_answers_alike(load_inverter("me/theirs"), authors)


def test_a_hostile_checkpoint_on_the_hub(hub, tmp_path):
    made = network(*SIZES)
    made.extra = PAYLOADS["os.system"][0](tmp_path / "marker")
    hub.put("me/bad", {"model.pth": save(made, tmp_path / "model.pth").read_bytes()})
    with pytest.raises(CheckpointError, match=r"inverter 'me/bad' cannot be loaded: .*system"):
        load_inverter("me/bad")
    assert not (tmp_path / "marker").exists()
    assert converted_folders() == []


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_a_checkpoint_on_this_machine(tmp_path, checkpoint, authors, suffix):
    path = tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        save_file(authors.state_dict(), path)
    else:
        shutil.copy(checkpoint, path)
    assert_answers_alike(load_inverter(str(path)), authors)
    assert_answers_alike(load_inverter(str(path)), authors)
    assert len(converted_folders()) == 1
    (tmp_path / "folder").mkdir()
    shutil.move(path, tmp_path / "folder" / path.name)
    assert_answers_alike(load_inverter(str(tmp_path / "folder")), authors)
    assert len(converted_folders()) == 1, "the content counts, not the path"


def test_a_changed_checkpoint_is_converted_anew(tmp_path, checkpoint):
    path = tmp_path / "model.pth"
    shutil.copy(checkpoint, path)
    load_inverter(str(path))
    other = network(*SIZES)
    save(other, path)
    assert_answers_alike(load_inverter(str(path)), other)


def test_the_weights_of_ours_beside_their_config(tmp_path):
    inverter = Inverter(8, 4, 4)
    save_inverter(inverter, tmp_path / "mine")
    loaded = load_inverter(str(tmp_path / "mine" / "model.safetensors"))
    assert loaded.weights_hash == inverter.weights_hash


def test_mini_by_name(tmp_path, monkeypatch):
    expected = load_inverter(str(MINI / "inverter")).weights_hash
    assert load_inverter("mini").weights_hash == expected
    monkeypatch.chdir(tmp_path)
    (
        tmp_path / "mini"
    ).mkdir()  # as fti-train mini --out mini leaves it, without an inverter's config
    assert load_inverter("mini").weights_hash == expected
    mine = Inverter(8, 4, 4)
    save_inverter(mine, tmp_path / "fti4cir")
    assert load_inverter("fti4cir").weights_hash == mine.weights_hash


def test_a_run_of_training_names_its_inverter(tmp_path):
    save_inverter(Inverter(8, 4, 4), tmp_path / "run" / "inverter")
    (tmp_path / "run" / "log.csv").write_text("step\n")
    with pytest.raises(CheckpointError, match=r"did you mean '.*run/inverter'"):
        load_inverter(str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["no/such/folder", "fti4", "./model.pth", "/no/model.pth", ""])
def test_no_name_of_anything(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        load_inverter(name)
    assert repr(name) in str(refused.value) or "folder" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_cache_is_rebuilt(tmp_path, checkpoint, authors):
    load_inverter(str(checkpoint))
    [folder] = converted_folders()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert_answers_alike(load_inverter(str(checkpoint)), authors)
    assert_answers_alike(load_inverter(str(folder)), authors)


def test_a_cache_that_cannot_be_written(tmp_path, checkpoint, authors, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert_answers_alike(load_inverter(str(checkpoint)), authors)


def test_processes_that_start_together_convert_once(checkpoint, monkeypatch):
    convert, calls = converted.import_checkpoint, []

    def slow(*arguments: Any, **options: Any) -> Inverter:
        calls.append(arguments)
        time.sleep(0.2)
        return convert(*arguments, **options)

    monkeypatch.setattr(converted, "import_checkpoint", slow)
    threads = [threading.Thread(target=load_inverter, args=(str(checkpoint),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("model", "warned"),
    [
        ("ViT-L-14-quickgelu/openai", False),
        ("hf:openai/clip-vit-large-patch14", False),
        ("ViT-L-14/laion2b_s32b_b82k", True),
    ],
)
def test_another_backbone_of_the_same_sizes(hub, checkpoint, caplog, model, warned):
    hub.put(AUTHORS, {"img2text.pth": checkpoint.read_bytes()})
    load_inverter("fti4cir", model)
    assert ("was trained with ViT-L-14-quickgelu/openai" in caplog.text) is warned


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b", HubName("a/b")),
        ("a/b@v1", HubName("a/b", "v1")),
        ("a/b@refs/pr/3:dir/x.pth", HubName("a/b", "refs/pr/3", "dir/x.pth")),
        ("a/b:x.pth", HubName("a/b", "main", "x.pth")),
        ("a", None),
        ("a/b/c", None),
        ("./b", None),
        ("../b", None),
        ("/b", None),
        ("a/b@", None),
        ("a b/c", None),
    ],
)
def test_names_on_the_hub(text, name):
    assert HubName.parse(text) == name


def test_retries_are_not_printed(caplog, monkeypatch):
    monkeypatch.setattr(logging.root.manager, "disable", 0)  # another test's bench may set it
    caplog.set_level(logging.WARNING, "huggingface_hub")
    lines: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record)

    library, handler = logging.getLogger("huggingface_hub"), Kept()
    library.addHandler(handler)
    try:
        logger = logging.getLogger("huggingface_hub.utils._http")
        with quiet():
            logger.warning("Retrying in 1s [Retry 1/5].")
            with quiet():
                logger.warning("Retrying in 2s [Retry 2/5].")
            logger.warning("Retrying in 4s [Retry 3/5].")
            logger.error("kept")
        logger.warning("kept too")
    finally:
        library.removeHandler(handler)
    assert [record.getMessage() for record in lines] == ["kept", "kept too"]


@pytest.mark.parametrize("break_off", [go_offline, cut_the_network])
@pytest.mark.parametrize(
    "name", ["hf-hub:me/clip", "hf:me/clip", "ViT-B-32/laion2b_s34b_b79k", "hf:me/clip@v2"]
)
def test_a_backbone_without_a_network_is_refused_at_once(monkeypatch, capfd, break_off, name):
    """By open_clip and by transformers: in silence, and without half a minute of retries."""
    break_off(monkeypatch)
    offline = constants.HF_HUB_OFFLINE
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters)
    start = time.monotonic()
    with pytest.raises(UnsupportedModel) as refused:
        load_model(name)
    assert time.monotonic() - start < 10
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert constants.HF_HUB_OFFLINE is offline
    assert (root.handlers, root.filters) == before


def test_offline_mode_ends_with_the_last_thread_that_needs_it(monkeypatch):
    cut_the_network(monkeypatch)
    with fetching():
        with fetching():
            assert constants.HF_HUB_OFFLINE
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked_once(hub):
    for _ in range(2):
        with fetching():
            assert not constants.HF_HUB_OFFLINE
    assert hub.asked == ["HEAD /"]
