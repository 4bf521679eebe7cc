"""Captions of users: three kinds of file, and what may be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_qdrant.errors import BadManifest
from fti_training.captions.user_captions import read_user_captions

ROWS = [
    {"uri": "a.jpg", "caption": "a cat, on  a\nmat", "id": 1},
    {"uri": "../b.jpg", "caption": "007", "id": 2},
    {"uri": "https://example.org/c.jpg", "caption": "Größe", "id": 3},
]


def write(path: Path) -> Path:
    if path.suffix == ".csv":
        path.write_text(
            '\ufeffid,uri,caption\n1,a.jpg,"a cat, on  a\nmat"\n2,../b.jpg,007\n'
            "3,https://example.org/c.jpg,Größe\n",
            encoding="utf-8",
        )
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text(
            "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS), encoding="utf-8"
        )
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".parquet"])
def test_each_kind_of_file_reads_alike(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    own = read_user_captions(write(folder / f"mine{suffix}"))
    assert own.table.to_pylist() == [
        {"uri": str(folder / "a.jpg"), "caption": "a cat, on a mat"},
        {"uri": str(tmp_path / "b.jpg"), "caption": "007"},
        {"uri": "https://example.org/c.jpg", "caption": "Größe"},
    ]
    assert own.rejects == []


def test_rows_that_say_nothing_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("uri,caption\na.jpg,a cat\n,a dog\nb.jpg, \n./a.jpg,again\n")
    own = read_user_captions(path)
    assert len(own.table) == 1
    assert [one.reason for one in own.rejects] == [
        "no uri",
        "no caption",
        "the image is listed twice; the first one counts",
    ]
    assert own.rejects[0].uri.endswith("mine.csv, row 2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.csv", "image,caption\na.jpg,x\n", "no column 'uri'; its columns are image, caption"),
        ("mine.csv", "uri,text\na.jpg,x\n", "no column 'caption'"),
        ("mine.csv", "uri,caption\n", "holds no rows"),
        ("mine.csv", "", "cannot be read"),
        ("mine.csv", "uri,caption\na.jpg,b,c\n", "cannot be read"),
        ("mine.jsonl", '{"uri": "a.jpg", "text": "x"}\n', "no column 'caption'"),
        ("mine.jsonl", '{"uri": "a.jpg"\n', "cannot be read"),
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


def test_captions_that_are_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    parquet.write_table(pa.table({"uri": ["a"], "caption": [[1, 2]]}), path)
    with pytest.raises(BadManifest, match="cannot be read"):
        read_user_captions(path)
