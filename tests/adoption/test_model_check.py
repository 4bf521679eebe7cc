"""The declared model against the stored vectors: what fits, what is warned of, what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image
from qdrant_client import QdrantClient
from safetensors.torch import load_file, save_file

from fti_qdrant import ComposedSearch
from fti_qdrant.adoption import suspects
from fti_qdrant.errors import ModelMismatch
from fti_qdrant.gallery import ModelCheck
from fti_qdrant.model import pretrained
from tests.adoption.collections import OpenClip, make_collection
from tests.model.open_clip_models import CLIP_TEXT, VIT
from tests.search.conftest import save_model


def attach(client: QdrantClient, declared: dict[str, Any], **options: Any) -> ComposedSearch:
    return ComposedSearch.attach(client, "shop", **declared, **options)


@pytest.mark.parametrize(
    ("preparation", "named"),
    [
        ("squash", r"prepared by squash \(median (1\.0|0\.99).*pass preprocess='squash'"),
        ("target_pad", r"prepared by target-pad \(median .*pass preprocess='target-pad'"),
        ("white_square", r"padded to a white square \(median"),
        ("swapped", r"red and blue swapped, as OpenCV reads them \(median"),
        (
            "opencv",
            r"squash and resized without antialiasing \(bilinear\) and read with red and bl",
        ),
    ],
)
def test_other_preprocessing_is_refused_by_its_name(
    client: QdrantClient,
    clip: OpenClip,
    paths: list[Path],
    declared: dict[str, Any],
    preparation: str,
    named: str,
) -> None:
    made = clip.vectors(paths, getattr(clip, preparation))
    make_collection(client, made, paths)
    with pytest.raises(ModelMismatch, match=named) as caught:
        attach(client, declared, check=12)
    stated = float(str(caught.value).partition("recomputed vectors is ")[2][:5])
    # the median of other twelve than ours; all are near
    ours = clip.vectors(paths)
    cosines = (made * ours).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(ours, axis=1)
    assert cosines.min() <= stated <= cosines.max()


@pytest.mark.parametrize("recipe", ["squash", "target-pad"])
def test_what_the_message_says_to_pass_helps(
    client: QdrantClient,
    clip: OpenClip,
    paths: list[Path],
    declared: dict[str, Any],
    recipe: str,
) -> None:
    make_collection(client, clip.vectors(paths, getattr(clip, recipe.replace("-", "_"))), paths)
    search = attach(client, declared, preprocess=recipe)
    assert search.query(100).query.warnings == ()


def test_another_activation_is_refused_by_its_name(
    client: QdrantClient, paths: list[Path], declared: dict[str, Any], tmp_path: Path
) -> None:
    """As where OpenAI's weights were loaded into the architecture without -quickgelu."""
    name = save_model_of_its_activation(tmp_path / "model")
    made_by, _, transform = open_clip.create_model_and_transforms(name)
    for block in made_by.visual.transformer.resblocks:
        assert isinstance(block.mlp.gelu, QuickGELU)
        block.mlp.gelu = torch.nn.GELU()
    batch = torch.stack([transform(Image.open(path)) for path in paths])
    with torch.no_grad():
        make_collection(client, made_by.eval().encode_image(batch).numpy(), paths)
    with pytest.raises(ModelMismatch, match=r"with the activation GELU, which .*\(median 1\.000\)"):
        attach(client, {**declared, "model": name})


def save_model_of_its_activation(folder: Path) -> str:
    """A random CLIP with QuickGELU whose MLPs work where that and GELU differ most: around -3."""
    vision = {**VIT, "layers": 6}
    towers = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": CLIP_TEXT, "quick_gelu": True}
    cfg = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    name = save_model(folder, {"model_cfg": towers, "preprocess_cfg": cfg}, 1)
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    for key, tensor in state.items():
        if key.startswith("visual") and "mlp.c_fc.bias" in key:
            tensor.fill_(-3)
        if key.startswith("visual") and "mlp.c_proj.weight" in key:
            tensor.mul_(30)
    save_file(state, file)
    return name


def test_other_weights_are_named_where_they_are_on_this_machine(
    client: QdrantClient,
    vectors: np.ndarray,
    paths: list[Path],
    declared: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    towers = {
        "embed_dim": 192,
        "vision_cfg": VIT,
        "text_cfg": CLIP_TEXT,
    }
    cfg = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    name = save_model(tmp_path / "other", {"model_cfg": towers, "preprocess_cfg": cfg}, 5)
    absent = pretrained.KnownModel(
        "ViT-B-32/nowhere", "x", 1, 192, "mit", "x/y", "target-pad", "ViT-B-32"
    )
    monkeypatch.setitem(pretrained.KNOWN_MODELS, absent.name, absent)
    make_collection(client, vectors, paths)
    with pytest.raises(ModelMismatch, match=r"by the model mini \(median 1\.000\); pass model='mi"):
        attach(client, {**declared, "model": name}, check=8)


def test_nothing_is_fetched_to_explain(
    client: QdrantClient,
    paths: list[Path],
    declared: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noise is nobody's vectors: all suspects are tried, without a network."""
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    noise = np.random.default_rng(0).normal(size=(len(paths), 192)).astype(np.float32)
    make_collection(client, noise, paths)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ModelMismatch, match="No usual reason explains it"):
        attach(client, declared, check=4)


def test_nearly_the_same_vectors_are_warned_of_with_the_figure(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    """Noise that leaves a cosine of 0.94."""
    rng = np.random.default_rng(0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = rng.normal(size=unit.shape)
    noise -= (noise * unit).sum(1, keepdims=True) * unit
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    make_collection(client, 0.94 * unit + math.sqrt(1 - 0.94**2) * noise, paths)
    search = attach(client, declared)
    for hits in (search.query(text="red"), search.query(paths[0], "in red", limit=1)):
        (warning,) = hits.query.warnings
        assert "the median cosine of 24 images is 0.94, and 0.98 is usual" in warning


def test_the_warning_says_what_would_fit_better(
    client: QdrantClient,
    clip: OpenClip,
    declared: dict[str, Any],
    paths: list[Path],
    tmp_path: Path,
) -> None:
    """Squashed pictures that are not much longer than wide: near enough to be searched."""
    near = [tmp_path / path.name for path in paths[:8]]
    for path, less_long in zip(paths, near):
        Image.open(path).resize((236, 160)).save(less_long)
    make_collection(client, clip.vectors(near, clip.squash), near)
    (warning,) = attach(client, declared).query(text="red").query.warnings
    assert "they fit better when pictures are prepared by squash (median 1.000)" in warning
    assert warning.endswith("pass preprocess='squash'")


@pytest.mark.parametrize(
    ("median", "verdict"),
    [(0.9801, "fits"), (0.98, "fits"), (0.9799, "differs"), (0.9, "differs"), (0.8999, "wrong")],
)
def test_the_bounds(median: float, verdict: str) -> None:
    assert ModelCheck(median=median, compared=5).verdict == verdict


def test_scaling_without_antialiasing_is_open_cvs() -> None:
    """Against torch's own, pixel by pixel."""
    from torchvision.transforms import functional as vision

    pixels = np.random.default_rng(0).integers(0, 256, (91, 147, 3), dtype=np.uint8)
    ours = suspects.resized(Image.fromarray(pixels), (40, 30), "bilinear")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float()
    nearest = vision.InterpolationMode.BILINEAR
    theirs = vision.resize(tensor, [30, 40], nearest, antialias=False)
    difference = np.abs(np.asarray(ours, np.float32).transpose(2, 0, 1) - theirs.numpy())
    assert difference.max() < 1.5


def test_every_other_name_of_a_model_is_known() -> None:
    expected = {
        "clip-ViT-B-32": "ViT-B-32-quickgelu/openai",
        "clip-ViT-B-16": "ViT-B-16-quickgelu/openai",
        "clip-ViT-L-14": "ViT-L-14-quickgelu/openai",
        "Qdrant/clip-ViT-B-32-vision": "ViT-B-32-quickgelu/openai",
        "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu/openai",
        "openai/clip-vit-base-patch16": "ViT-B-16-quickgelu/openai",
        "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu/openai",
        "ViT-B/32": "ViT-B-32-quickgelu/openai",
        "ViT-B/16": "ViT-B-16-quickgelu/openai",
        "ViT-L/14": "ViT-L-14-quickgelu/openai",
    }
    for name, ours in expected.items():
        assert pretrained.our_name(name) == (ours, "center-crop")
        assert tuple(ours.split("/")) in open_clip.list_pretrained()
    assert pretrained.mentioned_model("fast-clip-vit-b-32-vision") == "Qdrant/clip-ViT-B-32-vision"
    assert pretrained.mentioned_model("OPENAI/clip-vit-base-patch32") is not None
    assert pretrained.mentioned_model("image") is None
