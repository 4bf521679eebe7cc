"""A gallery of twelve pictures, embedded by a tiny random model that is saved to disk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from qdrant_client import QdrantClient
from safetensors.torch import save_file

from fti_qdrant import ComposedSearch, Composer, EdgeGallery, ServerGallery
from fti_qdrant.gallery import GalleryPoint, GallerySpec, WordsSpec, point_id
from fti_qdrant.gallery.pseudo_words import stacked
from fti_qdrant.images import open_image

WORDS = ["cat", "dog", "house", "tree", "car", "red", "blue", "green"]


def save_model(folder: Path, config: dict[str, Any], seed: int) -> str:
    """A random CLIP as open_clip loads it; returns its name."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    with torch.no_grad():
        model.token_embedding.weight.normal_(std=0.5)
        model.positional_embedding.normal_(std=0.3)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "words.txt").write_text("\n".join(WORDS))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="session")
def model(folder: Path, tiny_config_once: dict[str, Any]) -> str:
    return save_model(folder / "model", tiny_config_once, 1)


@pytest.fixture(scope="session")
def tiny_config_once(tiny_clip: Any) -> dict[str, Any]:
    """The session's tiny model as a config of its own."""
    vision = {"image_size": 32, "patch_size": 16, "width": 48, "head_width": 16, "layers": 2}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    towers = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    return {"model_cfg": towers, "preprocess_cfg": tiny_clip.visual.preprocess_cfg}


@pytest.fixture(scope="session")
def inverter(folder: Path, tiny_composer: Composer) -> str:
    assert tiny_composer.inverter is not None
    tiny_composer.inverter.save_pretrained(folder / "inverter")
    return str(folder / "inverter")


@pytest.fixture(scope="session")
def composer(model: str, inverter: str) -> Composer:
    return Composer.load(model, inverter, device="cpu")


@pytest.fixture(scope="session")
def paths(folder: Path) -> list[Path]:
    """Twelve pictures; the last holds the same bytes as the first."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    made = [folder / "pictures" / f"{number}.png" for number in range(12)]
    for path in made[:-1]:
        patches = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        patches.resize((48, 40), Image.Resampling.NEAREST).save(path)
    made[-1].write_bytes(made[0].read_bytes())
    return made


def spec_for(composer: Composer, *, words: bool = True) -> GallerySpec:
    inverter = composer.inverter
    assert inverter is not None
    stored = WordsSpec(inverter=inverter.weights_hash, topk=inverter.topk, token_dim=64)
    return GallerySpec(
        fingerprint=composer.backbone.fingerprint,
        indexes={"price": "float"},
        words=stored if words else None,
    )


def points_of(composer: Composer, paths: list[Path]) -> list[GalleryPoint]:
    loaded = [open_image(path) for path in paths]
    features = composer.backbone.image_features([one.image for one in loaded])
    assert composer.inverter is not None
    with torch.inference_mode():
        words = composer.inverter(features)
    return [
        GalleryPoint(
            point_id(path.name),
            vector.numpy(),
            {
                "name": path.stem,
                "price": float(number),
                "color": ["red", "blue"][number % 2],
                "shelf": {"row": number},
                "_fti": {"uri": str(path), "sha256": one.sha256, "r": int(words.counts[number])},
            },
            stored,
        )
        for number, (path, one, vector, stored) in enumerate(
            zip(paths, loaded, features.pooled, stacked(words))
        )
    ]


@pytest.fixture(scope="session")
def points(composer: Composer, paths: list[Path]) -> list[GalleryPoint]:
    return points_of(composer, paths)


@pytest.fixture(scope="session")
def search(
    folder: Path, composer: Composer, inverter: str, points: list[GalleryPoint]
) -> Iterator[ComposedSearch]:
    with EdgeGallery.create(folder / "gallery", spec_for(composer)) as gallery:
        gallery.upsert(points)
    with ComposedSearch.open(folder / "gallery", inverter=inverter, device="cpu") as opened:
        yield opened


@pytest.fixture
def memory(composer: Composer) -> Iterator[ServerGallery]:
    """An empty gallery without pseudo-words."""
    spec = spec_for(composer, words=False)
    with warnings.catch_warnings():  # local mode has no payload indexes, and says so
        warnings.simplefilter("ignore")
        gallery = ServerGallery.create(QdrantClient(":memory:"), "shop", spec)
    yield gallery
    gallery.close()


@pytest.fixture
def save_other_model(tmp_path: Path, tiny_config_once: dict[str, Any]) -> Callable[[], str]:
    """Saves a model of the same sizes and other weights; returns its name."""
    return lambda: save_model(tmp_path / "other", tiny_config_once, 9)


@pytest.fixture(scope="session")
def spec(composer: Composer) -> GallerySpec:
    """Of a gallery with pseudo-words."""
    return spec_for(composer)


@pytest.fixture(scope="session")
def embed(composer: Composer) -> Callable[[list[Path]], list[GalleryPoint]]:
    """Pictures -> points."""
    return lambda paths: points_of(composer, paths)


@pytest.fixture
def plain_points(points: list[GalleryPoint]) -> list[GalleryPoint]:
    """Without pseudo-words."""
    return [GalleryPoint(point.id, point.vector, point.payload) for point in points]
