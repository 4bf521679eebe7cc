"""Captions of users: three kinds of file, and what may be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_qdrant.errors import BadManifest
from fti_qdrant.images.fetch import read_batch
from fti_training.captions.user_captions import read_user_captions

ROWS = [
    {"uri": "a.jpg", "caption": "a cat, on  a\nmat", "id": 1},
    {"uri": "../b.jpg", "caption": "007", "id": 2},
    {"uri": "https://example.org/c.jpg", "caption": "Größe", "id": 3},
]


def write(path: Path, image: str) -> Path:
    """The rows in a file, whose images are in this column."""
    rows = [{image if name == "uri" else name: row[name] for name in row} for row in ROWS]
    if path.suffix == ".csv":
        path.write_text(
            f'\ufeffid, {image}, caption\n1, a.jpg, "a cat, on  a\nmat"\n2,../b.jpg,007\n'
            "3,https://example.org/c.jpg,Größe\n",
            encoding="utf-8",
        )
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(
            "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8"
        )
    return path


@pytest.mark.parametrize("image", ["image", "uri"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".parquet"])
def test_each_kind_of_file_reads_alike(suffix: str, image: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    own = read_user_captions(write(folder / f"mine{suffix}", image))
    assert own.table.to_pylist() == [
        {"uri": str(folder / "a.jpg"), "caption": "a cat, on a mat"},
        {"uri": str(tmp_path / "b.jpg"), "caption": "007"},
        {"uri": "https://example.org/c.jpg", "caption": "Größe"},
    ]
    assert own.rejects == []


def test_bad_rows_are_listed_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(
        b"uri,caption\na.jpg,a cat\n,a dog\nb.jpg, \n./a.jpg,again\nc.jpg,caf\xe9\n"
        b"d.jpg,one,two\ntar://x.jpg::a.tar,a fox\ne.jpg,a hen\n"
    )
    own = read_user_captions(path)
    assert own.table["caption"].to_pylist() == ["a cat", "a hen"]
    reasons = {one.uri.rpartition(":")[2]: one.reason for one in own.rejects}
    assert reasons == {
        "3": "no 'image' value",
        "4": "no caption",
        "5": "the image is listed twice; the first one counts",
        "6": "the line is not UTF-8 text (Latin-1?); save it as UTF-8",
        "7": "3 fields, and the header names 2",
        "8": "'tar://x.jpg::a.tar': ingest the archive itself, as SOURCE",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "b.jpg", "caption": 7}', "the caption is no text, but 7"),
        ('{"image": "b.jpg", "caption": ["a", "b"]}', "the caption is no text, but ['a', 'b']"),
        ('{"image": 5, "caption": "a cat"}', "no 'image' value, but 5"),
        ('{"image": "b.jpg", "caption": "\\ud800"}', "is not UTF-8 text"),
        ('{"image": "b.jpg", "caption": "a", "caption": "b"}', "the field 'caption' occurs twice"),
        ('{"image": "b.jpg"', "not JSON"),
    ],
)
def test_values_that_are_no_captions(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"image": "a.jpg", "caption": "a cat"}\n' + line)
    own = read_user_captions(path)
    assert len(own.table) == 1
    assert reason in own.rejects[0].reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", "file,caption\na.jpg,x\n", "no column 'image' or 'uri'; its columns are file"),
        ("mine.csv", "uri,text\na.jpg,x\n", "no column 'caption'"),
        ("mine.csv", "uri,caption\n", "holds no rows"),
        ("mine.csv", "", "no column 'image' or 'uri'; its columns are none"),
        ("mine.csv", "uri;caption\na.jpg;b\n", "separated by semicolons"),
        ("mine.jsonl", '{"uri": "a.jpg", "text": "x"}\n', "no column 'caption'"),
        ("mine.jsonl", '{"uri": "a.jpg"\n', "no line is an object with 'image' or 'uri'"),
        ("mine.jsonl", '[{"uri": "a.jpg"}]', "is one JSON array"),
        ("mine.parquet", "not parquet", "cannot be read"),
        ("mine.txt", "a.jpg: a cat", "is none of .csv"),
    ],
)
def test_files_that_cannot_be_used(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadManifest, match=message) as caught:
        read_user_captions(path)
    assert "\n" not in str(caught.value)


def test_images_in_the_file_itself(tmp_path: Path) -> None:
    """As Hugging Face's data sets have them."""
    images = [{"bytes": b"\xff\xd8\xff1", "path": None}, {"bytes": None, "path": "b.jpg"}]
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.table({"image": images, "caption": ["a cat", "a dog"]}), path)
    own = read_user_captions(path)
    inside, beside = own.table["uri"].to_pylist()
    assert beside == str(tmp_path / "b.jpg")
    assert read_batch([inside], allow_urls=False) == [b"\xff\xd8\xff1"]
