"""Any Pillow mode and embedded color profile -> sRGB, over white.

LittleCMS (Pillow's ImageCms) converts. Its transforms are kept by profile, and several threads may
use one at once.
"""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from fti_qdrant.images.color_tags import tagged_profile
from fti_qdrant.images.depth import GRAY_MODES, Levels, gray_levels

CACHED = 64
"""Profiles whose transforms are kept. A collection of photos has a few, of as many cameras."""

SAME = 2
"""Levels of 255. A profile that changes no color by more is sRGB, whatever it is called."""

LIGHT, DARK = 200, 100
"""A profile under which white is darker or black is lighter than this is broken."""

SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
"""Pillow's modes, and the color space that a profile for such pixels has."""

Color = int | tuple[int, ...]
ENDS: dict[str, tuple[Color, Color]] = {
    "RGB": ((255, 255, 255), (0, 0, 0)),
    "L": (255, 0),
    "CMYK": ((0, 0, 0, 0), (255, 255, 255, 255)),
    "LAB": ((255, 128, 128), (0, 128, 128)),
}
"""White and black."""


@dataclass(frozen=True)
class ToSrgb:
    """The colors of one embedded profile -> sRGB."""

    transform: ImageCms.ImageCmsTransform

    def picture(self, picture: Image.Image) -> Image.Image:
        """A picture of the profile's own mode -> RGB of the same size."""
        converted = ImageCms.applyTransform(picture, self.transform)
        assert converted is not None  # only in place it returns nothing
        del converted.info["icc_profile"]
        return converted

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[3, H, W]`` -> the same in sRGB."""
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return np.ascontiguousarray(np.asarray(self.picture(picture)).transpose(2, 0, 1))


def to_rgb(picture: Image.Image, levels: Levels | None = None) -> Image.Image:
    """Any Pillow mode to RGB in sRGB: embedded profile applied, transparency over white.

    Args:
        levels: black and white of a deep gray picture, where its file says them; by default from
            its values.

    Example:
        >>> to_rgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).getpixel((0, 0))
        (255, 0, 0)
    """
    rgb, colors = to_unconverted_rgb(picture, levels)
    return colors.picture(rgb) if colors else rgb


def to_unconverted_rgb(
    picture: Image.Image, levels: Levels | None = None
) -> tuple[Image.Image, ToSrgb | None]:
    """``to_rgb``, and a last step that is still to do: None for a picture in sRGB.

    A transform costs several times what decoding a JPEG costs, by pixel: a picture that is scaled
    down anyway is better converted after that.
    """
    profile = picture.info.get("icc_profile") or tagged_profile(picture)
    straight = _straight(picture, levels)
    if straight.mode in ("L", "LA"):
        return _over_white(_gray_to_srgb(straight, profile)), None
    colors = srgb_transform(profile, "RGB" if straight.mode == "RGBA" else straight.mode)
    if straight.mode == "RGB":
        return straight, colors
    if straight.mode == "RGBA":
        return _over_white(_with_alpha_of(straight, colors) if colors else straight), None
    return colors.picture(straight) if colors else straight.convert("RGB"), None


def srgb_transform(profile: object, mode: str) -> ToSrgb | None:
    """The transform of a profile for pixels of a mode; the same object for the same profile.

    None where there is nothing to do: no profile, or one that is sRGB; and where it cannot be done:
    a broken profile, or one for another kind of pixels.
    """
    if not isinstance(profile, bytes) or not profile or mode not in SPACES:
        return None
    key = hashlib.sha256(profile).digest(), mode
    with _lock:
        if key in _transforms:
            return _transforms[key]
    made = _made(profile, mode)
    with _lock:
        while len(_transforms) >= CACHED:
            del _transforms[next(iter(_transforms))]
        return _transforms.setdefault(key, made)


_transforms: dict[tuple[bytes, str], ToSrgb | None] = {}
_lock = threading.Lock()


def _made(profile: bytes, mode: str) -> ToSrgb | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != SPACES[mode]:
            return None
        target = ImageCms.createProfile("sRGB")
        # of grays a table is made once, exactly; LittleCMS's own short cut errs where it is dark
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        made = ToSrgb(ImageCms.buildTransform(source, target, mode, "RGB", flags=flags))
        return made if _is_sane(made, mode) and not _is_srgb(made, mode) else None
    except (ImageCms.PyCMSError, OSError, ValueError):  # damaged, or without what it needs
        return None


def _is_sane(colors: ToSrgb, mode: str) -> bool:
    ends = (Image.new(mode, (1, 1), color) for color in ENDS[mode])
    white, black = (np.asarray(colors.picture(end)) for end in ends)
    return bool(white.min() >= LIGHT and black.max() <= DARK)


def _is_srgb(colors: ToSrgb, mode: str) -> bool:
    """Whether a grid of colors, or every gray, stays as it is."""
    if mode not in ("RGB", "L"):
        return False
    if mode == "L":
        cube = np.arange(256)[None, :, None].repeat(3, axis=2)
        before = Image.fromarray(cube[..., 0].astype(np.uint8))
    else:
        steps = np.linspace(0, 255, 9).round().astype(int)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        before = Image.fromarray(cube.astype(np.uint8))
    after = np.asarray(colors.picture(before)).astype(int)
    return bool(np.abs(after - cube).max() <= SAME)


def _straight(picture: Image.Image, levels: Levels | None) -> Image.Image:
    """The same colors as L, LA, RGB, RGBA, CMYK or LAB."""
    mode = picture.mode
    if mode in GRAY_MODES:
        return gray_levels(picture, levels)
    if isinstance(picture.info.get("transparency"), str):  # a text of that name in a PNG
        picture = picture.copy()
        del picture.info["transparency"]
    if mode == "La":
        return picture.convert("LA")
    if mode in ("1", "L", "LA") and "transparency" not in picture.info:
        return picture if mode != "1" else picture.convert("L")
    if picture.has_transparency_data:
        return picture.convert("LA" if mode in ("1", "L", "LA") else "RGBA")
    return picture if mode in ("RGB", "CMYK", "LAB") else picture.convert("RGB")


def _gray_to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """L or LA -> the same mode with the grays of sRGB, by a table."""
    colors = srgb_transform(profile, "L")
    if colors is None:
        return picture
    grays = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table = np.asarray(colors.picture(grays))[0, :, 1].tolist()
    return picture.point(table if picture.mode == "L" else table + list(range(256)))


def _with_alpha_of(picture: Image.Image, colors: ToSrgb) -> Image.Image:
    converted = colors.picture(picture.convert("RGB"))
    converted.putalpha(picture.getchannel("A"))
    return converted


def _over_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "L":
        return picture.convert("RGB")
    straight = picture.convert("RGBA")
    white = Image.new("RGBA", straight.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, straight).convert("RGB")
