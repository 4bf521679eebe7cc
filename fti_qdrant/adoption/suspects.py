"""Why stored vectors are not those of the declared model: the usual reasons, tried one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from fti_qdrant.adoption.point_sample import EncodedPicture, PictureSample
from fti_qdrant.adoption.recompute import median_cosine
from fti_qdrant.errors import FtiError
from fti_qdrant.gallery.model_check import FITS
from fti_qdrant.images import Preprocess, target_pad
from fti_qdrant.images.preprocess import center_crop, shorter_side_size
from fti_qdrant.images.recipes import RECIPES
from fti_qdrant.model.activation import other_activation
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.hub import offline
from fti_qdrant.model.loading import on_this_machine
from fti_qdrant.model.pretrained import KNOWN_MODELS

MOST_PICTURES = 8
"""Pictures that a reason is tried on."""

LEAST_GAIN = 0.2
"""Share of what is missing to a cosine of 1 that a reason must explain to be named."""

Geometry = Literal["center-crop", "squash", "target-pad", "white-square"]
Resizing = Literal["smooth", "bilinear", "bicubic"]


@dataclass(frozen=True)
class Suspect:
    """What makes stored vectors fit better.

    Attributes:
        when: it, in words that go on a sentence such as "they fit better ...".
        figure: the median cosine then.
        advice: what to pass; empty where no argument would help.
    """

    when: str
    figure: float
    advice: str = ""


Kind = Callable[[Backbone, PictureSample], Iterator[Suspect]]


class Preparation(NamedTuple):
    """How other tools make the square that a model sees.

    Attributes:
        resizing: ``smooth`` averages all pixels, as Pillow does; the others look at the nearest
            few alone (OpenCV, and torch on tensors, unless they are told otherwise).
        reversed: blue, green, red, as OpenCV reads files.
    """

    geometry: Geometry
    resizing: Resizing = "smooth"
    reversed: bool = False

    def pixels(self, own: Preprocess, image: Image.Image) -> np.ndarray:
        """uint8 ``[3, size, size]``, for a model whose preprocessing is ``own``."""
        square = np.array(self._square(own, image)).transpose(2, 0, 1)
        return np.ascontiguousarray(square[::-1] if self.reversed else square)

    def _square(self, own: Preprocess, image: Image.Image) -> Image.Image:
        recipe = self.geometry
        if recipe == "white-square":
            image, recipe = white_square(image), "squash"
        if self.resizing == "smooth":
            return own.by(recipe).square(image)
        if recipe == "squash":
            return resized(image, (own.size, own.size), self.resizing)
        if recipe == "target-pad":
            image = target_pad(image)
        scaled = resized(image, shorter_side_size(image.size, own.size), self.resizing)
        return center_crop(scaled, own.size)

    def described(self, declared: Preparation) -> str:
        """How it differs from what was declared."""
        parts = []
        if self.geometry == "white-square":
            parts.append("padded to a white square")
        elif self.geometry != declared.geometry:
            parts.append(f"prepared by {self.geometry}")
        if self.resizing != declared.resizing:
            parts.append(f"resized without antialiasing ({self.resizing})")
        if self.reversed:
            parts.append("read with red and blue swapped, as OpenCV reads them")
        return f"when pictures are {' and '.join(parts)}"

    @property
    def advice(self) -> str:
        """What to pass to ``attach``; empty where this preparation is not one of ours."""
        ours = self.geometry in RECIPES and self.resizing == "smooth" and not self.reversed
        return f"pass preprocess={self.geometry!r}" if ours else ""


def likely_suspect(backbone: Backbone, sample: PictureSample) -> Suspect | None:
    """What explains best why vectors differ from the model's; None where nothing known does.

    Loads further models where they are on this machine; never downloads one.
    """
    return _best(
        backbone,
        sample,
        [
            partial(_preparations, changes=(1,)),
            _activations,
            partial(_preparations, changes=(2, 3)),
            _other_weights,
        ],
    )


def likely_preparation(backbone: Backbone, sample: PictureSample) -> Suspect | None:
    """The same for vectors that are nearly the model's: only pictures may be prepared otherwise."""
    return _best(backbone, sample, [partial(_preparations, changes=(1,))])


def _best(backbone: Backbone, sample: PictureSample, kinds: Sequence[Kind]) -> Suspect | None:
    """The best suspect, of the first kind that explains all, or else of all kinds."""
    few = replace(
        sample,
        pictures=[
            one.decoded() if isinstance(one, EncodedPicture) else one
            for one in sample.pictures[:MOST_PICTURES]
        ],
        vectors=sample.vectors[:MOST_PICTURES],
    )
    now = median_cosine(backbone, few)
    best = Suspect("", now)
    for kind in kinds:
        for one in kind(backbone, few):
            best = max(best, one, key=lambda suspect: suspect.figure)
        if best.figure >= FITS:
            break
    return best if best.figure - now > LEAST_GAIN * (1 - now) else None


def resized(image: Image.Image, size: tuple[int, int], resizing: Resizing) -> Image.Image:
    """Resized by the nearest pixels alone, without antialiasing."""
    filter = Image.Resampling.BILINEAR if resizing == "bilinear" else Image.Resampling.BICUBIC
    whole = (0, 0, *image.size)
    return image.transform(size, Image.Transform.EXTENT, whole, filter)


def white_square(image: Image.Image) -> Image.Image:
    """Padded to a square with white, as img2dataset does."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _preparations(
    backbone: Backbone, sample: PictureSample, changes: Collection[int]
) -> Iterator[Suspect]:
    """Pictures prepared in ways that differ from the declared one by so many changes."""
    own = backbone.preprocess
    declared = Preparation(own.recipe)
    for choice in product(get_args(Geometry), get_args(Resizing), (False, True)):
        one = Preparation(*choice)
        if sum(a != b for a, b in zip(one, declared)) in changes:
            figure = median_cosine(backbone, sample, partial(one.pixels, own))
            yield Suspect(one.described(declared), figure, one.advice)


def _activations(backbone: Backbone, sample: PictureSample) -> Iterator[Suspect]:
    if backbone.backend != "torch":
        return
    with other_activation(backbone.visual) as other:
        if other is None:
            return
        figure = median_cosine(backbone, sample)
    yield Suspect(
        f"with the activation {other}, which these weights were not trained with",
        figure,
        "embed the images again with the right one; other tools load a model with QuickGELU by "
        "names that end in -quickgelu",
    )


def _other_weights(backbone: Backbone, sample: PictureSample) -> Iterator[Suspect]:
    for row in KNOWN_MODELS.values():
        if row.dim != backbone.dim or row.name == backbone.name or not on_this_machine(row.name):
            continue
        try:
            with offline():
                other = Backbone.load(
                    row.name, device=backbone.device, preprocess=backbone.preprocess.recipe
                )
            figure = median_cosine(other, sample)
        except FtiError:  # a file of the cache is damaged: it explains nothing
            continue
        yield Suspect(f"by the model {row.name}", figure, f"pass model={row.name!r}")
