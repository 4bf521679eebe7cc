"""The user's own queries: read line by line, searched, judged and fitted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti_qdrant import ComposedSearch, Composer, EdgeGallery
from fti_qdrant.calibration import JudgedQuery, calibrate, read_queries
from fti_qdrant.calibration.query_file import checked_query
from fti_qdrant.errors import BadCalibration, BadQuery
from fti_qdrant.gallery import GalleryPoint, GallerySpec, point_id

COLORS = ("red", "blue", "green", "gray")


@pytest.fixture(scope="module")
def search(
    tiny_composer: Composer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposedSearch]:
    """Sixty stored images with random vectors, by number."""
    rng = np.random.default_rng(0)
    spec = GallerySpec(fingerprint=tiny_composer.backbone.fingerprint)
    with EdgeGallery.create(tmp_path_factory.mktemp("own") / "gallery", spec) as gallery:
        vectors = rng.normal(size=(60, 64)).astype(np.float32)
        gallery.upsert([GalleryPoint(id_of(n), vectors[n], {}) for n in range(60)])
        yield ComposedSearch(tiny_composer, gallery)


def id_of(number: int) -> str:
    return point_id(f"{number}.jpg")


def queries(
    search: ComposedSearch, shown: int | None = None, kind: tuple[str, ...] = ("image", "text")
) -> list[dict[str, Any]]:
    """Of each image, answered by some of the four nearest that it finds."""
    made = []
    for number in range(40):
        both = {"image": id_of(number), "text": COLORS[number % 4]}
        asked = {name: both[name] for name in kind}
        found = [hit.id for hit in search.query(**asked, composer="sum")]
        line = {**asked, "right": found[: 4 : 1 + number % 2]}
        made.append(line if shown is None else {**line, "shown": found[:shown]})
    return made


def test_they_are_fitted_and_stored(search: ComposedSearch) -> None:
    asked = queries(search)
    done = calibrate(search, asked, composers=["sum"])
    [one] = done.fitted
    assert (one.queries, one.hits, one.right) == (40, 400, 20 * 4 + 20 * 2)
    assert (one.fitted_on, one.most_references, one.depth) == ("own queries", 1, 10)
    assert done.rejected == []
    assert search.calibration == done.calibration == search.gallery.calibration
    hits = search.query(id_of(3), "red", composer="sum")
    assert hits[0].confidence is not None
    assert hits[0].confidence > (hits[-1].confidence or 0)
    search.gallery.store_calibration(
        search.calibration.updated([]).model_copy(update={"composers": ()})
    )


def test_what_was_not_shown_counts_as_nothing(search: ComposedSearch) -> None:
    every = calibrate(search, queries(search), composers=["sum"], store=False).fitted[0]
    seen = calibrate(search, queries(search, shown=6), composers=["sum"], store=False).fitted[0]
    assert (every.hits, seen.hits) == (400, 240)
    assert every.right == seen.right
    assert search.calibration.composers == ()
    few = calibrate(search, queries(search), composers=["sum"], depth=5, store=False).fitted[0]
    assert (few.hits, few.depth) == (200, 5)


def test_kinds_of_queries_are_calibrated_apart(search: ComposedSearch) -> None:
    images, texts = queries(search, kind=("image",)), queries(search, kind=("text",))
    asked = [*queries(search), *images, *texts[:20]]
    done = calibrate(search, asked, composers=["sum", "slerp"], store=False)
    fitted = {(one.maker.composer, one.maker.kind): one for one in done.fitted}
    assert list(fitted) == [
        ("sum", "image and text"),
        ("image", "image"),
        ("slerp", "image and text"),
    ]
    assert [one.queries for one in fitted.values()] == [40, 40, 40]  # one alone is asked once
    assert list(done.missing) == ["text (text)"]
    assert "20 judged queries are too few" in done.missing["text (text)"]
    known = ComposedSearch(search.composer, search.gallery, calibration=done.calibration)
    hit = known.query(id_of(5))[0]
    assert hit.confidence == fitted["image", "image"].chances.of(hit.score)
    assert known.query(text="red")[0].confidence is None


def test_bad_queries_are_listed_and_the_others_kept(search: ComposedSearch, tmp_path: Path) -> None:
    good = queries(search)
    lines = [json.dumps(one) for one in good]
    other = point_id("not there")
    lines[5:5] = [
        "{not json",
        json.dumps({"image": id_of(1), "text": "red"}),
        json.dumps({"image": id_of(1), "text": "red", "right": []}),
        json.dumps({"image": id_of(1), "text": "red", "right": [other]}),
        json.dumps({"image": other, "text": "red", "right": [id_of(2)]}),
        json.dumps({"image": "missing.jpg", "text": "red", "right": [id_of(2)]}),
        "",
        json.dumps({"right": [id_of(2)]}),
        json.dumps({"image": id_of(1), "text": "red", "right": [id_of(2)], "clicked": []}),
    ]
    path = tmp_path / "clicks.jsonl"
    path.write_text("\n".join(lines))
    done = calibrate(search, path, composers=["sum"], store=False)
    [one] = done.fitted
    assert (one.queries, one.fitted_on) == (40, "clicks.jsonl")
    reasons = {rejected.line: rejected.reason for rejected in done.rejected}
    assert list(reasons) == [6, 7, 8, 9, 10, 11, 13, 14]
    assert "is not JSON" in reasons[6]
    assert reasons[7] == "right is missing"
    assert "names no right answer" in reasons[8]
    assert reasons[9] == f"right: the gallery has no image {other}"
    assert f"no image {other}" in reasons[10]
    assert f"{str(tmp_path / 'missing.jpg')!r}" in reasons[11]
    assert "neither an image nor a text" in reasons[13]
    assert reasons[14] == "clicked is not known"


def test_what_cannot_be_calibrated_changes_nothing(search: ComposedSearch) -> None:
    with pytest.raises(BadCalibration, match=r"own queries: sum \(image and text\): 12 judged"):
        calibrate(search, queries(search)[:12], composers=["sum"])
    with pytest.raises(BadCalibration, match="no query could be searched; 1 were left out, line 1"):
        calibrate(search, [{"text": "red", "right": ["no id"]}])
    with pytest.raises(BadQuery, match="unknown composer 'best'"):
        calibrate(search, queries(search), composers=["best"])
    assert search.calibration.composers == ()


WRONG: list[tuple[object, str]] = [
    ({"text": "red", "right": "abc"}, "right must be a list"),
    ({"text": "red", "right": [True]}, "right.0 must be the UUID of an image, or its number"),
    ({"text": "red", "right": ["x"]}, "right.0 "),
    ({"text": "red", "right": [-1]}, "right.0 "),
    ({"text": "red", "right": [1.5]}, "right.0 must be the UUID"),
    ({"text": 3, "right": [1]}, "text must be a text"),
    ({"text": "  ", "right": [1]}, "neither an image nor a text"),
    ({"image": [], "right": [1]}, "neither an image nor a text"),
    ({"image": {"id": 3}, "right": [1]}, "image must be"),
    ({"text": "red", "right": [1], "shown": 7}, "shown must be a list"),
]


@pytest.mark.parametrize(("data", "why"), WRONG)
def test_bad_lines_say_what_is_wrong(data: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("(", r"\(")):
        checked_query(data)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "is not an object"),
        (b"\xff", "is not UTF-8"),
        (b'{"text": "a", "text": "b", "right": [1]}', "'text' occurs twice"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_lines_that_are_no_objects(tmp_path: Path, line: bytes, why: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "red", "right": [1]}\r\n' + line)
    found = read_queries(tmp_path / "a.jsonl")
    assert found.queries == {1: JudgedQuery(text="red", right=[1])}
    [rejected] = found.rejected
    assert rejected.line == 2
    assert why in rejected.reason


def test_paths_begin_at_the_file(tmp_path: Path) -> None:
    lines = [{"image": one, "right": [1]} for one in ("a.jpg", "/b.jpg", id_of(1), 7, ["c.jpg", 8])]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = [one.references for one in read_queries(tmp_path / "a.jsonl").queries.values()]
    here = str(tmp_path)
    assert found == [[f"{here}/a.jpg"], ["/b.jpg"], [id_of(1)], [7], [f"{here}/c.jpg", 8]]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadCalibration, match="cannot be read: No such file"):
        read_queries(tmp_path / "none.jsonl")
