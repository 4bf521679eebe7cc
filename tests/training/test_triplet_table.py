"""A user's file of composed queries with their answers, in each form that it may have."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fti_qdrant.errors import BadManifest
from fti_training.triplet_table import read_triplets

ROWS = [
    {"reference": "a.jpg", "text": "in  red ", "target": "sub/b.jpg"},
    {"reference": "s3://bucket/c.jpg", "text": "as a cat", "target": "a.jpg"},
]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, [*rows[0]])
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_paths_are_relative_to_the_file(tmp_path: Path, name: str) -> None:
    read = read_triplets(written(tmp_path / name, ROWS))
    assert read.pictures.to_pylist() == [
        str(tmp_path / "a.jpg"),
        "s3://bucket/c.jpg",
        str(tmp_path / "sub" / "b.jpg"),
        str(tmp_path / "a.jpg"),
    ]
    assert read.texts([1, 0]) == ["as a cat", "in red"]
    assert len(read) == 2
    assert read.digest == read_triplets(written(tmp_path / "again.jsonl", ROWS)).digest
    assert read.digest != read_triplets(written(tmp_path / "other.jsonl", ROWS[::-1])).digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": ""}, ":2: no 'text' value"),
        ({"text": 7}, ":2: no 'text' value, but 7"),
        ({"target": None}, ":2: no 'target' value"),
        ({"target": 3}, ":2: no 'target' value, but 3"),
        ({"reference": " "}, ":2: no 'reference' value"),
        ({"reference": "https://host/c.jpg"}, "is a URL; download the picture first"),
        ({"text": "\ud800"}, ":2: a value is not UTF-8 text"),
    ],
)
def test_a_row_that_lacks_a_part_is_named(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    path = written(tmp_path / "t.jsonl", [ROWS[0], {**ROWS[1], **row}])
    with pytest.raises(BadManifest) as raised:
        read_triplets(path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "", "are none of .csv, .jsonl"),
        ("t.jsonl", "", "no line is an object with 'reference'"),
        ("t.csv", "reference,text,target\n", "hold no rows"),
        ("t.jsonl", '{"reference": "a.jpg"}\n', ":1: no 'text' value"),
        ("t.csv", "image,text,target\na.jpg,red,b.jpg\n", "'reference'"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_a_file_that_holds_none(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadManifest) as raised:
        read_triplets(tmp_path / name)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_column_of_other_images_is_none_of_them(tmp_path: Path, name: str) -> None:
    rows = [{**row, "image": "other.jpg"} for row in ROWS]
    read = read_triplets(written(tmp_path / name, rows))
    assert read.digest == read_triplets(written(tmp_path / "t.jsonl", ROWS)).digest


def test_pictures_and_queries_have_numbers_and_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    rows = [("a", "red", "b"), ("link", "red", "c"), ("a", "blue", "c"), ("c", "red", "link")]
    names = ("reference", "text", "target")
    found = [dict(zip(names, (f"{a}.jpg", text, f"{b}.jpg"))) for a, text, b in rows]
    table = read_triplets(written(tmp_path / "t.csv", found))
    assert table.picture_numbers == [0, 0, 0, 1, 2, 1, 1, 0]
    assert table.query_numbers == [0, 0, 2, 3]
    assert table.numbers_of([str(tmp_path / one) for one in ("link.jpg", "d.jpg")]) == [0, -1]
    left = table.without([str(tmp_path / "b.jpg")])
    assert (len(left), left.held_out) == (3, 1)
    assert left.unreadable([str(tmp_path / "link.jpg")]) == 3
    assert table.without([]).digest == table.digest
