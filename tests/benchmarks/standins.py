"""Benchmark folders in the official layouts, small, with generated pictures.

Annotations are the official ones, cut, where they are at hand (``FTI_ANNOTATIONS``, by default
``../shared/annotations`` beside the project); otherwise made up in the same form.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fti_qdrant.benchmarks.fashioniq import CATEGORIES
from tests.conftest import TINY

PROJECT = Path(__file__).parents[2]
OFFICIAL = Path(os.environ.get("FTI_ANNOTATIONS", PROJECT.parent / "shared" / "annotations"))
QUERIES = 6
"""Of each benchmark, and of each FashionIQ category."""

EXTRA = 6
"""Gallery images that no query needs."""

ASPECTS = ("addition", "cardinality", "viewpoint")


def official(name: str) -> Path:
    """The official annotations of a benchmark; skips the test where they are absent."""
    if not (OFFICIAL / name).is_dir():
        pytest.skip(f"the official annotations are not at {OFFICIAL / name}; set FTI_ANNOTATIONS")
    return OFFICIAL / name


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def model_folder(folder: Path, model: torch.nn.Module) -> Path:
    """The tiny model of the tests as open_clip loads it, by ``local-dir:``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", TINY)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def paint(path: Path) -> None:
    """A picture of random patches, the same for the same file name."""
    seed = int.from_bytes(hashlib.sha256(path.stem.encode()).digest()[:4], "big")
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(patches).resize((64, 64), Image.Resampling.NEAREST).save(path)


def fashioniq(root: Path, split: str = "val", folder: str = "images") -> Path:
    """``folder`` may hold ``{category}``."""
    for category in CATEGORIES:
        entries = _fashioniq_entries(category, split)
        needed = _ordered(
            image for one in entries for image in (one["candidate"], one.get("target")) if image
        )
        gallery = [*needed, *(f"{category.upper()}EXTRA{n}" for n in range(EXTRA)), "SHARED"]
        write_json(root / "captions" / f"cap.{category}.{split}.json", entries)
        write_json(root / "image_splits" / f"split.{category}.{split}.json", gallery)
        for name in gallery:
            paint(root / folder.format(category=category) / f"{name}.png")
    return root


def cirr(root: Path, split: str = "val", folder: str = ".") -> Path:
    entries = _cirr_entries(split)
    needed = _ordered(image for one in entries for image in one["img_set"]["members"])
    extra = [f"{split}-9{n}-0-img0" for n in range(EXTRA)]
    sub = "dev" if split == "val" else split
    paths = {
        name: f"./{sub}/{f'{number % 3}/' if split == 'train' else ''}{name}.png"
        for number, name in enumerate([*needed, *extra])
    }
    write_json(root / "captions" / f"cap.rc2.{split}.json", entries)
    write_json(root / "image_splits" / f"split.rc2.{split}.json", paths)
    for path in paths.values():
        paint(root / folder / path)
    return root


def circo(root: Path, split: str = "val", listed: bool = True) -> Path:
    entries = _circo_entries(split)
    needed = _ordered(
        image for one in entries for image in (one["reference_img_id"], *one.get("gt_img_ids", []))
    )
    ids = [*needed, *(900_000 + n for n in range(60))]
    write_json(root / "annotations" / f"{split}.json", entries)
    coco = root / "COCO2017_unlabeled"
    names = {id: f"{id:012d}.jpg" for id in ids}
    if listed:
        images = [{"id": id, "file_name": name, "width": 64} for id, name in names.items()]
        info = coco / "annotations" / "image_info_unlabeled2017.json"
        write_json(info, {"info": {}, "images": images})
    for name in names.values():
        paint(coco / "unlabeled2017" / name)
    return root


MAKERS: dict[str, Callable[..., Path]] = {"fashioniq": fashioniq, "cirr": cirr, "circo": circo}


def _ordered(images: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(images))


def _first(path: Path) -> list[Any] | None:
    return json.loads(path.read_text())[:QUERIES] if path.is_file() else None


def _fashioniq_entries(category: str, split: str) -> list[dict[str, Any]]:
    found = _first(OFFICIAL / "fashioniq" / "captions" / f"cap.{category}.{split}.json")
    made = [
        {
            "candidate": f"{category}{n}",
            "captions": [f"is shorter {n}.", " has a collar"],
            **({"target": f"{category}{n + 1}"} if split != "test" else {}),
        }
        for n in range(QUERIES)
    ]
    return found or made


def _cirr_entries(split: str) -> list[dict[str, Any]]:
    found = _first(OFFICIAL / "cirr" / "captions" / f"cap.rc2.{split}.json")
    made = []
    for n in range(QUERIES):
        members = [f"{split}-{n // 2}-{one}-img0" for one in range(6)]
        truth = {"target_hard": members[4], "target_soft": {members[4]: 1.0}}
        made.append(
            {
                "pairid": 100 + n,
                "reference": members[n % 2],
                "caption": "show three bottles",
                "img_set": {"id": n // 2, "members": members, "reference_rank": 2},
                **({} if split == "test1" else truth),
            }
        )
    return found or made


def _circo_entries(split: str) -> list[dict[str, Any]]:
    found = _first(OFFICIAL / "circo" / "annotations" / f"{split}.json")
    made = []
    for n in range(QUERIES):
        right = [1000 + 10 * n + one for one in range(1 + n % 4)]
        truth = {
            "target_img_id": right[0],
            "gt_img_ids": right,
            "semantic_aspects": list(ASPECTS[: 1 + n % 3]),
        }
        made.append(
            {
                "id": n,
                "reference_img_id": 500 + n,
                "relative_caption": "shows two people",
                "shared_concept": "a person",
                **({} if split == "test" else truth),
            }
        )
    return found or made
