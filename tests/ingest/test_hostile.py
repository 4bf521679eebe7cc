"""200 hostile files among 1,000 good ones: what is good is stored, what is not is listed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.gallery import EdgeGallery, point_id
from tests.ingest.sources_and_runs import bomb, ingest, read_rejects, write_pictures

GOOD, HOSTILE = 1000, 200
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
SUFFIX = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
CUTS = (0.02, 0.1, 0.3, 0.5, 0.8)


def encoded(form: str) -> bytes:
    noise = np.random.default_rng(7).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def write_hostile(folder: Path) -> int:
    """Writes HOSTILE files; returns how many."""
    folder.mkdir()
    made: list[Path] = []

    def write(name: str | bytes, data: bytes) -> None:
        path = folder / os.fsdecode(name)
        path.write_bytes(data)
        made.append(path)

    for form in FORMATS:
        whole = encoded(form)
        end = SUFFIX.get(form, form.lower())
        for cut in CUTS:
            write(f"cut-{form}-{cut}.{end}", whole[: int(len(whole) * cut)])
        write(f"wrong-{form}.{end}", b"%PDF-1.7 " + bytes(range(256)))
    for number in range(20):
        write(f"bomb-{number}.png", bomb(20_000 + number, 20_000))
    for number in range(20):
        write(f"text-{number}.jpg", b"<html>" * number)
    for number in range(20):
        loop = folder / f"loop-{number}.jpg"
        loop.symlink_to(loop.name)
        made.append(loop)
    for number in range(20):
        gone = folder / f"dangling-{number}.jpg"
        gone.symlink_to(folder / "never-there.jpg")
        made.append(gone)
    for number in range(20):
        write(f"two\nlines-{number}.jpg", b"no picture")
    for number in range(20):
        write(b"not-utf8-\xff\xfe-%d.jpg" % number, encoded("JPEG"))
    while len(made) < HOSTILE:
        write(f"noise-{len(made)}.webp", np.random.default_rng(len(made)).bytes(500))
    return len(made)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    write_pictures(root / "photos" / "good", GOOD)
    assert write_hostile(root / "photos" / "hostile") == HOSTILE
    return root


def test_the_good_are_stored_and_the_others_listed(place: Path) -> None:
    done = ingest("photos", "--gallery", "gallery", cwd=place)
    assert done.code == 0, done.err
    told = f"1,200 images in: {GOOD:,} stored, 0 unchanged, {HOSTILE} rejected"
    assert done.line == told
    rejects = read_rejects(place / "gallery" / "rejects.jsonl")
    assert len(rejects) == HOSTILE
    assert all("hostile" in uri and reason for uri, reason in rejects.items())
    with EdgeGallery.open(place / "gallery") as gallery:
        assert gallery.count() == GOOD
        names = (f"good/picture-{number:03d}.jpg" for number in range(GOOD))
        assert {id for id, _ in gallery.scroll()} == {point_id(name) for name in names}
