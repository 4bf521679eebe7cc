"""A model that has learned few words reads a text without the others, and says which."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.closed_vocabulary import VOCABULARY_FILE, ClosedVocabulary, words_in
from fti_qdrant.model.names import MINI

LEARNED = ClosedVocabulary(frozenset(["with", "dark", "skin", "medium-light", "o'clock", ","]))


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return Backbone.load("mini", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model, without its vocabulary."""
    folder = tmp_path_factory.mktemp("open")
    for path in MINI.glob("open_clip*"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("text", "read", "left_out"),
    [
        ("with dark skin", "with dark skin", ()),
        ("I would prefer dark skin!", "dark skin", ("I", "would", "prefer", "!")),
        ("WITH  Dark\tskin,", "WITH Dark skin ,", ()),
        ("dark-skinned", "dark", ("skinned",)),
        ("medium-light skin", "medium-light skin", ()),
        ("at 6 o'clock", "o'clock", ("at", "6")),
        ("qwerty", "qwerty", ()),
        ("深色皮肤", "深色皮肤", ()),
        ("", "", ()),
        ("  ", "  ", ()),
        ("darkness", "darkness", ()),
    ],
)
def test_only_learned_words_are_read(text: str, read: str, left_out: tuple[str, ...]) -> None:
    assert LEARNED.read(text) == read
    assert LEARNED.left_out(text) == left_out


def test_every_word_is_read_or_left_out() -> None:
    text = "What about a dark-haired one, with medium-light skin (please)?"
    kept, out = LEARNED.read(text).split(), LEARNED.left_out(text)
    assert words_in([text.replace("dark-haired", "dark haired")]) == {
        word.lower() for word in (*kept, *out)
    }


def test_mini_gives_a_text_with_unknown_words_the_features_without_them(mini: Backbone) -> None:
    asked, known = mini.texts(["kindly imagine a woman", "with red hair"]), mini.texts(["a woman"])
    torch.testing.assert_close(asked[:1], known)
    assert mini.learned is not None
    assert mini.learned.left_out("with red hair") == ()


def test_the_words_of_the_prompts_are_always_read(folder: Path, mini: Backbone) -> None:
    (folder / VOCABULARY_FILE).write_text("dog\n", encoding="utf-8")
    backbone = Backbone.load(f"local-dir:{folder}", device="cpu", precision="fp32")
    assert backbone.prompts.prefix == mini.prompts.prefix
    text = backbone.prompts.composed([[1]], ["the big DOG"])
    assert text.ids[0].tolist() == mini.prompts.composed([[1]], ["dog"]).ids[0].tolist()
    assert pickle.loads(pickle.dumps(backbone.vocabulary)).encode("a cat") == (
        backbone.vocabulary.encode("a")
    )


def test_a_model_without_the_file_reads_every_word(folder: Path) -> None:
    (folder / VOCABULARY_FILE).unlink(missing_ok=True)
    backbone = Backbone.load(f"local-dir:{folder}", device="cpu", precision="fp32")
    assert backbone.learned is None
    assert len(backbone.vocabulary.encode("I would prefer a woman")) == 5


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / VOCABULARY_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=VOCABULARY_FILE):
        ClosedVocabulary.beside(tmp_path)


def test_the_packaged_vocabulary_has_the_words_of_training_and_no_others() -> None:
    learned = ClosedVocabulary.beside(MINI)
    assert learned is not None
    assert {"woman", "medium-dark", "instead", "o'clock", "firefighter"} <= learned.words
    assert {"would", "is", "has"} <= learned.words  # of the training paraphrases
    assert not {"prefer", "imagine", "rather", "becomes"} & learned.words  # of the unused ones
