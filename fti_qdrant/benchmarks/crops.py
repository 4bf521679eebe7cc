"""Crops around boxes, as GeneCIS's attribute tasks show them: dilated, and padded to squares."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import BadBenchmark, BadImage, OutputUnavailable, first_line
from fti_qdrant.images import open_image
from fti_qdrant.parallel_map import parallel_map

DILATION = 0.7
"""Of GeneCIS's evaluation code: how far a crop reaches beyond the box, as a share of its side."""


@dataclass(frozen=True)
class Box:
    """A box in pixels, from the top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Crop:
    """One crop of one photo.

    Attributes:
        photo: id of the photo.
        source: its file; None where it is missing.
        path: file of the crop.
    """

    photo: str
    source: Path | None
    box: Box
    path: Path


def cropped(picture: Image.Image, box: Box) -> Image.Image:
    """The box, dilated to the left and top by 0.7 of its sides, then 1.7 sides long, on a square.

    What reaches out of the picture is cut; the shorter side is padded with black. This is the crop
    of GeneCIS's evaluation code: where the left or top edge is cut, it reaches further to the
    right or bottom.

    Example:
        >>> cropped(Image.new("RGB", (100, 80)), Box(40, 30, 10, 20)).size
        (34, 34)

    Raises BadBenchmark where the box is outside of the picture.
    """
    left = max(0.0, box.x - DILATION * box.width)
    top = max(0.0, box.y - DILATION * box.height)
    right = min(float(picture.width), left + (1 + DILATION) * box.width)
    bottom = min(float(picture.height), top + (1 + DILATION) * box.height)
    edges = (round(left), round(top), round(right), round(bottom))
    if edges[0] >= edges[2] or edges[1] >= edges[3]:
        sides = ", ".join(f"{side:g}" for side in (box.x, box.y, box.width, box.height))
        raise BadBenchmark(
            f"box {sides} is outside of its photo of {picture.width} x {picture.height}"
        )
    part = picture.convert("RGB").crop(edges)
    side = max(part.size)
    square = Image.new("RGB", (side, side))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


def write_crops(crops: Collection[Crop], advance: Callable[[int, int], None]) -> None:
    """Writes those that do not exist yet; crops of missing or unreadable photos are left out.

    Args:
        advance: called with the number of crops done, and the total.

    Raises:
        BadBenchmark: a box outside of its photo.
        OutputUnavailable: a file cannot be written.
    """
    todo = [crop for crop in crops if crop.source is not None and not crop.path.is_file()]
    for done, _ in enumerate(parallel_map(_write, todo), 1):
        advance(done, len(todo))


def _write(crop: Crop) -> None:
    assert crop.source is not None
    try:
        picture = open_image(crop.source).image
        part_of_it = cropped(picture, crop.box)
        with replacing(crop.path) as part:
            part_of_it.save(part, "PNG")
    except BadImage:
        return
    except BadBenchmark as error:
        raise BadBenchmark(
            f"{str(crop.source)!r}: {error}; the annotations, or the photos, are of another version"
        ) from error
    except OSError as error:
        raise OutputUnavailable(
            f"crop {str(crop.path)!r} cannot be written: {first_line(error)}"
        ) from error
