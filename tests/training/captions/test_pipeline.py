"""What is captioned again and what is not, and the final line; no Ray."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from fti_training.captions.pipeline import CaptionsOutcome, with_stored_hashes
from fti_training.captions.split import rule_splitter
from fti_training.captions.table import Caption, CaptionsTable

TEXTS = pa.schema([("uri", pa.string()), ("caption", pa.string())])


@pytest.fixture
def table(tmp_path: Path) -> CaptionsTable:
    """Holds a.jpg and b.jpg."""
    table = CaptionsTable.open(tmp_path / "captions.parquet", rule_splitter())
    for name in "ab":
        table.add(Caption(f"{name}.jpg", "a cat on a mat", "a cat", "on a mat", f"hash {name}"))
    table.save("blip")
    return table


def stored_hashes(table: CaptionsTable, *rows: tuple[str, str | None]) -> list[str | None]:
    images = pa.table(list(zip(*rows)), schema=TEXTS)
    return with_stored_hashes(images, table)["stored_sha256"].to_pylist()


def test_a_model_skips_all_that_the_table_holds(table: CaptionsTable) -> None:
    rows = [("b.jpg", None), ("new.jpg", None), ("a.jpg", None)]
    assert stored_hashes(table, *rows) == ["hash b", None, "hash a"]


def test_a_caption_that_the_user_changed_is_taken_again(table: CaptionsTable) -> None:
    rows = [("a.jpg", "a cat on a mat"), ("b.jpg", "a dog on a mat"), ("new.jpg", "a new one")]
    assert stored_hashes(table, *rows) == ["hash a", None, None]


def test_an_empty_table_knows_nothing(tmp_path: Path) -> None:
    table = CaptionsTable.open(tmp_path / "captions.parquet", rule_splitter())
    assert stored_hashes(table, ("a.jpg", None), ("b.jpg", "a cat")) == [None, None]


def test_the_final_line_counts_each_image_once() -> None:
    outcome = CaptionsOutcome(captioned=1412, unsplit=31, unchanged=5, rejected=2, seconds=10)
    assert outcome.line() == (
        "1,450 images: 1,412 captioned, 31 without a split, 5 unchanged, 2 unreadable; "
        "145.0 images/s"
    )
    assert CaptionsOutcome().line().endswith("; 0.0 images/s")
