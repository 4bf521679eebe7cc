"""Galleries on disk for the command lines: a good one, and some that cannot be searched."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fti_qdrant import Composer, EdgeGallery, Inverter
from fti_qdrant.benchmarks.emoji.gallery import write_gallery
from fti_qdrant.gallery import GalleryPoint, GallerySpec, WordsSpec, point_id
from fti_qdrant.gallery.pseudo_words import stacked
from fti_qdrant.images import open_image


def make_gallery(folder: Path, pictures: Path, spec: GallerySpec, composer: Composer) -> None:
    loaded = [open_image(path) for path in sorted(pictures.iterdir())]
    features = composer.backbone.image_features([one.image for one in loaded])
    words = composer.references(features, [1] * len(loaded)).words
    assert words is not None
    rows = zip(loaded, features.pooled, stacked(words), words.counts.tolist())
    with EdgeGallery.create(folder, spec) as gallery:
        gallery.upsert(
            [
                GalleryPoint(
                    point_id(Path(str(one.uri)).name),
                    vector.numpy(),
                    {
                        "name": f"picture {number}",
                        "price": float(number),
                        "_fti": {"uri": one.uri, "sha256": one.sha256, "r": count},
                    },
                    stored,
                )
                for number, (one, vector, stored, count) in enumerate(rows)
            ]
        )


@pytest.fixture(scope="session")
def emoji_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all emoji images with its manifest, drawn once for all tests."""
    folder = tmp_path_factory.mktemp("emoji") / "pictures"
    write_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The folders, port and gallery description that the command lines of the tests refer to."""
    folder = tmp_path_factory.mktemp("cli")
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        patches = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        patches.resize((64, 64), Image.Resampling.NEAREST).save(pictures / f"{number}.png")
    noise = Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8))
    noise.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    (folder / "text.jpg").write_text("this is not a picture")

    composer = Composer.load("mini", device="cpu")
    inverter = composer.inverter
    assert isinstance(inverter, Inverter)
    spec = GallerySpec(
        fingerprint=composer.backbone.fingerprint,
        indexes={"price": "float", "name": "keyword"},
        words=WordsSpec(
            inverter=inverter.weights_hash,
            topk=inverter.topk,
            token_dim=composer.backbone.token_dim,
        ),
    )
    make_gallery(folder / "gallery", pictures, spec, composer)
    make_gallery(folder / "locked", pictures, spec, composer)
    EdgeGallery.create(folder / "damaged", spec).close()
    (folder / "damaged" / "gallery.json").write_text("{")
    other = json.loads(spec.model_dump_json())
    other["fingerprint"]["weights"] = "0" * 16
    EdgeGallery.create(folder / "other", GallerySpec.model_validate(other)).close()
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        port = once.getsockname()[1]
    no_words = np.zeros((1 + inverter.topk, composer.backbone.token_dim), dtype=np.float16)
    return {
        "folder": folder,
        "pictures": pictures,
        "port": port,
        "spec": spec,
        "no_words": no_words,
    }
