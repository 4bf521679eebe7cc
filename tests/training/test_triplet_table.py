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
    {"reference": "https://host/c.jpg", "text": "as a cat", "target": "a.jpg"},
]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ["reference", "text", "target"])
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
        "https://host/c.jpg",
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
        ({"text": ""}, "line 2: no 'text' value"),
        ({"text": 7}, "line 2: no 'text' value, but 7"),
        ({"target": None}, "line 2: no 'target' value"),
        ({"target": 3}, "line 2: no 'target' value, but 3"),
        ({"reference": " "}, "line 2: no 'reference' value"),
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
        ("t.jsonl", '{"reference": "a.jpg"}\n', "line 1: no 'text' value"),
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
