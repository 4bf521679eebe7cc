"""Which note in an archive belongs to which image, in tars and zips, against a slow reference."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_qdrant.gallery import point_id
from fti_qdrant.images.fetch import read_batch
from tests.ingest.test_archives import jpeg, reasons

Members = Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path: Path, members: Members) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, data in members:
            archive.writestr(name, data)


WRITERS: dict[str, Callable[[Path, Members], None]] = {"a.tar": write_tar, "a.zip": write_zip}


@pytest.fixture(params=WRITERS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Members], Source]:
    """Makes an archive, and lists it."""

    def make(members: Members) -> Source:
        path = tmp_path / request.param
        WRITERS[request.param](path, members)
        return read_source(str(path))

    return make


def payloads(source: Source, *names: str) -> list[dict[str, Any]]:
    """The payloads of these members."""
    found = {row["id"]: row["payload"] for row in source.rows()}
    folder = {"a.tar", "a.zip"}
    return [
        next(
            found[point_id(f"{one}/{name}")] for one in folder if point_id(f"{one}/{name}") in found
        )
        for name in names
    ]


def note(k: object) -> bytes:
    return json.dumps({"k": k}).encode()


def sample(*names: str) -> list[tuple[str, bytes]]:
    """Files by name: images hold a picture, notes their own name."""
    return [
        (name, note(name) if name.lower().endswith("json") else b"\xff\xd8\xff") for name in names
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["22.05.png", "22.05.json", "22.10.png", "22.10.json"],
            {"22.05.png": "22.05.json", "22.10.png": "22.10.json"},
        ),
        (["22.05.png", "22.05.json", "22.10.png"], {"22.05.png": "22.05.json", "22.10.png": None}),
        (["22.05.png", "22.10.json"], {"22.05.png": None}),
        (["x.png", "x.png.json"], {"x.png": "x.png.json"}),
        (["x.jpg", "x.json", "x.png", "x.png.json"], {"x.jpg": "x.json", "x.png": "x.png.json"}),
        (["x.json", "x.png", "x.png.json"], {"x.png": "x.png.json"}),
        (["X.PNG", "X.JSON"], {"X.PNG": "X.JSON"}),
        (["7.jpg", "7.meta.json"], {"7.jpg": "7.meta.json"}),
        (
            ["7.json", "7.left.jpg", "7.right.jpg"],
            {"7.left.jpg": "7.json", "7.right.jpg": "7.json"},
        ),
        (["7.jpg", "7.json", "7.mask.png"], {"7.jpg": "7.json", "7.mask.png": None}),
        (["7.jpg", "7.a.json", "7.b.json"], {"7.jpg": None}),
        (["a/x.png", "b/x.json"], {"a/x.png": None}),
        (
            ["a/22.1.png", "a/22.1.json", "b/22.1.png"],
            {"a/22.1.png": "a/22.1.json", "b/22.1.png": None},
        ),
        (["v1.2", "v1.2.json"], {"v1.2": "v1.2.json"}),
    ],
)
def test_a_note_belongs_to_its_image(
    archive: Callable[[Members], Source], names: list[str], expected: dict[str, str | None]
) -> None:
    source = archive(sample(*names))
    found = payloads(source, *expected)
    assert found == [{} if k is None else {"k": k} for k in expected.values()]


def test_notes_that_no_image_has_got_are_told(archive: Callable[[Members], Source]) -> None:
    [told] = reasons(archive(sample("22.05.png", "22.10.json", "22.20.json", "n.jpg", "n.json")))
    assert told.startswith("no image has the notes of '22.10.json' and 1 more: it is not clear")


def test_notes_of_all_kinds_by_either_name(archive: Callable[[Members], Source]) -> None:
    source = archive(
        [
            ("1.5.jpg", b""),
            ("1.5.txt", b"five"),
            ("1.5.jpg.cls", b"5"),
            ("1.6.jpg", b""),
            ("1.6.TXT", b"six"),
            ("1.6.json", b'{"a": 1, "b": 1}'),
            ("1.6.jpg.json", b'{"b": 2}'),
        ]
    )
    five, six = payloads(source, "1.5.jpg", "1.6.jpg")
    assert five == {"txt": "five", "cls": 5}
    assert six == {"txt": "six", "a": 1, "b": 2}


@pytest.mark.parametrize(
    "order",
    [
        ["png1", "json1", "png2", "json2"],
        ["json1", "png1", "json2", "png2"],
        ["png1", "png2", "json1", "json2"],
        ["png1", "json1", "png2"],
        ["png1", "json1", "other", "png2", "json2"],
        ["png1", "json1", "json2"],
    ],
)
def test_of_a_member_that_occurs_twice_the_first_counts(
    archive: Callable[[Members], Source], order: list[str]
) -> None:
    """As tar --append leaves them. Each has its own note, and its own bytes."""
    files = {
        "png1": ("x.png", jpeg(1)),
        "png2": ("x.png", jpeg(2)),
        "json1": ("x.json", note(1)),
        "json2": ("x.json", note(2)),
        "other": ("y.png", jpeg(3)),
    }
    source = archive([files[one] for one in order])
    [found] = payloads(source, "x.png")
    assert found == {"k": 1}
    uris = {row["id"]: row["uri"] for row in source.rows()}
    [uri] = [uri for uri in uris.values() if "x.png" in uri]
    assert read_batch([uri], allow_urls=False) == [jpeg(1)]
    assert any("listed twice" in one for one in reasons(source)) == ("png2" in order)


def test_an_appended_image_without_a_note_of_its_own_gets_none(
    archive: Callable[[Members], Source],
) -> None:
    source = archive([("x.png", jpeg(1)), ("y.png", b""), ("x.png", jpeg(2)), ("x.json", note(2))])
    assert payloads(source, "x.png") == [{}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xef\xbb\xbf" + note(1), None),
        (b'{"k": "caf\xe9"}', "it is not UTF-8 text (byte 0xe9 at 10; Latin-1?); save it as UTF-8"),
        ('{"k": 1}'.encode("utf-16"), "it is UTF-16 or UTF-32 text; save it as UTF-8"),
        ('{"k": 1}'.encode("utf-16-le"), "it is UTF-16 or UTF-32 text; save it as UTF-8"),
    ],
)
def test_notes_are_utf8_with_or_without_a_mark(
    archive: Callable[[Members], Source], data: bytes, reason: str | None
) -> None:
    source = archive([("x.png", b""), ("x.json", data)])
    if reason is None:
        assert payloads(source, "x.png") == [{"k": 1}]
    else:
        assert reasons(source) == [f"'x.json' beside it cannot be read: {reason}"]


STEMS = st.sampled_from(["a", "a.b", "a.c", "b", "d/a", "d/a.b"])
NAMES = st.lists(
    st.tuples(STEMS, st.sampled_from([".png", ".jpg", ".json", ".png.json"])).map("".join),
    unique=True,
    max_size=9,
)


def owner_of(image: str, names: list[str]) -> dict[str, Any]:
    """The rules again, one pair at a time."""
    stem = image.rpartition(".")[0]

    def first_dot(name: str) -> str:
        folder, _, last = name.rpartition("/")
        return f"{folder}/{last.split('.')[0]}"

    notes = {name: name.removesuffix(".json") for name in names if name.endswith(".json")}
    images = [name for name in names if not name.endswith(".json")]
    for own in (image, stem):
        for name, of in notes.items():
            if of == own:
                return {"k": name}
    taken = {one for name in images for one in (name, name.rpartition(".")[0])}
    shared = [
        name
        for name, of in notes.items()
        if of not in taken
        and first_dot(of) == first_dot(image)
        and "." not in of.rpartition("/")[2] * ("." in stem.rpartition("/")[2])
    ]
    return {"k": shared[0]} if len(shared) == 1 else {}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=NAMES)
def test_the_rules_against_a_slow_reference(tmp_path: Path, names: list[str]) -> None:
    write_zip(tmp_path / "a.zip", sample(*names))
    images = [name for name in names if not name.endswith(".json")]
    if images:
        found = payloads(read_source(str(tmp_path / "a.zip")), *images)
        assert found == [owner_of(image, names) for image in images]
