"""Pictures and thumbnails: of this gallery alone, cached, and never told where they are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.gallery.points import point_id
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.conftest import Client, draw, id_of
from tests.serve.test_bad_requests import problem_of

RED = id_of("red", "circle")


def test_the_original_is_the_file(client: TestClient, shop: Path):
    file = (shop / "pictures" / "red-circle.png").read_bytes()
    answer = client.get(f"/images/{RED}")
    assert answer.content == file
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{hashlib.sha256(file).hexdigest()}"'
    assert "max-age=86400" in answer.headers["cache-control"]
    assert answer.headers["cache-control"].startswith("public")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("size", [16, 64, 1024])
def test_a_thumbnail_has_the_size_that_is_asked(client: TestClient, size: int):
    answer = client.get(f"/images/{RED}/thumbnail", params={"size": size})
    assert answer.headers["content-type"] == "image/webp"
    picture = Image.open(io.BytesIO(answer.content))
    assert max(picture.size) == min(size, 96)  # nothing is made larger
    assert picture.width / picture.height == pytest.approx(96 / 72, rel=0.1)
    red, green, _ = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
    assert red > 200 > 60 > green


@pytest.mark.parametrize("path", [f"/images/{RED}", f"/images/{RED}/thumbnail?size=32"])
def test_what_a_client_holds_is_not_sent_again(client: TestClient, path: str):
    tag = client.get(path).headers["etag"]
    for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = client.get(path, headers={"if-none-match": held})
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer.headers["etag"] == tag
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_with_keys_only_the_client_may_keep_pictures(client_of: Client):
    client = client_of(api_keys=("secret",), headers={"X-API-Key": "secret"})
    assert client.get(f"/images/{RED}").headers["cache-control"].startswith("private")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """A service whose pictures the tests change, and their folder."""
    folder = tmp_path_factory.mktemp("own")
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png"):
        draw("red", "circle").save(pictures / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    draw("blue", "square", (120, 60)).save(pictures / "turned.jpg", exif=exif)
    location = EmbeddedLocation(folder / "gallery")
    ingest(IngestJob(str(pictures), location, ModelChoice("mini", device="cpu")))
    with ComposedSearch.open(folder / "gallery", device="cpu") as search:
        app = create_app(AsyncComposedSearch(search), ServeSettings())
        with TestClient(app) as client:
            yield client, pictures


def test_pictures_that_are_gone_or_something_else_now(own: tuple[TestClient, Path]):
    client, pictures = own
    (pictures / "a.png").unlink()
    (pictures / "b.png").write_text("<script>alert(1)</script>")
    draw("blue", "square").save(pictures / "c.png")
    for thumbnail in ("", "/thumbnail"):
        gone = client.get(f"/images/{point_id('a.png')}{thumbnail}")
        problem_of(gone, 404, "no such file")
        other = client.get(f"/images/{point_id('b.png')}{thumbnail}")
        problem_of(other, 404, "picture")
        assert "script" not in other.text
        for answer in (gone, other):
            assert str(pictures) not in answer.text
            assert "png" not in answer.text
    crop = {"left": 0, "top": 0, "right": 0.5, "bottom": 0.5}
    for name, words in (("a.png", "no such file"), ("b.png", "not an image")):
        part = {"references": [{"id": point_id(name), "crop": crop}]}
        refused = client.post("/search", json=part)
        problem_of(refused, 422, words)
        assert str(pictures) not in refused.text
    changed = client.get(f"/images/{point_id('c.png')}")
    assert changed.headers["etag"] == f'"{hashlib.sha256(changed.content).hexdigest()}"'
    assert changed.content == (pictures / "c.png").read_bytes()


def test_thumbnails_are_upright(own: tuple[TestClient, Path]):
    client, _ = own
    answer = client.get(f"/images/{point_id('turned.jpg')}/thumbnail?size=64")
    assert Image.open(io.BytesIO(answer.content)).size == (32, 64)


def test_a_kept_thumbnail_needs_no_file(own: tuple[TestClient, Path]):
    client, pictures = own
    path = f"/images/{point_id('d.png')}/thumbnail"
    first = client.get(path).content
    (pictures / "d.png").unlink()
    assert client.get(path).content == first
