"""Backend openvino: the same features, queries and pseudo-words as PyTorch's."""

from __future__ import annotations

import builtins
import logging
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model import cpu, openvino_backend, openvino_models, precision
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from tests.model.open_clip_models import save_family

if find_spec("openvino") is None:  # looked for without importing it, which would report that
    pytest.skip("needs openvino", allow_module_level=True)

TEXTS = ["a photo of red dress", "", "red", "blue " * 100]
MIN_COSINE = 0.999
FAMILIES = ["siglip", "roberta", "resnet"]
"""Beside the ViT of the composers: each kind of tower that is converted in its own way."""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def both(name: str, precision: str = "fp32") -> tuple[Backbone, Backbone]:
    return (
        Backbone.load(name, device="cpu", precision="fp32"),
        Backbone.load(name, precision=precision, backend="openvino"),
    )


def check_close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    assert torch.cosine_similarity(ours, exact, dim=-1).min() > MIN_COSINE
    assert (ours.norm(dim=-1) / exact.norm(dim=-1) - 1).abs().max() < 1e-2


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_towers_of_every_family(family: str, folder: Path, pictures: list[Image.Image]) -> None:
    exact, ours = both(save_family(family, folder / family))
    assert (ours.backend, ours.dim, ours.device.type) == ("openvino", exact.dim, "cpu")
    assert ours.abilities == exact.abilities
    assert ours.fingerprint.matches(exact.fingerprint)
    for some in (pictures[:1], pictures[:3]):
        features, expected = ours.image_features(some), exact.image_features(some)
        check_close(features.pooled, expected.pooled)
        assert (features.tokens is None) == (expected.tokens is None)
        if expected.tokens is not None:
            check_close(features.required_tokens(), expected.tokens)
    for texts in (TEXTS[:1], TEXTS, TEXTS * 20):
        check_close(ours.texts(texts), exact.texts(texts))
    assert ours.tokenize(TEXTS).truncated == exact.tokenize(TEXTS).truncated


@pytest.fixture(scope="module")
def composers(folder: Path, tiny_composer: Composer) -> tuple[Composer, Composer]:
    """A ViT with an inverter, by both backends."""
    name = save_family("vit", folder / "composed")
    torch.manual_seed(2)
    inverter = Inverter.for_backbone(Backbone.load(name, device="cpu"), project_relevance=True)
    with torch.no_grad():
        inverter.to_local.weight.mul_(3)
    save_inverter(inverter, folder / "inverter")
    load = {"model": name, "inverter": str(folder / "inverter"), "precision": "fp32"}
    return Composer.load(**load, device="cpu"), Composer.load(**load, backend="openvino")


def test_every_composer(composers: tuple[Composer, Composer], pictures: list[Image.Image]) -> None:
    exact, ours = composers
    texts = ["in red", "", "a photo of blue dress with long sleeves and more", "red"]
    for name in composer_names():
        options = {"avoid": ["blue", "", "", "dress"]}
        check_close(
            ours.compose(pictures[:4], texts, name, **options),
            exact.compose(pictures[:4], texts, name, **options),
        )


def test_pseudo_words(composers: tuple[Composer, Composer], pictures: list[Image.Image]) -> None:
    exact, ours = (one.image_references(pictures).words for one in composers)
    assert exact is not None
    assert ours is not None
    assert exact.counts.tolist() == ours.counts.tolist()
    assert len(set(exact.counts.tolist())) > 1
    check_close(ours.subject, exact.subject)
    check_close(ours.used(), exact.used())


def test_several_threads_at_once(
    composers: tuple[Composer, Composer], pictures: list[Image.Image]
) -> None:
    """Each thread has results of its own, and earlier ones stay as they were."""
    _, ours = composers
    alone = [ours.compose([picture], ["in red"], "fti") for picture in pictures]
    kept = [one.clone() for one in alone]
    found: dict[int, torch.Tensor] = {}

    def work(row: int) -> None:
        for _ in range(3):
            found[row] = ours.compose([pictures[row]], ["in red"], "fti")

    threads = [threading.Thread(target=work, args=(row,)) for row in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row, expected in enumerate(kept):
        torch.testing.assert_close(found[row], expected)
        torch.testing.assert_close(alone[row], expected)


def test_a_second_load_converts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save_family("resnet", folder / "resnet")
    first = Backbone.load(name, precision="fp32", backend="openvino").texts(TEXTS)
    monkeypatch.setattr(openvino_models.Compiler, "_converted", None)
    again = Backbone.load(name, precision="fp32", backend="openvino").texts(TEXTS)
    torch.testing.assert_close(again, first)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check_linear(*identity: str) -> None:
    """A layer by itself, whose conversion takes no time."""
    torch.manual_seed(0)
    layer, rows = torch.nn.Linear(4, 3), torch.rand(5, 4)
    compiler = openvino_models.Compiler("fp32", "weights", *identity)
    compiled = compiler.compile("layer", lambda: layer, (rows[:2],), (-1, 4))
    with torch.no_grad():
        torch.testing.assert_close(compiled(rows)[0], layer(rows), rtol=1e-5, atol=1e-5)


def test_another_model_has_other_files(cache: Path) -> None:
    check_linear()
    check_linear("of another activation")
    check_linear()
    assert len(list(cache.glob("openvino/*/layer/model.xml"))) == 2
    assert len(list(cache.glob("openvino/*/layer/compiled/*"))) == 2


def test_without_a_cache_it_is_compiled_in_memory(cache: Path) -> None:
    cache.write_text("a file, where the folder should be")
    check_linear()
    assert cache.is_file()


@pytest.mark.parametrize("damaged", ["model.xml", "model.bin", "compiled/*"])
def test_a_damaged_cache_is_made_again(cache: Path, damaged: str) -> None:
    check_linear()
    files = list(cache.glob(f"openvino/*/layer/{damaged}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    check_linear()
    check_linear()


def test_bf16_by_default_where_the_cores_have_it_and_the_probe_agrees(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = save_family("resnet", folder / "resnet")
    used: list[str] = []
    monkeypatch.setattr(openvino_backend, "_compile_towers", lambda *model: used.append(model[3]))
    monkeypatch.setattr(precision, "MIN_PARAMETERS", 0)
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    Backbone.load(name, backend="openvino")
    monkeypatch.setattr(precision, "MIN_COSINE", 1.1)
    with caplog.at_level(logging.INFO, "fti_qdrant"):
        Backbone.load(name, backend="openvino")
    assert "cosine to fp32 is 1.00000" in caplog.text
    monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    Backbone.load(name, backend="openvino")
    Backbone.load(name, backend="openvino", precision="bf16")
    assert used == ["bf16", "bf16", "fp32", "fp32", "bf16"]


def test_nothing_is_reported_to_the_makers(cache: Path) -> None:
    """openvino sends usage data where its telemetry package can be imported."""
    check_linear()
    assert find_spec("openvino_telemetry"), "it is there, and would be used"
    assert "openvino_telemetry" not in sys.modules


def test_gradients_are_refused(composers: tuple[Composer, Composer]) -> None:
    backbone = composers[1].backbone
    tokens = backbone.prompts.composed([[1]], ["red"])
    words = torch.zeros(2, backbone.token_dim, requires_grad=True)
    with pytest.raises(UnsupportedModel, match="no gradients; train with 'torch'"):
        backbone.text_features(tokens, words)


def test_the_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **options: Any) -> Any:
        if name == "openvino":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnsupportedModel, match=r"pip install 'fti-qdrant\[openvino\]'"):
        Backbone.load("mini", backend="openvino")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onnx"}, "unknown backend 'onnx'; use torch or openvino"),
        ({"backend": "openvino", "device": "cuda"}, "runs on a CPU, not on device 'cuda'"),
        ({"backend": "openvino", "precision": "fp16"}, "in fp32 or bf16, not in fp16"),
        ({"backend": "openvino", "precision": "int4"}, "unknown precision 'int4'"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        Backbone.load("mini", **options)
