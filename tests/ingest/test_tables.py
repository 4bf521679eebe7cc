"""Tables as the world writes them: one bad value costs its row alone, and reasons are true."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import EdgeGallery, point_id
from fti_qdrant.images.fetch import read_batch
from tests.ingest.sources_and_runs import ingest, write_pictures
from tests.ingest.test_archives import jpeg

Write = Callable[[str, str | bytes], Source]


@pytest.fixture
def manifest(tmp_path: Path) -> Write:
    """Writes a manifest of this name, and lists it."""

    def write(name: str, text: str | bytes) -> Source:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return read_source(str(tmp_path / name))

    return write


def payloads(source: Source) -> list[dict[str, Any]]:
    return [row["payload"] for row in source.rows()]


def told(source: Source) -> dict[str, str]:
    """Reasons by the end of what they are about."""
    return {one.uri.rpartition("/")[2]: one.reason for one in source.rejects()}


class TestEncodings:
    """UTF-8 with or without a mark, everywhere; all else is named."""

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize(
        ("name", "text"),
        [("m.csv", "image,n\na.jpg,é\n"), ("m.jsonl", '{"image": "a.jpg", "n": "é"}\n')],
    )
    def test_a_mark_changes_nothing(
        self, manifest: Write, name: str, text: str, mark: bytes
    ) -> None:
        assert payloads(manifest(name, mark + text.encode())) == [{"n": "é"}]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize(
        ("name", "text"),
        [("m.csv", "image,n\na.jpg,1\n"), ("m.jsonl", '{"image": "a.jpg"}\n')],
    )
    def test_utf16_is_named(self, manifest: Write, name: str, text: str, encoding: str) -> None:
        with pytest.raises(BadManifest, match=r"is UTF-16 or UTF-32 text; save it as UTF-8"):
            manifest(name, text.encode(encoding))

    @pytest.mark.parametrize(
        ("name", "lines"),
        [
            ("m.csv", ["image,n", "a.jpg,x", "b.jpg,é", "c.jpg,y"]),
            ("m.jsonl", [f'{{"image": "{n}.jpg", "n": "{v}"}}' for n, v in zip("abc", "xéy")]),
        ],
    )
    def test_a_latin1_line_is_rejected_alone(
        self, manifest: Write, name: str, lines: list[str]
    ) -> None:
        source = manifest(name, "\n".join(lines).encode("latin-1"))
        assert payloads(source) == [{"n": "x"}, {"n": "y"}]
        [reason] = told(source).values()
        assert "not UTF-8 text" in reason
        assert "Latin-1?" in reason

    def test_latin1_names_of_columns(self, manifest: Write) -> None:
        with pytest.raises(BadManifest, match="its columns' names are not UTF-8"):
            manifest("m.csv", "image,größe\na.jpg,1\n".encode("latin-1"))


class TestShapes:
    """What looks like another kind of file is called by its name."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("image;price\na.jpg;5\n", "separated by semicolons"),
            ("image\tprice\na.jpg\t5\n", "separated by tabs"),
            ("image|price\na.jpg|5\n", "separated by vertical bars"),
            ("picture,price\na.jpg,5\n", "its columns are picture, price$"),
        ],
    )
    def test_csv(self, manifest: Write, text: str, message: str) -> None:
        with pytest.raises(BadManifest, match=message):
            manifest("m.csv", text)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("m.json", "one JSON object on each line"), ("m.tsv", "with commas, as .csv")],
    )
    def test_names_of_other_tables(self, manifest: Write, name: str, message: str) -> None:
        with pytest.raises(BadManifest, match=message):
            manifest(name, "x")

    def test_no_rows(self, manifest: Write) -> None:
        with pytest.raises(BadManifest, match="holds no rows"):
            manifest("m.csv", "image,n\n")

    @pytest.mark.parametrize("indent", [None, 2])
    def test_one_json_array(self, manifest: Write, indent: int | None) -> None:
        rows = [{"image": "a.jpg", "n": 1}, {"image": "b.jpg", "n": 2}]
        with pytest.raises(BadManifest, match="is one JSON array, and a manifest has one object"):
            manifest("m.jsonl", json.dumps(rows, indent=indent))

    @pytest.mark.parametrize("lead", ["", "\n  ", "\ufeff"])
    @pytest.mark.parametrize("open_", ["{\n  ", "{"])
    def test_objects_over_several_lines(self, manifest: Write, lead: str, open_: str) -> None:
        text = "\n".join(lead + open_ + f'"image": "{n}.jpg",\n  "n": {n}\n}}' for n in range(2))
        with pytest.raises(BadManifest, match="over several lines"):
            manifest("m.jsonl", text)

    def test_a_broken_first_line_is_no_such_thing(self, manifest: Write) -> None:
        source = manifest("m.jsonl", '{"image": \n{"image": "a.jpg"}\n')
        assert len(source) == source.reject_count == 1

    def test_a_field_that_occurs_twice(self, manifest: Write) -> None:
        line = '{"image": "a.jpg", "n": 1, "n": 2}\n{"image": "b.jpg", "o": {"p": 1, "p": 1}}\n'
        source = manifest("m.jsonl", line + '{"image": "c.jpg"}')
        assert len(source) == 1
        assert ["occurs twice" in reason for reason in told(source).values()] == [True, True]


class TestPaths:
    def test_windows_separators(self, manifest: Write, tmp_path: Path) -> None:
        (tmp_path / "odd\\name.jpg").write_bytes(b"")
        source = manifest("m.csv", "image\nsub\\deep\\a.jpg\nodd\\name.jpg\n.\\b.jpg\n")
        uris = [row["uri"] for row in source.rows()]
        assert uris == [
            str(tmp_path / name) for name in ("sub/deep/a.jpg", "odd\\name.jpg", "b.jpg")
        ]

    @pytest.mark.parametrize("drive", ["C:\\photos\\b.jpg", "d:/b.jpg"])
    def test_a_drive_is_rejected_by_name(self, manifest: Write, drive: str) -> None:
        source = manifest("m.csv", f"image\na.jpg\n{drive}\n")
        assert told(source)["m.csv:3"] == (
            f"{drive!r} is a path of a Windows drive; name it as it is found here"
        )

    @pytest.mark.parametrize("names", [["b\\s.jpg", "b/s.jpg"], ["b/s.jpg", "b\\s.jpg"]])
    def test_names_that_differ_in_slashes(
        self, manifest: Write, tmp_path: Path, names: list[str]
    ) -> None:
        (tmp_path / "b").mkdir()
        for name in ("b\\s.jpg", "b/s.jpg"):
            (tmp_path / name).write_bytes(b"")
        for source in (read_source(str(tmp_path)), manifest("m.csv", "\n".join(["image", *names]))):
            [reason] = told(source).values()
            assert "differ only in \\ and /" in reason
            assert "twice" not in reason

    def test_the_same_odd_name_twice(self, manifest: Write, tmp_path: Path) -> None:
        (tmp_path / "b\\s.jpg").write_bytes(b"")
        [reason] = told(manifest("m.csv", "image\nb\\s.jpg\nb\\s.jpg\n")).values()
        assert reason == "m.csv:3: the image is listed twice; the first one counts"

    @pytest.mark.parametrize("folder", ["photos [old]", "[a]", "x[1-2]y", "[!", "deep/[b]/c"])
    def test_a_glob_below_a_folder_with_brackets(self, folder: str, tmp_path: Path) -> None:
        (tmp_path / folder / "sub").mkdir(parents=True)
        for name in ("1.jpg", "2.jpg", "sub/3.jpg"):
            (tmp_path / folder / name).write_bytes(b"")
        place = tmp_path / folder
        for pattern, keys in (
            ("*.jpg", ["1.jpg", "2.jpg"]),
            ("**/[13].jpg", ["1.jpg", "sub/3.jpg"]),
        ):
            found = {row["id"] for row in read_source(f"{place}/{pattern}").rows()}
            assert found == {point_id(key) for key in keys}

    def test_brackets_behind_a_wildcard(self, tmp_path: Path) -> None:
        for folder in ("a [x]", "b", "x"):
            (tmp_path / "p" / folder).mkdir(parents=True)
            (tmp_path / "p" / folder / "[1].jpg").write_bytes(b"")
        found = read_source(f"{tmp_path}/p/*/[1].jpg")
        assert len(found) == 3
        assert len(read_source(f"{tmp_path}/*/a [x]/*")) == 1


def no_path_is_told_twice(root: Path) -> None:
    for line in (root / "g" / "rejects.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["uri"] not in row["reason"], row


def test_rejects_name_each_path_once(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 1)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"text")
    (tmp_path / "folder.jpg").mkdir()
    rows = [*names, *names, "empty.jpg", "text.jpg", "gone.jpg", "folder.jpg", "", "C:\\x.jpg"]
    rows.append("https://example.org/a.jpg")
    (tmp_path / "m.csv").write_text("image,n\n" + "".join(f"{name},1\n" for name in rows))
    run = ingest(tmp_path / "m.csv", "--gallery", "g", cwd=tmp_path)
    assert run.line == "9 images in: 1 stored, 0 unchanged, 8 rejected", run.err
    no_path_is_told_twice(tmp_path)


LAST_SECOND = 253402300799


class TestParquetValues:
    """One that Python has no place for costs its row alone."""

    def write(self, root: Path, **columns: Any) -> Source:
        count = max(len(one) for one in columns.values())
        images = [f"{n}.jpg" for n in range(count)]
        parquet.write_table(pa.table({"image": images, **columns}), root / "m.parquet")
        return read_source(str(root / "m.parquet"))

    @pytest.mark.parametrize(
        ("column", "good", "reason"),
        [
            (
                pa.array([0, LAST_SECOND, 0], pa.timestamp("s", "Asia/Tokyo")),
                "1970-01-01T09:00:00+09:00",
                "that cannot be read",
            ),
            (pa.array([0, 2**62, 0], pa.timestamp("us")), "1970-01-01T00:00:00", "cannot be read"),
            (
                pa.array([0, 2**62, 0], pa.timestamp("us", "UTC")),
                "1970-01-01T00:00:00+00:00",
                "read",
            ),
            (pa.array([0, 2**31 - 1, 0], pa.date32()), "1970-01-01", "cannot be read"),
            (pa.array([0, 2**62, 0], pa.duration("s")), "0:00:00", "cannot be read"),
            (pa.array([b"a", b"\xff", b"a"]).cast(pa.string(), safe=False), "a", "not UTF-8"),
            (pa.array([b"a", b"\xff", b"a"]), "a", "not UTF-8"),
            (pa.array([1, 2**64 - 1, 1], pa.uint64()), 1, "is too large an integer"),
            (pa.array([Decimal(1), Decimal(10**30), Decimal(1)]), 1, "is too large an integer"),
            (
                pa.array([[b"a"], [b"\xff"], [b"a"]], pa.list_(pa.binary())),
                ["a"],
                "not UTF-8",
            ),
            (
                pa.array(
                    [{"at": 0}, {"at": 2**62}, {"at": 0}], pa.struct([("at", pa.timestamp("us"))])
                ),
                {"at": "1970-01-01T00:00:00"},
                "cannot be read",
            ),
        ],
        ids=str,
    )
    def test_a_bad_value_is_rejected_by_name(
        self, column: pa.Array, good: Any, reason: str, tmp_path: Path
    ) -> None:
        source = self.write(tmp_path, n=[1, 2, 3], bad=column)
        assert payloads(source) == [{"n": 1, "bad": good}, {"n": 3, "bad": good}]
        [why] = told(source).values()
        assert "column 'bad': " in why
        assert reason in why
        assert "m.parquet:2" in next(source.rejects()).uri + why

    def test_a_dictionary_that_cannot_be_read_costs_its_row_group(self, tmp_path: Path) -> None:
        texts = pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False)
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), texts)
        good = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0]), pa.array(["a"]))
        tables = [
            pa.table({"image": [f"{n}{k}.jpg" for n in "abc"], "x": one})
            for k, one in enumerate((column, good))
        ]
        with parquet.ParquetWriter(tmp_path / "m.parquet", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        source = read_source(str(tmp_path / "m.parquet"))
        assert payloads(source) == [{"x": "a"}] * 3
        assert told(source)["m.parquet:3"].startswith(
            "3 rows up to this one cannot be read in column 'x'"
        )

    def test_values_that_need_care(self, tmp_path: Path) -> None:
        """Nanoseconds, maps, half floats and durations, without pandas and without loss."""
        moment = 1768907445451174113
        source = self.write(
            tmp_path,
            ns=pa.array([moment, moment - 113], pa.timestamp("ns", "UTC")),
            local=pa.array([moment, None], pa.timestamp("ns")),
            early=pa.array([1, 0], pa.timestamp("ns", "+05:30")),
            map=pa.array([[("a", 1), ("b", None)], []], pa.map_(pa.string(), pa.int64())),
            half=pa.array(np.array([0.5, 1.5], np.float16)),
            took=pa.array([timedelta(days=1, hours=2), timedelta(seconds=1)]),
            tick=pa.array([1_000_000_001, None], pa.duration("ns")),
            time=pa.array([3_600_000_000_001, 0], pa.time64("ns")),
            money=[Decimal("1.10"), Decimal("2.50")],
            id=pa.array([Decimal(2**60 + 1), None], pa.decimal128(38, 0)),
        )
        first, second = payloads(source)
        assert first == {
            "ns": "2026-01-20T11:10:45.451174113+00:00",
            "local": "2026-01-20T11:10:45.451174113",
            "early": "1970-01-01T05:30:00.000000001+05:30",
            "map": {"a": 1, "b": None},
            "half": 0.5,
            "took": "1 day, 2:00:00",
            "tick": "0:00:01.000000001",
            "time": "01:00:00.000000001",
            "money": 1.1,
            "id": 2**60 + 1,
        }
        assert second["ns"] == "2026-01-20T11:10:45.451174+00:00"
        assert second["early"] == "1970-01-01T05:30:00+05:30"
        types = {one.name: one.type for one in source.columns}
        assert types["ns"] == types["local"] == "datetime"
        assert (types["money"], types["id"], types["half"]) == ("float", "integer", "float")
        assert (types["map"], types["took"]) == ("object", "keyword")

    def test_numbers_that_are_not_finite_are_left_out_and_told(self, tmp_path: Path) -> None:
        source = self.write(tmp_path, x=[1.5, float("nan"), float("inf"), -float("inf")])
        assert payloads(source) == [{"x": 1.5}, {}, {}, {}]
        [column] = source.columns
        assert list(column.remarks()) == ["column 'x': 3 NaN or infinite values are left out"]

    def test_a_damaged_row_group_costs_itself_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "m.parquet"
        names = [f"{n}.jpg" for n in range(30)]
        parquet.write_table(pa.table({"image": names}), path, row_group_size=10)
        group = parquet.read_metadata(path).row_group(1).column(0)
        data = bytearray(path.read_bytes())
        begin = group.dictionary_page_offset or group.data_page_offset
        data[begin : begin + group.total_compressed_size] = b"\xff" * group.total_compressed_size
        path.write_bytes(data)
        source = read_source(str(path))
        assert len(source) == 20
        assert not source.complete
        assert told(source)["m.parquet:20"].startswith("10 rows up to this one cannot be read")

    def test_a_bad_name_of_an_image(self, tmp_path: Path) -> None:
        names = pa.array([b"a.jpg", b"\xff.jpg"]).cast(pa.string(), safe=False)
        parquet.write_table(pa.table({"image": names}), tmp_path / "m.parquet")
        source = read_source(str(tmp_path / "m.parquet"))
        assert len(source) == 1
        assert told(source) == {"m.parquet:2": "column 'image': it is not UTF-8 text"}


class TestImagesInParquet:
    """As Hugging Face's data sets have them."""

    TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def test_bytes_are_read_where_they_are(self, tmp_path: Path) -> None:
        images = [{"bytes": jpeg(n), "path": "same.jpg"} for n in range(25)]
        images[7] = {"bytes": None, "path": "beside.jpg"}
        images[8] = {"bytes": None, "path": None}
        images[9] = None  # type: ignore[call-overload]
        columns = {
            "image": pa.array(images, self.TYPE),
            "label": list(range(25)),
            "mask": pa.array([{"bytes": b"\xff", "path": None}] * 25, self.TYPE),
        }
        path = tmp_path / "train 0.parquet"
        parquet.write_table(pa.table(columns), path, row_group_size=10)
        source = read_source(str(path))
        rows = {row["payload"]["label"]: row for row in source.rows()}
        assert set(rows) == {*range(25)} - {8, 9}
        assert rows[3]["id"] == point_id("train 0.parquet/4")
        assert rows[7]["uri"] == str(tmp_path / "beside.jpg")
        assert set(rows[3]["payload"]) == {"label"}
        assert list(told(source).values()) == ["no 'image' value"] * 2
        inside = [number for number in sorted(rows, reverse=True) if number != 7]
        uris = [rows[number]["uri"] for number in inside]
        assert read_batch(uris, allow_urls=False) == [jpeg(number) for number in inside]

    @pytest.mark.parametrize("type", [pa.binary(), pa.large_binary()])
    def test_plain_bytes(self, type: pa.DataType, tmp_path: Path) -> None:
        columns = {"image": pa.array([None, jpeg(1), jpeg(2)], type)}
        parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
        source = read_source(str(tmp_path / "m.parquet"))
        uris = [row["uri"] for row in source.rows()]
        assert read_batch(uris, allow_urls=False) == [jpeg(1), jpeg(2)]

    def test_paths_that_an_old_writer_marks_as_binary(self, tmp_path: Path) -> None:
        parquet.write_table(pa.table({"image": [b"a.jpg", b"b.jpg"]}), tmp_path / "m.parquet")
        source = read_source(str(tmp_path / "m.parquet"))
        uris = [row["uri"] for row in source.rows()]
        assert uris == [str(tmp_path / name) for name in ("a.jpg", "b.jpg")]

    def test_a_run(self, tmp_path: Path) -> None:
        images = [{"bytes": jpeg(n), "path": None} for n in range(5)] + [
            {"bytes": b"x", "path": None}
        ]
        columns = {"image": pa.array(images, self.TYPE), "n": list(range(6))}
        parquet.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=2)
        for line in ("6 images in: 5 stored, 0 unchanged", "6 images in: 0 stored, 5 unchanged"):
            run = ingest("train.parquet", "--gallery", "g", cwd=tmp_path)
            assert run.line == f"{line}, 1 rejected", run.err
        no_path_is_told_twice(tmp_path)
        with EdgeGallery.open(tmp_path / "g") as gallery:
            [stored] = gallery.retrieve([point_id("train.parquet/3")])
        assert stored.payload["n"] == 2
        assert stored.payload["_fti"]["uri"] == f"parquet://image/3::{tmp_path}/train.parquet"

    def test_a_file_that_is_written_anew_is_not_read_from_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "m.parquet"
        for seed in (1, 2):
            parquet.write_table(pa.table({"image": [jpeg(seed)] * seed}), path)
            uris = [row["uri"] for row in read_source(str(path)).rows()]
            assert read_batch(uris, allow_urls=False) == [jpeg(seed)] * seed
