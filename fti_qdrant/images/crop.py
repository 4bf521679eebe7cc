"""A part of a picture as the reference: the handbag of a photo, and not its street."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from fti_qdrant.errors import BadImage

if TYPE_CHECKING:
    from PIL import Image

    from fti_qdrant.images.read import ImageSource

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as fractions of the upright picture's width and height."""


@dataclass(frozen=True)
class Cropped:
    """A picture of which a rectangle alone counts.

    Attributes:
        image: a picture in any form, or, in a query, the id of a stored image.
        box: left, top, right and bottom edge, as fractions from 0 to 1 of the width and height
            that the picture has after its EXIF orientation is applied. So it does not matter at
            which size a user has seen it.

    Example:
        >>> Cropped("street.jpg", (0.5, 0.25, 0.75, 0.5)).pixels((4000, 3000))
        (2000, 750, 3000, 1500)
        >>> Cropped("street.jpg", (0.5, 0.25, 1.5, 0.5))
        Traceback (most recent call last):
        fti_qdrant.errors.BadImage: crop (0.5, 0.25, 1.5, 0.5): right must be from 0 to 1; the \
edges are fractions of the picture's width and height

    Raises BadImage for a rectangle that is empty or not within the picture.
    """

    image: ImageSource | uuid.UUID | int
    box: Box

    def __post_init__(self) -> None:
        check_box(self.box)
        object.__setattr__(self, "box", tuple(map(float, self.box)))
        if isinstance(self.image, Cropped):
            raise BadImage(f"{self.image!r} is cropped already; crop the picture itself")

    def pixels(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The rectangle in a picture of this width and height: at least one pixel, outwards."""
        left, top, right, bottom = self.box
        width, height = size
        return (
            min(math.floor(left * width), width - 1),
            min(math.floor(top * height), height - 1),
            math.ceil(right * width),
            math.ceil(bottom * height),
        )

    def of(self, picture: Image.Image) -> Image.Image:
        """The part of an upright picture."""
        return picture.crop(self.pixels(picture.size))

    @property
    def share(self) -> float:
        """The smaller of its width and height, as a fraction of the picture's."""
        left, top, right, bottom = self.box
        return min(right - left, bottom - top)


def check_box(box: Box) -> None:
    """Raises BadImage unless ``box`` is a rectangle within the picture."""
    edges = ("left", "top", "right", "bottom")
    if not isinstance(box, (tuple, list)) or len(box) != len(edges):
        raise BadImage(f"crop {box!r} must be four numbers: {', '.join(edges)}")
    for name, edge in zip(edges, box):
        number = isinstance(edge, Real) and not isinstance(edge, bool)
        if not number or not 0 <= edge <= 1:  # NaN is not
            raise BadImage(
                f"crop {box}: {name} must be from 0 to 1; the edges are fractions of the "
                "picture's width and height"
            )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise BadImage(
            f"crop {box} is empty: left must be less than right, and top less than bottom"
        )
