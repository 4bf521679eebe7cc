"""Collections as other programs make them: plain qdrant-client calls, and vectors by open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image, ImageOps
from qdrant_client import QdrantClient, models
from torchvision.transforms import functional as vision

from fti_qdrant.model.names import MINI

COUNT = 24
BRANDS = ("Acme", "Borg", "Crux")
DIM = 192

Prepare = Callable[[Image.Image], torch.Tensor]
"""A picture -> float ``[3, size, size]`` in 0..1."""


def write_pictures(folder: Path, count: int = COUNT) -> list[Path]:
    """Pictures with fine and coarse patterns, wider or higher than a crop keeps."""
    rng = np.random.default_rng(7)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        fine = Image.fromarray(rng.integers(0, 256, (90, 150, 3), dtype=np.uint8))
        size = (350, 160) if number % 3 else (150, 340)
        mixed = Image.blend(
            coarse.resize(size, Image.Resampling.BICUBIC),
            fine.resize(size, Image.Resampling.NEAREST),
            0.35,
        )
        paths.append(folder / f"{number}.png")
        mixed.save(paths[-1])
    return paths


class OpenClip:
    """The packaged model as open_clip alone loads it: none of our code makes these vectors."""

    def __init__(self) -> None:
        name = f"local-dir:{MINI}"
        self.model, _, self.transform = open_clip.create_model_and_transforms(name)
        self.model.eval()
        config: Any = self.model.visual.preprocess_cfg
        size = config["size"]
        self.size: int = size if isinstance(size, int) else size[0]
        self.mean, self.std = list(config["mean"]), list(config["std"])

    @torch.no_grad()
    def vectors(self, paths: Sequence[Path], prepare: Prepare | None = None) -> np.ndarray:
        """``[n, d]``, not normalized; by the model's own transform, or by another preparation."""
        pictures = [Image.open(path).convert("RGB") for path in paths]
        if prepare is None:
            batch = torch.stack([self.transform(picture) for picture in pictures])
        else:
            batch = torch.stack([self._normalized(prepare(picture)) for picture in pictures])
        return self.model.encode_image(batch).numpy()

    def _normalized(self, tensor: torch.Tensor) -> torch.Tensor:
        return vision.normalize(tensor, self.mean, self.std)

    def squash(self, picture: Image.Image) -> torch.Tensor:
        return vision.to_tensor(picture.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def white_square(self, picture: Image.Image) -> torch.Tensor:
        side = max(picture.size)
        return self.squash(ImageOps.pad(picture, (side, side), color="white"))

    def target_pad(self, picture: Image.Image) -> torch.Tensor:
        """CLIP4Cir's TargetPad, then CLIP's own transform."""
        width, height = picture.size
        scaled = max(width, height) / 1.25
        across, down = (max(int((scaled - side) / 2), 0) for side in (width, height))
        return self._cropped(vision.pad(picture, [across, down, across, down], 0, "constant"))

    def swapped(self, picture: Image.Image) -> torch.Tensor:
        return self._cropped(picture).flip(0)

    def without_antialiasing(self, picture: Image.Image) -> torch.Tensor:
        """As torch scales tensors, and OpenCV pictures."""
        tensor = vision.to_tensor(picture)
        nearest = vision.InterpolationMode.BILINEAR
        scaled = vision.resize(tensor, self.size, nearest, antialias=False)
        return vision.center_crop(scaled, self.size)

    def opencv(self, picture: Image.Image) -> torch.Tensor:
        """``cv2.resize`` of what ``cv2.imread`` reads: three changes at once."""
        tensor = vision.to_tensor(picture).flip(0)
        size = [self.size, self.size]
        return vision.resize(tensor, size, vision.InterpolationMode.BILINEAR, antialias=False)

    def _cropped(self, picture: Image.Image) -> torch.Tensor:
        scaled = vision.resize(picture, self.size, vision.InterpolationMode.BICUBIC)
        return vision.to_tensor(vision.center_crop(scaled, self.size))


def make_collection(
    client: QdrantClient,
    vectors: np.ndarray,
    paths: Sequence[Path | str],
    *,
    name: str = "shop",
    vector: str = "",
    distance: models.Distance = models.Distance.COSINE,
    ids: Sequence[Any] | None = None,
    metadata: dict[str, Any] | None = None,
    codes: Sequence[str] | None = None,
    **others: models.VectorParams,
) -> str:
    """A collection with numbers as ids, and a payload of its own; returns its name."""
    params = models.VectorParams(size=vectors.shape[1], distance=distance)
    config: Any = {vector: params, **others} if vector or others else params
    client.create_collection(name, vectors_config=config, metadata=metadata)
    points = [
        models.PointStruct(
            id=ids[number] if ids is not None else 100 + number,
            vector={vector: one.tolist()} if vector or others else one.tolist(),
            payload={
                "image_url": str(path),
                "brand": BRANDS[number % 3],
                "price": number,
                "sku": 100 + number,
                **({} if codes is None else {"code": codes[number]}),
            },
        )
        for number, (one, path) in enumerate(zip(vectors, paths))
    ]
    client.upsert(name, points)
    return name
