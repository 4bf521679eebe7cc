"""The one type of a payload column, from CSV, JSONL and Parquet alike, and what decides it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fti_ingest.sources.column_types import MAX_FAILED_CHECKS, Columns, index_types
from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_ingest.sources.value_kinds import COLUMN_TYPES, ColumnType, convert, kind_of_text
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import EdgeGallery, VectorQuery
from tests.ingest.sources_and_runs import ingest, picture, read_rejects, write_pictures

CODES = [
    *("587E590003", "12E4", "1e5", "E10", "007", "-007", "00", "+4915112345", "+1", "1_000"),
    *("0x1F", "0b1", "inf", "-inf", "Infinity", "1,000", "1.2.3", "--1", "-", ".", "", "1e999"),
    *("1.5e999", "1.5e-999", "12345678901234567890", "9223372036854775808", "-0", "½", "١٢"),
    *("-9223372036854775809", "1 000", "truest", "nano", "tru", "1f", "1.5f", "$5", "12-34"),
]
INTEGERS = ("0", "-1", "9223372036854775807", "-9223372036854775808")
FLOATS = ("1.5", "-0.0", "+1.5", ".5", "5.", "1e-05", "1.0E7", "2e+16")


class TestTexts:
    """Values of a CSV file."""

    @pytest.mark.parametrize("text", CODES)
    def test_codes_and_words_stay_texts(self, text: str) -> None:
        assert kind_of_text(text) == "keyword"

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            *(
                (text, "integer")
                for text in ("0", "-1", "9223372036854775807", "-9223372036854775808")
            ),
            *(
                (text, "float")
                for text in ("1.5", "-0.0", "+1.5", ".5", "5.", "1e-05", "1.0E7", "2e+16")
            ),
            *((text, "bool") for text in ("true", "False", "TRUE")),
            *((text, "nan") for text in ("nan", "NaN", "NAN")),
        ],
    )
    def test_what_is_narrower(self, text: str, kind: str) -> None:
        assert kind_of_text(text) == kind

    @given(st.integers())
    def test_integers_are_exact_or_texts(self, number: int) -> None:
        fits = -(2**63) <= number < 2**63
        assert kind_of_text(str(number)) == ("integer" if fits else "keyword")
        if fits:
            assert convert(str(number), "integer") == number

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_floats_as_programs_write_them(self, number: float) -> None:
        for text in (repr(number), f"{number:e}", f"{number:.17g}"):
            kind = kind_of_text(text)
            assert (
                kind == "float"
                or ("e" not in text and float(text) == int(float(text)))
                or not number
            )
            assert float(convert(text, "float")) == float(text)

    @given(st.from_regex(r"[A-Z0-9+._-]{1,12}", fullmatch=True))
    def test_a_number_is_what_its_text_says(self, text: str) -> None:
        """Written back, an integer is the same text, and a float the same number."""
        kind = kind_of_text(text)
        if kind == "integer":
            assert str(convert(text, "integer")) == text
        elif kind == "float":
            assert "." in text or "E-" in text or "E+" in text
            assert convert(text, "float") == float(text)


class TestConvert:
    @pytest.mark.parametrize(
        ("value", "type", "expected"),
        [
            ("12E4", "float", 120000.0),
            ("+5", "integer", 5),
            ("007", "integer", 7),
            ("5.0", "integer", 5),
            (5.0, "integer", 5),
            (2**60 + 1, "float", 2**60 + 1),
            (str(2**60 + 1), "float", 2**60 + 1),
            (3, "float", 3.0),
            ("Yes", "keyword", "Yes"),
            (True, "keyword", "true"),
            (7, "text", "7"),
            ("nan", "keyword", "nan"),
            ("nan", "float", None),
            (" TRUE ", "bool", True),
            (0, "bool", False),
            ("2026-01-31", "datetime", "2026-01-31"),
            ("2026-01-31T12:00:00Z", "datetime", "2026-01-31T12:00:00+00:00"),
            (["1", "2"], "integer", [1, 2]),
            ([1, None], "keyword", ["1", None]),
        ],
    )
    def test_to_a_chosen_type(self, value: Any, type: ColumnType, expected: Any) -> None:
        found = convert(value, type)
        assert found == expected
        assert [one.__class__ for one in [found]] == [expected.__class__]

    @pytest.mark.parametrize(
        ("value", "type"),
        [
            ("n/a", "float"),
            ("1_000", "integer"),
            ("inf", "float"),
            ("1e999", "float"),
            ("1e999999999", "integer"),
            (1.5, "integer"),
            (True, "integer"),
            (True, "float"),
            (str(2**63), "integer"),
            ("yes", "bool"),
            (2, "bool"),
            ("31.01.2026", "datetime"),
            (1700000000, "datetime"),
            ({"a": 1}, "keyword"),
            ([1, "x"], "integer"),
        ],
    )
    def test_what_cannot_be_one_is_named(self, value: Any, type: ColumnType) -> None:
        with pytest.raises(ValueError, match=f"is no {type}"):
            convert(value, type)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a manifest, by its suffix."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def payloads(source: Source) -> list[dict[str, Any]]:
    return [row["payload"] for row in source.rows()]


def types_of(source: Source) -> dict[str, str]:
    return {one.name: one.type for one in source.columns}


def remarks(source: Source) -> list[str]:
    return [remark for one in source.columns for remark in one.remarks()]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_all_tables_give_the_same_types(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "n": 1, "x": 1.5, "s": "red", "flag": True, "id": 115366288021159611},
        {"image": "b.jpg", "n": None, "x": 2.5, "s": "a1", "flag": None, "id": None},
        {"image": "c.jpg", "n": 3, "x": 3.0, "s": "x", "flag": False, "id": 115366288021159612},
    ]
    source = read_source(str(written(tmp_path / f"m{suffix}", rows)))
    assert types_of(source) == {
        "n": "integer",
        "x": "float",
        "s": "keyword",
        "flag": "bool",
        "id": "integer",
    }
    expected = [{name: row[name] for name in row if row[name] is not None} for row in rows]
    assert [
        {**row, "image": f"{'abc'[n]}.jpg"} for n, row in enumerate(payloads(source))
    ] == expected
    assert [type(row["id"]) for row in payloads(source) if "id" in row] == [int, int]


class TestCsvColumns:
    def read(self, root: Path, text: str, **options: Any) -> Source:
        (root / "m.csv").write_text(text)
        return read_source(str(root / "m.csv"), **options)

    def test_blanks_around_values_are_trimmed(self, tmp_path: Path) -> None:
        text = (
            'image, price , brand\na.jpg, 50, " Acme"\nb.jpg,\t7 ,"two, ""three"" " , 5\n'
            '"c.jpg" , "8" ,  x y  \n'
        )
        source = self.read(tmp_path, text.replace(" , 5", ""))
        assert payloads(source) == [
            {"price": 50, "brand": "Acme"},
            {"price": 7, "brand": 'two, "three"'},
            {"price": 8, "brand": "x y"},
        ]

    def test_large_ids_are_exact_beside_missing_ones(self, tmp_path: Path) -> None:
        ids = [115366288021159611, 115366288021159612, 2**63 - 1, -(2**63)]
        rows = "".join(f"{n}.jpg,{id}\n" for n, id in enumerate(ids))
        source = self.read(tmp_path, f"image,id\n{rows}x.jpg,nan\ny.jpg,\n")
        assert payloads(source) == [*({"id": id} for id in ids), {}, {}]
        assert source.indexes == {"id": "integer"}
        assert remarks(source) == ["column 'id': 1 NaN or infinite values are left out"]

    def test_codes_keep_their_signs(self, tmp_path: Path) -> None:
        codes = ["587E590003", "12E4", "007", "+4915112345", "1_000", "0x1F", "NaN", "inf"]
        rows = "".join(f"{n}.jpg,{code}\n" for n, code in enumerate(codes))
        source = self.read(tmp_path, f"image,code\n{rows}")
        assert [row["code"] for row in payloads(source)] == codes
        assert source.indexes == {"code": "keyword"}

    def test_nan_is_a_word_where_there_is_no_number(self, tmp_path: Path) -> None:
        source = self.read(tmp_path, "image,name,n\na.jpg,Nan,nan\nb.jpg,nan,1\n")
        assert payloads(source) == [{"name": "Nan"}, {"name": "nan", "n": 1}]

    def test_large_integers_among_floats_lose_no_digit(self, tmp_path: Path) -> None:
        source = self.read(tmp_path, f"image,x\na.jpg,{2**53 + 1}\nb.jpg,0.5\n")
        assert payloads(source) == [{"x": 2**53 + 1}, {"x": 0.5}]

    def test_what_kept_a_column_from_a_narrower_type_is_told(self, tmp_path: Path) -> None:
        rows = "".join(f"{n}.jpg,{n},{n},word,{n}\n" for n in range(20))
        odd = "x.jpg,n/a,0.5,7,-\ny.jpg,-,1,8,-\nz.jpg,?,2,9,-\nw.jpg,none,3,word,-\n"
        source = self.read(tmp_path, f"image,price,x,title,m\n{rows}{odd}")
        assert remarks(source)[:2] == [
            "column 'price' is keyword and not integer, because of 'n/a' in m.csv:22, '-' in "
            "m.csv:23, '?' in m.csv:24 and 1 more",
            "column 'x' is float and not integer, because of '0.5' in m.csv:22",
        ]
        assert [one.name for one in source.columns] == ["price", "x", "title", "m"]

    def test_a_text_column_with_one_number_in_it_is_no_news(self, tmp_path: Path) -> None:
        rows = "".join(f"{n}.jpg,title {n}\n" for n in range(20))
        assert remarks(self.read(tmp_path, f"image,title\n{rows}x.jpg,1984\n")) == []


class TestRejectedRows:
    """They never decide the type of a column."""

    ROWS = "image,n\na.jpg,1\nb.jpg,2\n"

    @pytest.mark.parametrize(
        "row", ["a.jpg,text", ",text", "c.jpg,text,more", "zip://x::y.zip,text", "C:\\c.jpg,text"]
    )
    def test_a_bad_row(self, tmp_path: Path, row: str) -> None:
        (tmp_path / "m.csv").write_text(f"{self.ROWS}{row}\n")
        source = read_source(str(tmp_path / "m.csv"))
        assert payloads(source) == [{"n": 1}, {"n": 2}]
        assert types_of(source) == {"n": "integer"}
        assert source.reject_count == 1

    @pytest.mark.parametrize(
        ("bad", "why"), [("missing.jpg", "no such file"), ("broken.jpg", "truncated")]
    )
    def test_a_bad_image(self, tmp_path: Path, bad: str, why: str) -> None:
        write_pictures(tmp_path, 2)
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        text = f"image,n\n{bad},text\npicture-000.jpg,1\npicture-001.jpg,2\n"
        (tmp_path / "m.csv").write_text(text)
        run = ingest("m.csv", "--gallery", "g", cwd=tmp_path)
        assert run.line == "3 images in: 2 stored, 0 unchanged, 1 rejected", run.err
        [reason] = read_rejects(tmp_path / "g" / "rejects.jsonl").values()
        assert why in reason
        with EdgeGallery.open(tmp_path / "g") as gallery:
            assert gallery.spec.indexes == {"n": "integer"}

    def test_a_bad_image_in_a_shard_or_jsonl(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, 1)
        rows = [{"image": "gone.jpg", "n": "text"}, {"image": "picture-000.jpg", "n": 1}]
        source = read_source(str(written(tmp_path / "m.jsonl", rows)))
        assert source.indexes == {"n": "integer"}

    def test_where_no_image_can_be_read_here_all_rows_decide(self) -> None:
        """As where only the workers of a cluster see the images."""
        columns = Columns({}, texts=True, image_problem=lambda uri: "gone")
        columns.see({"n": "text"}, "1", "0.jpg")
        for number in range(2 * MAX_FAILED_CHECKS):
            columns.see({"n": str(number)}, f"{number}", f"{number}.jpg")
        assert index_types(columns.found()) == {"n": "keyword"}

    def test_few_images_are_looked_at(self) -> None:
        asked: list[str] = []
        columns = Columns({}, texts=True, image_problem=lambda uri: asked.append(uri) or "")
        for number in range(1000):
            columns.see({"n": str(number), "x": "0.5", "s": "text"}, "", f"{number}.jpg")
        assert asked == ["0.jpg"]


class TestChosenTypes:
    def test_a_value_that_is_not_of_it_is_rejected_by_name(self, tmp_path: Path) -> None:
        names = write_pictures(tmp_path, 3)
        rows = zip(names, ("12E4", "n/a", ""), ("007", "8", "9"))
        text = "".join(f"{','.join(row)}\n" for row in rows)
        (tmp_path / "m.csv").write_text(f"image,price,sku\n{text}")
        asked = ("m.csv", "--gallery", "g", "--type", "price:float", "--type", "sku:keyword")
        dry = ingest(*asked, "--dry-run", cwd=tmp_path)
        told = "would be rejected: " + str(tmp_path / names[1])
        assert f"{told}: m.csv:3: column 'price': 'n/a' is no float" in dry.out.splitlines()
        assert "columns: price float, sku keyword" in dry.out.splitlines()
        run = ingest(*asked, cwd=tmp_path)
        assert run.line == "3 images in: 2 stored, 0 unchanged, 1 rejected", run.err
        with EdgeGallery.open(tmp_path / "g") as gallery:
            assert gallery.spec.indexes == {"price": "float", "sku": "keyword"}
            found = {(one.get("price"), one["sku"]) for _, one in gallery.scroll()}
        assert found == {(120000.0, "007"), (None, "9")}

    @pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
    def test_values_that_have_a_type(self, suffix: str, tmp_path: Path) -> None:
        rows = [{"image": "a.jpg", "sku": 7, "day": "2026-01-31"}, {"image": "b.jpg", "sku": 8}]
        path = written(tmp_path / f"m{suffix}", rows)
        source = read_source(str(path), {"sku": "keyword", "day": "datetime"})
        assert payloads(source) == [{"sku": "7", "day": "2026-01-31"}, {"sku": "8"}]
        assert source.indexes == {"sku": "keyword", "day": "datetime"}

    def test_rows_that_it_rejects_decide_nothing_else(self, tmp_path: Path) -> None:
        rows = [{"image": "a.jpg", "x": 1, "n": 1}, {"image": "b.jpg", "x": "n/a", "n": "many"}]
        source = read_source(str(written(tmp_path / "m.csv", rows)), {"x": "float"})
        assert source.indexes == {"x": "float", "n": "integer"}
        assert payloads(source) == [{"x": 1.0, "n": 1}]

    def test_a_text_is_not_indexed(self, tmp_path: Path) -> None:
        path = written(tmp_path / "m.csv", [{"image": "a.jpg", "about": 5}])
        source = read_source(str(path), {"about": "text"})
        assert payloads(source) == [{"about": "5"}]
        assert source.indexes == {}

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        path = written(tmp_path / "m.csv", [{"image": "a.jpg", "price": 5}])
        with pytest.raises(BadManifest, match=r"names the column 'prise', .* columns are price"):
            read_source(str(path), {"prise": "float"})

    @pytest.mark.parametrize(
        "option", ["price", ":float", "price:number", "image:keyword", "a:float --type a:bool"]
    )
    def test_options_that_say_nothing(self, option: str, tmp_path: Path) -> None:
        path = written(tmp_path / "m.csv", [{"image": "a.jpg", "a": 5}])
        run = ingest(path, "--gallery", "g", "--type", *option.split(), cwd=tmp_path)
        assert run.code == 2
        assert "Invalid value" in run.err

    def test_an_index_that_would_leave_values_out(self, tmp_path: Path) -> None:
        write_pictures(tmp_path, 1)
        path = written(tmp_path / "m.csv", [{"image": "picture-000.jpg", "price": "n/a"}])
        run = ingest(path, "--gallery", "g", "--index", "price:float", cwd=tmp_path)
        assert run.code == 2
        assert "--index price:float, and the source has keyword values there" in run.error
        assert "--type price:float" in run.error

    def test_every_type_is_explained_in_the_docs(self) -> None:
        text = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
        assert all(f"`{type}`" in text for type in COLUMN_TYPES)


def test_a_price_column_can_be_filtered(tmp_path: Path) -> None:
    """From ``a.jpg, 50`` in the file to hits below 60."""
    from fti_qdrant.filters.grammar import as_filter

    for number in range(4):
        picture(number).save(tmp_path / f"{number}.jpg")
    (tmp_path / "m.csv").write_text("image, price\n0.jpg, 50\n1.jpg, 70\n2.jpg, 55.5\n3.jpg,\n")
    run = ingest("m.csv", "--gallery", "g", cwd=tmp_path)
    assert run.code == 0, run.err
    with EdgeGallery.open(tmp_path / "g") as gallery:
        [(id, _)] = [pair for pair in gallery.scroll() if pair[1].get("price") == 50]
        [stored] = gallery.retrieve([id])
        hits = gallery.search(VectorQuery(stored.vector, filter=as_filter({"price": {"lt": 60}})))
        assert sorted(hit.payload["price"] for hit in hits) == [50, 55.5]
