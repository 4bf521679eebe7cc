"""Images inside texts: every kind in base64 is recognized, and no place of an image is."""

from __future__ import annotations

import base64
import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import decode_image
from fti_qdrant.images.inline import inline_bytes, is_inline


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 30, 30)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_images_in_base64_and_data_uris(form: str) -> None:
    data = encoded(form)
    plain = base64.b64encode(data).decode()
    wrapped = "\n".join(plain[at : at + 64] for at in range(0, len(plain), 64))
    urlsafe = base64.urlsafe_b64encode(data).decode().rstrip("=")
    uri = f"data:image/{form.lower()};charset=utf-8;base64,{plain}"
    for text in (plain, wrapped, urlsafe, uri, uri.replace("data:", "DATA:")):
        assert is_inline(text)
        assert inline_bytes(text) == data
        assert decode_image(inline_bytes(text)).image.size == (9, 7)


@pytest.mark.parametrize(
    "place",
    [
        "a.jpg",
        "/9j/4AAQ",
        "/srv/" + "folder/" * 20 + "photo",
        "s3://bucket/" + "a" * 100,
        "https://shop.example/9j/4AAQSkZJRgABAQ/" + "b" * 80,
        "iVBORw0KGgo.png",
        "",
        " ",
    ],
)
def test_places_are_not_images(place: str) -> None:
    assert not is_inline(place)


@given(st.text(max_size=120))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(BadImage):
        assert is_inline(text) is False or isinstance(inline_bytes(text), bytes)


@pytest.mark.parametrize(
    "text", ["data:", "data:image/png;base64", "data:image/png;base64,%%%", "data:;base64,a"]
)
def test_broken_data_uris(text: str) -> None:
    assert is_inline(text)
    with pytest.raises(BadImage):
        inline_bytes(text)
