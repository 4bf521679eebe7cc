"""What ingest does with colors, metadata and the limit of pixels: as a query does."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from bench import profiles
from fti_ingest.stages.decode import Decoder
from fti_qdrant.gallery import EdgeGallery, VectorQuery, point_id
from fti_qdrant.images import Preprocess, open_image
from tests.images.files import chunk, encoded, with_chunks
from tests.ingest.sources_and_runs import ingest, picture

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def rows_of(files: list[Path]) -> pa.Table:
    names = [file.name for file in files]
    return pa.table(
        {
            "id": [point_id(name) for name in names],
            "uri": [str(file) for file in files],
            "payload": ["{}"] * len(names),
            "stored_revision": [""] * len(names),
        }
    )


def test_decoding_converts_colors_as_a_query_does(tmp_path: Path) -> None:
    photo = np.asarray(picture(3, (120, 90)))
    p3 = Image.fromarray(profiles.in_space(photo, profiles.DISPLAY_P3, None))
    file = tmp_path / "p3.jpg"
    profile = profiles.rgb_profile(profiles.DISPLAY_P3, None)
    file.write_bytes(encoded(p3, "JPEG", icc_profile=profile, quality=98, subsampling=0))
    for hashes in (False, True):
        [row] = Decoder(PREPROCESS, hashes=hashes)(rows_of([file])).to_pylist()
        got = np.frombuffer(row["pixels"], np.uint8).reshape(3, 32, 32).astype(int)
        for reference in (open_image(file).image, Image.fromarray(photo)):
            assert np.abs(got - PREPROCESS.pixels(reference)).mean() < 1.5
        assert np.abs(got - PREPROCESS.pixels(p3)).mean() > 2


def test_a_run_over_odd_metadata_and_colors(tmp_path: Path) -> None:
    photo = picture(5, (64, 48))
    p3 = Image.fromarray(profiles.in_space(np.asarray(photo), profiles.DISPLAY_P3, None))
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=98, subsampling=0)
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))
    files = {
        "plain.png": encoded(photo),
        "p3.png": encoded(p3, icc_profile=profiles.rgb_profile(profiles.DISPLAY_P3, None)),
        "bomb.png": with_chunks(encoded(photo), bomb, chunk(b"eXIf", b"rubbish")),
        "no-end.jpg": jpeg.getvalue()[:-2],
    }
    (tmp_path / "photos").mkdir()
    for name, data in files.items():
        (tmp_path / "photos" / name).write_bytes(data)
    run = ingest("photos", "--gallery", "g", cwd=tmp_path)
    assert run.code == 0, run.err
    with EdgeGallery.open(tmp_path / "g") as gallery:
        [plain] = gallery.retrieve([point_id("plain.png")])
        hits = gallery.search(VectorQuery(plain.vector, limit=10))
    assert len(hits) == len(files)
    assert all(hit.score > 0.999 for hit in hits), [(hit.payload, hit.score) for hit in hits]


def test_max_pixels(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    picture(1, (40, 30)).save(tmp_path / "photos" / "a.png")
    for arguments, rejected in (
        (["--max-pixels", "1199"], 1),
        (["--max-pixels", "1200"], 0),
        ([], 0),
    ):
        dry = ingest("photos", "--gallery", "g", "--dry-run", *arguments, cwd=tmp_path)
        assert dry.code == 0, dry.err
        assert f"{rejected} would be rejected" in dry.out
        assert ("over the limit of 1,199" in dry.out) == bool(rejected)
    run = ingest("photos", "--gallery", "g", "--max-pixels", "1199", cwd=tmp_path)
    assert run.code == 2
    assert "over the limit of 1,199" in run.error
