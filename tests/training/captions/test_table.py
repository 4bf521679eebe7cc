"""The file of captions: what is added, replaced and kept, whatever happens while it is written."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_qdrant.errors import CheckpointError, OutputUnavailable
from fti_training.captions.split import Splitter, rule_splitter
from fti_training.captions.table import Caption, CaptionsTable, locked
from fti_training.samples import read_samples

SAVER = """
import sys
from pathlib import Path
from fti_training.captions.split import rule_splitter
from fti_training.captions.table import Caption, CaptionsTable
table = CaptionsTable.open(Path(sys.argv[1]), rule_splitter())
for number in range(10**9):
    for row in range(200):
        table.add(Caption(f"{number}/{row}", "a cat on a mat", "a cat", "on a mat", "0" * 64))
    table.save("blip")
    print(number, flush=True)
"""

LOCKER = """
import sys
from pathlib import Path
from fti_training.captions.table import locked
with locked(Path(sys.argv[1])):
    pass
"""


def caption(uri: str, sha256: str = "0" * 64, subject: str | None = "a cat") -> Caption:
    attribute = None if subject is None else "on a mat"
    return Caption(uri, "a cat on a mat", subject, attribute, sha256)


def saved(path: Path, *captions: Caption, captioner: str = "blip") -> CaptionsTable:
    table = CaptionsTable.open(path, rule_splitter())
    for one in captions:
        table.add(one)
    table.save(captioner)
    return table


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """Files of this process cannot grow beyond so many bytes, as on a disk without space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_rows_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    saved(path, caption("a"), caption("b", subject=None))
    found = parquet.read_table(path)
    assert found.column_names == ["uri", "caption", "subject", "attribute", "sha256"]
    assert found["subject"].to_pylist() == ["a cat", None]
    facts = found.schema.metadata
    assert facts[b"fti_splitter"].decode() == rule_splitter().name
    assert json.loads(facts[b"fti_captioners"]) == ["blip"]
    assert list(tmp_path.iterdir()) == [path]


def test_training_reads_the_rows_with_a_split(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    saved(path, caption("a"), caption("b", subject=None))
    samples = read_samples(path)
    assert (len(samples), samples.without_split) == (1, 1)


def test_a_later_run_adds_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    saved(path, caption("a"), caption("b"))
    table = saved(path, caption("b", sha256="1" * 64), caption("c"), captioner="mine.csv")
    assert table.rows["uri"].to_pylist() == ["a", "b", "c"]
    assert [sha[0] for sha in table.rows["sha256"].to_pylist()] == ["0", "1", "0"]
    assert CaptionsTable.read(path).captioners == ["blip", "mine.csv"]
    known = table.stored(pa.chunked_array([["c", "nowhere", "b"]]), "sha256")
    assert known.to_pylist() == ["0" * 64, None, "1" * 64]


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    saved(path)
    assert not path.exists()
    saved(path, caption("a"))
    before = path.stat()
    assert len(saved(path, captioner="another")) == 1
    assert path.stat().st_ino == before.st_ino


def test_another_splitter_splits_all_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    saved(path, caption("a", subject=None), caption("b"))
    other = Splitter("tagger 2", rule_splitter().tag)
    table = CaptionsTable.open(path, other)
    table.save()
    again = CaptionsTable.read(path)
    assert again.splitter == "tagger 2"
    assert again.rows["subject"].to_pylist() == ["a cat", "a cat"]
    assert again.rows["attribute"].to_pylist() == ["on a mat", "on a mat"]
    assert again.captioners == ["blip"]


@pytest.mark.parametrize("kind", ["text", "truncated", "other columns", "other parquet"])
def test_a_file_of_another_kind_is_refused_and_stays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    if kind == "text":
        path.write_text("my notes")
    elif kind == "truncated":
        saved(path, caption("a"))
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "other columns":
        parquet.write_table(pa.table({"uri": ["a"]}), path)
    else:
        parquet.write_table(CaptionsTable.open(path, rule_splitter()).rows, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"captions.parquet.*choose another --out"):
        CaptionsTable.open(path, rule_splitter())
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    table = saved(path, caption("first"))
    for number in range(5000):
        table.add(caption(f"{number}", sha256=f"{hash(number)}{number:060d}"))
    with full_disk(4000), pytest.raises(OutputUnavailable, match=r"cannot be written.*is kept"):
        table.save("blip")
    assert len(CaptionsTable.read(path)) == 1
    assert list(tmp_path.iterdir()) == [path]
    table.save("blip")  # once there is space
    assert len(CaptionsTable.read(path)) == 5001


def test_killed_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "captions.parquet"
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    saves = 0
    while saves < 5:
        saves = int(process.stdout.readline()) + 1
    time.sleep(0.013)
    process.kill()
    saves = max([saves, *(int(line) + 1 for line in process.communicate()[0].split())])
    rows = len(CaptionsTable.read(path))
    assert rows in (200 * saves, 200 * (saves + 1))


class TestLock:
    def test_one_run_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "captions.parquet"
        with locked(path):
            other = (
                f"from fti_training.captions.table import *\nwith locked(Path({str(path)!r})): 0"
            )
            process = subprocess.run(
                [sys.executable, "-c", other], capture_output=True, text=True, check=False
            )
            assert "is in use by another run" in process.stderr
        with locked(path):
            pass

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(OutputUnavailable, match=r"cannot be written.*nothing was saved"),
            locked(tmp_path / "file" / "captions.parquet"),
        ):
            pass
