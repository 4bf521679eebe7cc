"""Folders, globs and manifests -> the images to ingest, and what is wrong with the other rows."""

from __future__ import annotations

import errno
import json
import os
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from fti_ingest.sources.column_types import Columns, index_types
from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import point_id


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def below(source: Source, root: Path) -> dict[str, str]:
    """Path below ``root`` -> point id."""
    return {os.path.relpath(row["uri"], root): row["id"] for row in source.rows()}


def payloads(source: Source) -> list[dict[str, Any]]:
    return [row["payload"] for row in source.rows()]


def manifest(root: Path, name: str, text: str | bytes) -> Source:
    path = root / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_source(str(path))


def only_reject(source: Source) -> tuple[str, str]:
    [reject] = source.rejects()
    return Path(reject.uri).name, reject.reason


class TestFolders:
    def test_images_are_found_at_any_depth_and_other_files_are_not(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.JPG", "a/c.png", "a/b/d.webp", "notes.txt", "a/e.pdf", "jpg")
        (tmp_path / "folder.png").mkdir()
        source = read_source(str(tmp_path))
        names = ["b.JPG", "a/c.png", "a/b/d.webp"]
        assert below(source, tmp_path) == {name: point_id(name) for name in names}
        assert list(source.rejects()) == []
        assert source.indexes == {}

    def test_the_id_does_not_depend_on_how_the_folder_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "photos/a.png")
        expected = list(read_source(str(tmp_path / "photos")).rows())
        monkeypatch.chdir(tmp_path)
        for spelling in ("photos", "./photos/", "../" + tmp_path.name + "/photos"):
            assert list(read_source(spelling).rows()) == expected

    def test_links_keep_their_own_names_and_broken_ones_are_listed(self, tmp_path: Path) -> None:
        touch(tmp_path, "store/0123.bin")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").symlink_to(tmp_path / "store" / "0123.bin")
        (tmp_path / "photos" / "b.jpg").symlink_to(tmp_path / "nowhere")
        found = below(read_source(str(tmp_path / "photos")), tmp_path / "photos")
        assert set(found) == {"a.jpg", "b.jpg"}

    def test_a_name_that_is_not_utf8_is_rejected_and_the_others_stay(self, tmp_path: Path) -> None:
        touch(tmp_path, "good.jpg")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"")
        source = read_source(str(tmp_path))
        assert set(below(source, tmp_path)) == {"good.jpg"}
        assert only_reject(source)[0] == "caf\\udce9.jpg"
        assert "not UTF-8" in only_reject(source)[1]

    @pytest.mark.parametrize("name", ["größe ✓.jpg", "with space.jpg", "a#b?.jpg", "[x].jpg"])
    def test_names_may_hold_any_other_sign(self, tmp_path: Path, name: str) -> None:
        touch(tmp_path, name)
        assert below(read_source(str(tmp_path)), tmp_path) == {name: point_id(name)}

    @pytest.mark.parametrize("content", [[], ["notes.txt"]])
    def test_nothing_to_ingest_is_an_error(self, tmp_path: Path, content: list[str]) -> None:
        touch(tmp_path, *content)
        with pytest.raises(BadManifest, match="holds no images"):
            read_source(str(tmp_path))

    def test_neither_folder_nor_manifest(self, tmp_path: Path) -> None:
        touch(tmp_path, "notes.txt")
        with pytest.raises(BadManifest, match="no such file or folder"):
            read_source(str(tmp_path / "nowhere"))
        with pytest.raises(BadManifest, match="is none of: a folder"):
            read_source(str(tmp_path / "notes.txt"))


class TestGlobs:
    @pytest.fixture(autouse=True)
    def _photos(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "p/a.jpg", "p/ab/b.jpg", "p/ab/c.png", "p/abc/d.jpg", "q/e.jpg")
        touch(tmp_path, "p/.thumbs/h.jpg", "p/ab/._b.jpg")
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("pattern", "keys"),
        [
            ("p/*.jpg", ["a.jpg"]),
            ("p/**/*.jpg", ["a.jpg", "ab/b.jpg", "abc/d.jpg"]),
            ("p/ab*/*.jpg", ["ab/b.jpg", "abc/d.jpg"]),
            ("p/ab/[bc].*", ["b.jpg", "c.png"]),
            ("?/*.jpg", ["p/a.jpg", "q/e.jpg"]),
            ("./p/*.jpg", ["a.jpg"]),
            ("p/**.jpg", ["a.jpg"]),
            ("p/***/b.jpg", ["ab/b.jpg"]),
            ("p/.*/*.jpg", [".thumbs/h.jpg"]),
            ("p/ab/*", ["b.jpg", "c.png"]),
        ],
    )
    def test_keys_are_relative_to_the_fixed_part(self, pattern: str, keys: list[str]) -> None:
        found = read_source(pattern)
        assert sorted(row["id"] for row in found.rows()) == sorted(map(point_id, keys))
        assert all(Path(row["uri"]).is_absolute() for row in found.rows())

    def test_an_absolute_pattern_gives_the_same_ids(self, tmp_path: Path) -> None:
        absolute = read_source(f"{tmp_path}/p/**/*.jpg")
        assert list(absolute.rows()) == list(read_source("p/**/*.jpg").rows())

    def test_links_to_folders_are_followed_where_they_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "q" / "ab").symlink_to(tmp_path / "p" / "ab")
        (tmp_path / "q" / "round").symlink_to(tmp_path / "q")
        found = {row["id"] for row in read_source("q/a*/*.jpg").rows()}
        assert found == {point_id("ab/b.jpg")}
        deep = read_source("q/**/*")
        assert {row["id"] for row in deep.rows()} == set(
            map(point_id, ("e.jpg", "ab/b.jpg", "ab/c.png"))
        )
        assert only_reject(deep)[0] == "round"

    @pytest.mark.parametrize("source", ["p", "p/**/*.jpg", "p/a*/*.jpg"])
    def test_a_folder_that_cannot_be_read_is_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
    ) -> None:
        """So that --prune deletes nothing."""
        read, closed = os.scandir, str(tmp_path / "p" / "abc")

        def scandir(folder: Any) -> Any:
            if str(folder) == closed:
                raise OSError(errno.EIO, "Input/output error", closed)
            return read(folder)

        monkeypatch.setattr(os, "scandir", scandir)
        found = read_source(source)
        assert not found.complete
        assert only_reject(found) == ("abc", "the folder cannot be read: Input/output error")
        assert {Path(row["uri"]).parent.name for row in found.rows()} >= {"ab"}

    def test_no_match_is_an_error(self) -> None:
        with pytest.raises(BadManifest, match="holds no images"):
            read_source("p/*.gif")


class TestManifests:
    def test_paths_are_relative_to_the_manifest_as_in_its_folder(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "deep/b.jpg")
        folder = {row["id"] for row in read_source(str(tmp_path)).rows()}
        text = f"image\n./a.jpg\n{tmp_path}/deep/b.jpg\n"
        source = manifest(tmp_path, "m.csv", text)
        assert {row["id"] for row in source.rows()} == folder
        assert set(below(source, tmp_path)) == {"a.jpg", "deep/b.jpg"}

    def test_files_outside_the_folder_have_absolute_keys(self, tmp_path: Path) -> None:
        (tmp_path / "lists").mkdir()
        source = manifest(tmp_path / "lists", "m.csv", "image\n../a.jpg\n")
        [row] = source.rows()
        assert row["uri"] == str(tmp_path / "a.jpg")
        assert row["id"] == point_id(str(tmp_path / "a.jpg"))

    def test_urls_stay_as_they_are(self, tmp_path: Path) -> None:
        url = "https://example.org/a%20b.jpg?size=2"
        [row] = manifest(tmp_path, "m.csv", f"image,name\n{url},x\n").rows()
        assert row == {"id": point_id(url), "uri": url, "payload": {"name": "x"}}

    def test_an_image_that_is_listed_twice_counts_once(self, tmp_path: Path) -> None:
        source = manifest(tmp_path, "m.csv", "image,n\na.jpg,1\nb.jpg,2\n./a.jpg,3\n")
        assert payloads(source) == [{"n": 1}, {"n": 2}]
        name, reason = only_reject(source)
        assert name == "a.jpg"
        assert "m.csv:4: the image is listed twice; the first one counts" in reason

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("m.csv", "picture,n\na.jpg,1\n"),
            ("m.csv", ""),
            ("m.jsonl", '{"picture": "a.jpg"}\n'),
            ("m.jsonl", ""),
        ],
    )
    def test_without_a_column_image(self, tmp_path: Path, name: str, text: str) -> None:
        with pytest.raises(BadManifest, match="'image'"):
            manifest(tmp_path, name, text)

    @pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
    def test_our_own_field_is_reserved(self, tmp_path: Path, name: str) -> None:
        text = "image,_fti\na.jpg,1\n" if name == "m.csv" else '{"image": "a.jpg", "_fti": 1}'
        with pytest.raises(BadManifest, match="'_fti' is reserved"):
            manifest(tmp_path, name, text)

    def test_a_million_rows_are_not_held_as_objects(self, tmp_path: Path) -> None:
        rows = "".join(f"picture-{n:06d}.jpg,{n % 100},Acme\n" for n in range(5000))
        source = manifest(tmp_path, "m.csv", f"image,price,brand\n{rows}")
        assert len(source) == 5000
        assert source.table.nbytes < 250 * 5000


class TestCsv:
    def test_a_column_is_of_a_type_where_all_its_values_are(self, tmp_path: Path) -> None:
        source = manifest(
            tmp_path,
            "m.csv",
            "image,n,price,mixed,sku,ean,flag,when,gap\n"
            "a.jpg,1,2,3,007,12345678901234567890,true,2026-01-31,\n"
            "b.jpg,-2,2.5,x,8,1,False,2026-02-01,5\n",
        )
        first, second = payloads(source)
        assert first == {
            "n": 1,
            "price": 2.0,
            "mixed": "3",
            "sku": "007",
            "ean": "12345678901234567890",
            "flag": True,
            "when": "2026-01-31",
        }
        assert second["flag"] is False
        assert second["gap"] == 5
        assert source.indexes == {
            "n": "integer",
            "price": "float",
            "mixed": "keyword",
            "sku": "keyword",
            "ean": "keyword",
            "flag": "bool",
            "when": "keyword",
            "gap": "integer",
        }

    def test_the_last_row_decides_too(self, tmp_path: Path) -> None:
        """Readers that look at the first block alone fail on a text far below numbers."""
        rows = "".join(f"{n}.jpg,{n}\n" for n in range(30_000))
        source = manifest(tmp_path, "m.csv", f"image,size\n{rows}last.jpg,unknown\n")
        assert source.table.num_rows == 30_001
        assert json.loads(source.table["payload"][0].as_py()) == {"size": "0"}
        assert source.indexes == {"size": "keyword"}

    def test_missing_numbers_are_left_out(self, tmp_path: Path) -> None:
        source = manifest(tmp_path, "m.csv", "image,x\na.jpg,1.5\nb.jpg,nan\nc.jpg,\n")
        assert payloads(source) == [{"x": 1.5}, {}, {}]
        assert source.indexes == {"x": "float"}

    @pytest.mark.parametrize("text", ["-", "+", ".", "E10", "1.2.3", "--1"])
    def test_what_looks_a_little_like_a_number_is_a_text(self, tmp_path: Path, text: str) -> None:
        source = manifest(tmp_path, "m.csv", f"image,x\na.jpg,1.5\nb.jpg,{text}\n")
        assert payloads(source) == [{"x": "1.5"}, {"x": text}]
        assert source.indexes == {"x": "keyword"}

    def test_quotes_commas_line_breaks_and_a_byte_order_mark(self, tmp_path: Path) -> None:
        text = b'\xef\xbb\xbfimage,text\r\n"a, b.jpg","two\nlines, ""quoted"""\r\n'
        source = manifest(tmp_path, "m.csv", text)
        assert payloads(source) == [{"text": 'two\nlines, "quoted"'}]
        assert set(below(source, tmp_path)) == {"a, b.jpg"}

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (b"b.jpg", "1 fields, and the header names 2"),
            (b"b.jpg,1,2", "3 fields, and the header names 2"),
            (b",1", "no 'image' value"),
            (b" ,1", "no 'image' value"),
            (b"b.jpg,caf\xe9", "not UTF-8"),
            (b'b.jpg,"1"2', "not CSV"),
        ],
    )
    def test_a_bad_row_is_rejected_and_the_others_stay(
        self, tmp_path: Path, row: bytes, reason: str
    ) -> None:
        source = manifest(tmp_path, "m.csv", b"image,n\na.jpg,1\n" + row + b"\n\nc.jpg,3\n")
        assert payloads(source) in ([{"n": 1}, {"n": 3}], [{"n": "1"}, {"n": "3"}])
        where, why = only_reject(source)
        assert where == "m.csv:3"
        assert reason in why

    def test_a_quote_that_never_ends_must_not_swallow_rows(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match=r"m\.csv:3: a quote opens here and is never closed"):
            manifest(tmp_path, "m.csv", 'image,n\na.jpg,1\nb.jpg,"2\nc.jpg,3\n')

    def test_two_columns_of_one_name(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="two columns 'n'"):
            manifest(tmp_path, "m.csv", "image,n,n\na.jpg,1,2\n")

    def test_a_column_without_a_name_is_pandas_index(self, tmp_path: Path) -> None:
        assert payloads(manifest(tmp_path, "m.csv", ",image,n\n0,a.jpg,5\n")) == [{"n": 5}]


class TestJsonl:
    def test_an_integer_that_qdrant_cannot_hold_is_rejected(self, tmp_path: Path) -> None:
        lines = [json.dumps({"image": f"{n}.jpg", "hash": 2**n}) for n in (62, 63, 64)]
        source = manifest(tmp_path, "m.jsonl", "\n".join(lines))
        assert payloads(source) == [{"hash": 2**62}]
        assert "9,223,372,036,854,775,808 is too large" in next(source.rejects()).reason

    def test_values_keep_their_types(self, tmp_path: Path) -> None:
        row = {"image": "a.jpg", "n": 1, "x": 1.5, "on": True, "tags": ["a", "b"], "o": {"p": [1]}}
        lines = [json.dumps(row), "", json.dumps({**row, "image": "b.jpg", "n": None})]
        source = manifest(tmp_path, "m.jsonl", "\n".join(lines))
        del row["image"]
        assert payloads(source) == [row, {name: row[name] for name in row if name != "n"}]
        assert source.indexes == {"n": "integer", "x": "float", "on": "bool", "tags": "keyword"}

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"{broken", "not JSON"),
            (b'"a text"', "not a JSON object"),
            (b"[1, 2]", "not a JSON object"),
            (b"null", "not a JSON object"),
            (b'{"n": 1}', "no 'image' value"),
            (b'{"image": 5}', "no 'image' value"),
            (b'{"image": "b.jpg", "n": "caf\xe9"}', "not UTF-8"),
            (b'{"image": "b.jpg", "n": "\\ud800"}', "not UTF-8"),
            (b'{"image": "b.jpg", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "ecursion"),
        ],
    )
    def test_a_bad_line_is_rejected_and_the_others_stay(
        self, tmp_path: Path, line: bytes, reason: str
    ) -> None:
        good = [b'\xef\xbb\xbf{"image": "a.jpg"}', b'{"image": "c.jpg"}']
        source = manifest(tmp_path, "m.jsonl", b"\n".join([good[0], line, good[1]]))
        assert set(below(source, tmp_path)) == {"a.jpg", "c.jpg"}
        assert reason in only_reject(source)[1]

    def test_what_json_cannot_say_is_left_out(self, tmp_path: Path) -> None:
        text = '{"image": "a.jpg", "x": NaN, "y": [Infinity, 1]}'
        assert payloads(manifest(tmp_path, "m.jsonl", text)) == [{"y": [None, 1]}]


class TestParquet:
    def write(self, path: Path, columns: dict[str, Any]) -> Source:
        parquet.write_table(pa.table(columns), path)
        return read_source(str(path))

    def test_values_become_json_and_dates_are_indexed_as_such(self, tmp_path: Path) -> None:
        moment = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
        source = self.write(
            tmp_path / "m.parquet",
            {
                "image": ["a.jpg", "b.jpg"],
                "n": pa.array([1, None], pa.int32()),
                "price": [Decimal("1.25"), Decimal("2.50")],
                "at": [moment, moment],
                "day": [date(2026, 1, 31), None],
                "text": [b"bytes", b"more"],
                "tags": [["a"], ["b", "c"]],
                "size": [{"w": 1}, {"w": 2}],
            },
        )
        assert payloads(source)[0] == {
            "n": 1,
            "price": 1.25,
            "at": "2026-01-31T12:00:00+00:00",
            "day": "2026-01-31",
            "text": "bytes",
            "tags": ["a"],
            "size": {"w": 1},
        }
        assert "n" not in payloads(source)[1]
        assert source.indexes == {
            "n": "integer",
            "price": "float",
            "at": "datetime",
            "day": "datetime",
            "text": "keyword",
            "tags": "keyword",
        }

    def test_bad_rows(self, tmp_path: Path) -> None:
        columns = {"image": ["a.jpg", None, "c.jpg"], "thumb": [None, None, b"\xff\xd8"]}
        source = self.write(tmp_path / "m.parquet", columns)
        assert set(below(source, tmp_path)) == {"a.jpg"}
        assert [reject.reason for reject in source.rejects()] == [
            "no 'image' value",
            "m.parquet:3: column 'thumb': 2 bytes that are not UTF-8 text; leave the column out",
        ]

    def test_no_column_image_and_not_parquet(self, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="has no column 'image'; its columns are picture"):
            self.write(tmp_path / "m.parquet", {"picture": ["a.jpg"]})
        (tmp_path / "n.parquet").write_bytes(b"PAR1 nonsense PAR1")
        with pytest.raises(BadManifest, match="cannot be read"):
            read_source(str(tmp_path / "n.parquet"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "integer"),
        ([1, 2.5], "float"),
        ([2.5, 1], "float"),
        ([True, False], "bool"),
        ([True, 1], None),
        (["a", 1.5], None),
        ([1.5, "a"], None),
        ([1.5, "a", 1, 2.5], None),
        (["a", ["b", "c"]], "keyword"),
        ([[], None], None),
        ([{"a": 1}], None),
        ([date(2026, 1, 1), datetime(2026, 1, 1)], "datetime"),
    ],
)
def test_index_types(values: list[Any], kind: str | None) -> None:
    columns = Columns({}, texts=False)
    for value in values:
        columns.see({"field": value}, "m.jsonl:1", "a.jpg")
    assert index_types(columns.found()) == ({} if kind is None else {"field": kind})


def test_names_that_no_index_can_have_are_left_unindexed() -> None:
    columns = Columns({}, texts=False)
    columns.see({"price (€)": 1, "a b": 1, "größe": 1, "a-b_c": 1, "": 1}, "", "a.jpg")
    assert index_types(columns.found()) == {"größe": "integer", "a-b_c": "integer"}
