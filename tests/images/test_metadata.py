"""What is wrong with a picture's metadata never costs its pixels; what is wrong with them does."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import decode_image, jpeg, open_image
from fti_qdrant.images.metadata import readable_forms
from tests.images.files import chunk, encoded, png, tiff, with_chunks, with_segments

SIZE = (24, 16)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    patches = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return patches.resize(SIZE, Image.Resampling.BICUBIC)


def turned(orientation: int) -> bytes:
    """EXIF, as TIFF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()[6:]


def itxt(keyword: bytes, text: bytes, packed: bool = True) -> bytes:
    body = zlib.compress(text) if packed else text
    return chunk(b"iTXt", keyword + b"\0" + bytes([packed]) + b"\0\0\0" + body)


def broken_checksum(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


LONG = b"a" * 1_500_000
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'
PNG_NOTES: dict[str, bytes] = {
    "zTXt over 1 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "iTXt over 1 MB": itxt(b"Description", LONG),
    "XMP over 1 MB": itxt(b"XML:com.adobe.xmp", LONG),
    "tEXt over 1 MB": chunk(b"tEXt", b"Comment\0" + LONG),
    "a bomb of 100 MB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000))),
    "many texts": b"".join(itxt(b"Part%d" % part, LONG[:900_000]) for part in range(80)),
    "100,000 chunks": chunk(b"tEXt", b"k\0v") * 100_000,
    "zTXt of an unknown method": chunk(b"zTXt", b"Comment\0\7abc"),
    "text without a keyword": chunk(b"tEXt", b"\0\0\0"),
    "text that is not zlib": itxt(b"XML:com.adobe.xmp", b"x")[:-8] + b"abcdefgh",
    "a wrong checksum": broken_checksum(chunk(b"tEXt", b"k\0v")),
    "eXIf that is not TIFF": chunk(b"eXIf", b"rubbish of a camera"),
    "eXIf of 3 bytes": chunk(b"eXIf", b"II*"),
    "eXIf that points outside": chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f"),
    "eXIf twice": chunk(b"eXIf", b"MM") * 2,
    "truncated pHYs": chunk(b"pHYs", b"\0\0"),
    "truncated gAMA": chunk(b"gAMA", b"\0"),
    "truncated cHRM": chunk(b"cHRM", b"\0\0\0\0"),
    "empty sRGB": chunk(b"sRGB", b""),
    "broken animation": chunk(b"acTL", b"\0") + chunk(b"fcTL", bytes(26)),
    "frames out of order": chunk(b"acTL", struct.pack(">II", 2, 0))
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 5, 999, 999, 0, 0, 1, 1, 0, 0)),
    "names that Pillow uses itself": b"".join(
        chunk(b"tEXt", name + b"\0text")
        for name in (b"transparency", b"interlace", b"bbox", b"exif", b"gamma", b"default_image")
    ),
    "Raw profile type exif, broken": chunk(b"zTXt", b"Raw profile type exif\0\0" + b"no zlib"),
    "Raw profile type exif, no digits": chunk(b"tEXt", b"Raw profile type exif\0\na\nb\nxyz"),
    "unknown chunks": chunk(b"abCd", b"x") + chunk(b"zzZz", b""),
}


@pytest.mark.parametrize("name", PNG_NOTES)
def test_png(photo: Image.Image, name: str) -> None:
    data = with_chunks(encoded(photo), PNG_NOTES[name])
    np.testing.assert_array_equal(np.asarray(open_image(data).image), np.asarray(photo))
    if not name.startswith(("eXIf", "names")):
        both = with_chunks(data, chunk(b"eXIf", turned(6)))
        assert open_image(both).image.size == SIZE[::-1], "sound metadata beside it counts"


JPEG_NOTES: dict[str, list[tuple[int, bytes]]] = {
    "EXIF that is not TIFF": [(0xE1, b"Exif\0\0rubbish")],
    "EXIF that points outside": [(0xE1, b"Exif\0\0MM\0*\x7f\xff\xff\xff")],
    "EXIF of 0 bytes": [(0xE1, b"Exif\0\0")],
    "EXIF whose entries overlap": [(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 200)],
    "EXIF that points at itself": [
        (0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0")
    ],
    "XMP of noise": [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(range(256)))],
    "Photoshop blocks cut short": [(0xED, b"Photoshop 3.0\x008BIM\4\4\xff\xff")],
    "Photoshop resolution cut short": [(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\1x")],
    "many pictures, broken index": [(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f")],
    "many pictures, empty index": [(0xE2, b"MPF\0")],
    "Adobe cut short": [(0xEE, b"Adobe")],
    "JFIF cut short": [(0xE0, b"JFIF\0")],
    "a thousand comments": [(0xFE, b"x" * 100)] * 1000,
    "empty segments": [(0xE5, b""), (0xEF, b""), (0xFE, b"")],
}


@pytest.mark.parametrize("name", JPEG_NOTES)
def test_jpeg(photo: Image.Image, name: str) -> None:
    plain = encoded(photo, "JPEG", quality=95)
    data = with_segments(plain, *JPEG_NOTES[name])
    expected = np.asarray(open_image(plain).image)
    got = np.asarray(open_image(data).image)
    assert np.abs(got.astype(int) - expected).max() <= 1


WRONG_EXIF = [b"rubbish", b"II*\0\xff\xff\xff\x7f", b"", b"Exif\0\0MM", b"\0" * 50]


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF", "JPEG", "PNG"])
@pytest.mark.parametrize("exif", WRONG_EXIF, ids=repr)
def test_exif_that_cannot_be_read(photo: Image.Image, kind: str, exif: bytes) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    plain = encoded(photo, kind, **({} if kind in ("TIFF", "PNG") else options))
    if kind == "TIFF":
        data = tiff(np.asarray(photo), 8, {34665: (4, 2**31), 700: (1, exif or b"x")})
    elif kind == "PNG":
        data = with_chunks(plain, chunk(b"eXIf", exif))
    elif kind == "JPEG":
        data = with_segments(plain, (0xE1, b"Exif\0\0" + exif))
    elif kind == "AVIF":  # written sound and then damaged: Pillow's own writer refuses it
        sound = Image.Exif()
        sound[0x013B] = "an artist"
        data = encoded(photo, kind, exif=sound.tobytes()[6:], **options)
        at = data.rindex(b"MM\0*")
        data = data[:at] + (exif + bytes(4))[:4] + data[at + 4 :]
    else:
        data = encoded(photo, kind, exif=exif or b"x", **options)
    got, expected = (np.asarray(open_image(one).image).astype(int) for one in (data, plain))
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_an_orientation_that_there_is_not(photo: Image.Image, kind: str, value: int) -> None:
    assert open_image(encoded(photo, kind, exif=turned(value))).image.size == SIZE


def test_other_programs_orientation_is_kept(photo: Image.Image) -> None:
    plain, exif = encoded(photo), b"Exif\0\0" + turned(6)
    digits = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    for note in (
        chunk(b"eXIf", turned(6)),
        itxt(b"XML:com.adobe.xmp", XMP),
        itxt(b"XML:com.adobe.xmp", XMP, packed=False),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
    ):
        assert open_image(with_chunks(plain, note)).image.size == SIZE[::-1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_of_a_tiff_that_point_outside(photo: Image.Image, order: str) -> None:
    """They come before the tags of the pixels, and hide them from a careless reader."""
    notes = {
        269: (2, b"name of a document that is longer than the file"),
        270: (2, b"description"),
        34665: (4, 2**32 - 9),
        34853: (4, 2**32 - 9),
        33723: (4, [2**31] * 9),
    }
    data = bytearray(tiff(np.asarray(photo), 8, notes, order))
    for tag in (269, 270, 33723):
        at = data.index(struct.pack(f"{order}HH", tag, notes[tag][0]))
        data[at + 8 : at + 12] = struct.pack(f"{order}L", 2**31 - 5)
    np.testing.assert_array_equal(np.asarray(open_image(bytes(data)).image), np.asarray(photo))


def test_a_webp_whose_last_note_is_cut(photo: Image.Image) -> None:
    data = encoded(photo, "WEBP", lossless=True, exif=turned(1) + bytes(400))
    np.testing.assert_array_equal(np.asarray(open_image(data[:-300]).image), np.asarray(photo))


STARTS = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"RIFF\0\0\0\0WEBP",
    b"II*\0\x08\0\0\0",
    b"MM\0+",
    b"\0\0\0\x20ftypheic",
]


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(STARTS),
    rest=st.binary(max_size=40),
    parts=st.lists(
        st.sampled_from([b"iCCP", b"tRNS", b"sBIT", b"\xff\xda", b"\xff\xe1", b"VP8X", b"infe"])
        | st.binary(max_size=6),
        max_size=6,
    ),
)
def test_any_bytes_have_readable_forms(start: bytes, rest: bytes, parts: list[bytes]) -> None:
    for form, info in readable_forms(start + b"".join(parts) + rest):
        assert isinstance(form, bytes)
        assert isinstance(info, dict)


# --- the end of a JPEG

WAYS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "gray": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "restarts": {"restart_marker_blocks": 3},
    "best": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_jpeg_without_its_end_marker_is_whole(way: str) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    options = dict(WAYS[way])
    data = encoded(noisy.convert(options.pop("mode", "RGB")), "JPEG", **options)
    whole = np.asarray(open_image(data).image)
    for cut in (data[:-1], data[:-2], data[:-2] + bytes(7)):
        np.testing.assert_array_equal(np.asarray(open_image(cut).image), whole)
    start = data.index(b"\xff\xda")
    for length in {*range(len(data) - 40, len(data) - 8), *range(start, len(data) - 8, 97)}:
        with pytest.raises(BadImage, match=r"truncated|damaged"):
            decode_image(data[:length])


def test_a_progressive_jpeg_without_its_last_scan_is_truncated(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        assert jpeg.completed(data[:at]) is None
        with pytest.raises(BadImage, match="truncated"):
            decode_image(data[:at])


# --- true reasons


def test_what_is_really_truncated_says_so(photo: Image.Image) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        data = encoded(noise, kind)
        with pytest.raises(BadImage, match="truncated"):
            decode_image(data[: len(data) * 6 // 10])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xd8\xff\xe0", "is a damaged or truncated JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is a damaged or truncated PNG"),
        (png(np.zeros((2, 2), int), 8, 0)[:40], "is a damaged or truncated PNG"),
        (b"GIF89a", "is a damaged or truncated GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "is a damaged or truncated WebP"),
        (b"%PDF-1.7\n", "is a PDF document, not an image"),
        (b"<!DOCTYPE html><html>", "is a web page, not an image"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "is an SVG drawing, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\3\4abc", "is a zip archive, not an image"),
        (b"\0\0\0\x18ftypmp42", "is a video, not an image"),
        (b"\xff\x0a\xfa\x7f", "is a JPEG XL picture, not an image that Pillow can read"),
        (b"hello", "is not an image that Pillow can read"),
    ],
)
def test_what_a_file_is_instead(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(data, uri="photos/a.jpg")
    assert str(caught.value).startswith("'photos/a.jpg' ")
    assert reason in str(caught.value)


def test_a_kind_of_jpeg_that_pillow_lacks_is_named() -> None:
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(BadImage, match=r"JPEG.*of a kind that Pillow does not read"):
        decode_image(bytes(data))


def test_damaged_pixels_are_no_truncation(photo: Image.Image) -> None:
    data = bytearray(encoded(photo))
    at = data.index(b"IDAT") + 20
    data[at : at + 40] = bytes(40)
    with pytest.raises(BadImage, match="the file is damaged"):
        decode_image(bytes(data))


def test_metadata_of_every_kind_at_once(photo: Image.Image) -> None:
    for first, second in itertools.pairwise(PNG_NOTES.values()):
        data = with_chunks(encoded(photo), first, second)
        assert decode_image(data).image.size == SIZE


def test_a_picture_with_broken_exif_in_memory(photo: Image.Image) -> None:
    data = with_segments(encoded(photo, "JPEG"), (0xE1, b"Exif\0\0rubbish"))
    assert open_image(Image.open(io.BytesIO(data))).image.size == SIZE
