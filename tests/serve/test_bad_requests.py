"""Bad input: a problem with our message and the right status, and never a traceback."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.ingest.sources_and_runs import bomb, write_bad_pictures
from tests.serve.conftest import Client, id_of, png

RED = id_of("red", "circle")
NOBODY = "00000000-0000-5000-8000-000000000000"


def problem_of(answer: Any, status: int, words: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert words in found["detail"], found["detail"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return found


CROP = {"left": 0.2, "top": 0.2, "right": 0.8, "bottom": 0.8}

BAD_QUERIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing to search for": ({}, 422, "nothing to search for"),
    "base64 rubbish": ({"references": [{"base64": "???"}]}, 422, "references.0.base64 is not"),
    "base64 without its end": ({"references": [{"base64": "abcde"}]}, 422, "is not base64"),
    "base64 of a text": (
        {"references": [{"base64": base64.b64encode(b"hello").decode()}]},
        422,
        "is not an image",
    ),
    "empty base64": ({"references": [{"base64": ""}]}, 422, "is empty"),
    "crop outside": ({"references": [{"id": RED, "crop": CROP | {"right": 1.2}}]}, 422, "at most"),
    "crop of pixels": ({"references": [{"id": RED, "crop": CROP | {"right": 400}}]}, 422, "right"),
    "empty crop": (
        {"references": [{"id": RED, "crop": CROP | {"left": 0.8}}]},
        422,
        "left must be less than right",
    ),
    "crop without an edge": ({"references": [{"id": RED, "crop": {"left": 0}}]}, 422, "missing"),
    "unknown id": ({"references": [{"id": NOBODY}]}, 404, f"has no image {NOBODY}"),
    "unknown liked id": ({"text": "red", "like": [NOBODY]}, 404, NOBODY),
    "not an id": ({"references": [{"id": "7"}]}, 422, "references.0.id"),
    "two sources": ({"references": [{"id": RED, "base64": "aaaa"}]}, 422, "exactly one of"),
    "no source": ({"references": [{"weight": 1}]}, 422, "exactly one of"),
    "file without a form": ({"references": [{"file": "a"}]}, 422, "no file 'a' was sent"),
    "unknown field": ({"text": "red", "filter": {"brand": "Acme"}}, 422, "brand: no image has"),
    "unknown group": ({"text": "red", "group_by": "brand"}, 422, "group_by 'brand'"),
    "unknown payload": ({"text": "red", "with_payload": ["brand"]}, 422, "with_payload 'brand'"),
    "unknown composer": ({"text": "red", "composer": "best"}, 422, "unknown composer 'best'"),
    "unknown argument": ({"text": "red", "colour": 1}, 422, "colour is not known"),
    "composer of a wrong type": ({"text": "red", "composer": 3}, 422, "composer must be a text"),
    "filter is a list": ({"text": "red", "filter": ["a"]}, 422, "filter must be an object"),
    "filter of another type": ({"text": "red", "filter": {"price": "low"}}, 422, "price: holds"),
    "filter with an operator": ({"text": "red", "filter": {"price": {"le": 3}}}, 422, "price"),
    "filter too large": ({"text": "red", "filter": {"stock": 10**400}}, 422, "stock"),
    "limit 0": ({"text": "red", "limit": 0}, 422, "limit must be at least 1"),
    "limit too large": ({"text": "red", "limit": 10**6}, 422, "limit must be at most 1000"),
    "limit is a text": ({"text": "red", "limit": "10"}, 422, "limit must be a whole number"),
    "limit is true": ({"text": "red", "limit": True}, 422, "limit must be a whole number"),
    "text too long": ({"text": "red " * 1000}, 422, "text"),
    "weights all 0": ({"references": [{"id": RED, "weight": 0}]}, 422, "weights"),
    "order and diversity": (
        {"text": "red", "order_by": "price", "cutoff": 0.5, "diversity": 0.5},
        422,
        "two orders",
    ),
    "an option that is none": (
        {"references": [{"id": RED}], "text": "x", "composer": "sum", "options": {"a": 1}},
        422,
        "no option 'a'",
    ),
    "in both lists": ({"text": "red", "like": [RED], "dislike": [RED]}, 422, "both like and"),
    "search params": ({"text": "red", "search_params": {"hnsw_ef": 0}}, 422, "hnsw_ef"),
    "too many hits": (
        {"text": "red", "limit": 100, "group_by": "color", "group_size": 11},
        422,
        "1,000 hits",
    ),
    "too far": ({"text": "red", "offset": 10**6}, 422, "offset must be at most 10000"),
    "id out of range": ({"references": [{"id": 2**64}]}, 422, "references.0.id"),
    "id below 0": ({"references": [{"id": -1}]}, 422, "references.0.id"),
    "id with a fraction": ({"references": [{"id": 1.5}]}, 422, "references.0.id"),
    "number as an id": ({"references": [{"id": 42}]}, 404, "42"),
    "too many references": ({"references": [{"id": RED}] * 17}, 422, "references"),
}


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_query_says_what_is_wrong(client: TestClient, name: str):
    query, status, words = BAD_QUERIES[name]
    problem_of(client.post("/search", json=query), status, words)


BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "not JSON": (b"{", "application/json", 422, "is not JSON"),
    "empty": (b"", "application/json", 422, "is not JSON"),
    "a list": (b"[]", "application/json", 422, "must be an object"),
    "not UTF-8": (b'{"text": "\xff"}', "application/json", 422, "is not JSON"),
    "half a surrogate": (rb'{"text": "\ud800"}', "application/json", 422, "not valid Unicode"),
    "in a name": (rb'{"filter": {"\ud800": 1}}', "application/json", 422, "not valid Unicode"),
    "NaN": (b'{"text": "red", "cutoff": NaN}', "application/json", 422, "NaN"),
    "a name twice": (b'{"limit": 1, "limit": 2}', "application/json", 422, "'limit' is there"),
    "nested": (b'{"filter": ' + b'{"not":' * 9000, "application/json", 422, "deeper than 32"),
    "a bit nested": (
        b'{"filter": ' + b'{"not":' * 40 + b"1" + b"}" * 41,
        "application/json",
        422,
        "deeper than 32",
    ),
    "many values": (
        b'{"filter": {"stock": [' + b"1," * 100_000 + b"1]}}",
        "application/json",
        422,
        "100,000 values",
    ),
    "a long number": (b'{"limit": ' + b"9" * 5000 + b"}", "application/json", 422, "not JSON"),
    "a text": (b"red", "text/plain", 415, "send application/json or multipart"),
    "no type": (b"{}", "", 415, "content type"),
    "XML": (b"<a/>", "application/xml", 415, "application/xml"),
    "a form": (b"text=red", "application/x-www-form-urlencoded", 415, "urlencoded"),
    "no boundary": (b"x", "multipart/form-data", 422, "oundary"),
    "a broken form": (b"x", "multipart/form-data; boundary=abc", 422, "Invalid multipart"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_says_what_is_wrong(client: TestClient, name: str):
    body, kind, status, words = BODIES[name]
    headers = {"content-type": kind} if kind else {}
    problem_of(client.post("/search", content=body, headers=headers), status, words)


def test_every_bad_picture_has_its_reason(client: TestClient, tmp_path: Path):
    """What ingest lists as rejects, as uploads and as base64."""
    reasons = write_bad_pictures(tmp_path)
    for name, words in reasons.items():
        path = tmp_path / name
        if not path.is_file():
            continue
        uploaded = client.post("/search", files={"picture": (name, path.read_bytes())})
        problem_of(uploaded, 422, words)
        if path.stat().st_size:
            text = base64.b64encode(path.read_bytes()).decode()
            problem_of(client.post("/search", json={"references": [{"base64": text}]}), 422, words)


FORMS: dict[str, tuple[dict[str, str], list[tuple[str, Any]], str]] = {
    "a file that nobody names": (
        {"query": '{"references": [{"file": "a"}]}'},
        [("a", ("a.png", png())), ("b", ("b.png", png()))],
        "no reference names the file 'b'",
    ),
    "a name twice": (
        {"query": '{"text": "red"}'},
        [("a", ("a.png", png())), ("a", ("b.png", png()))],
        "'a' is there twice",
    ),
    "a text beside the query": (
        {"query": "{}", "text": "red"},
        [("a", ("a.png", png()))],
        "the form field 'text' is a text",
    ),
    "a query that is not JSON": ({"query": "red"}, [("a", ("a.png", png()))], "not JSON"),
    "too many files": (
        {"query": "{}"},
        [(f"f{number}", ("a.png", b"x")) for number in range(30)],
        "Too many files",
    ),
    "a query of megabytes": (
        {"query": json.dumps({"text": "x" * 2_000_000})},
        [("a", ("a.png", png()))],
        "maximum size",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_bad_form_says_what_is_wrong(client: TestClient, name: str):
    data, files, words = FORMS[name]
    problem_of(client.post("/search", data=data, files=files), 422, words)


PATHS: dict[str, tuple[str, int, str]] = {
    "unknown image": (f"/images/{NOBODY}", 404, NOBODY),
    "unknown thumbnail": (f"/images/{NOBODY}/thumbnail", 404, NOBODY),
    "not an id": ("/images/red-circle.png", 422, "id"),
    "size 0": (f"/images/{RED}/thumbnail?size=0", 422, "size must be at least 16"),
    "size of a wall": (f"/images/{RED}/thumbnail?size=100000", 422, "size must be at most 1024"),
    "size is a text": (f"/images/{RED}/thumbnail?size=big", 422, "size must be a whole number"),
    "nothing similar": (f"/similar/{NOBODY}", 404, NOBODY),
    "filter is not JSON": (f"/similar/{RED}?filter=red", 422, "filter is not JSON"),
    "filter is a list": (f"/similar/{RED}?filter=[1]", 422, "filter must be an object"),
    "unknown field": ("/facets/brand", 422, "no image has a value in this field"),
    "field without an index": ("/facets/shape", 422, "the field has no index"),
    "field of prices": ("/facets/price", 422, "numbers with fractions"),
    "field of ours": ("/facets/_fti.uri", 422, "_fti"),
    "nothing there": ("/searches", 404, "there is nothing at /searches"),
    "a folder above": ("/../../etc/passwd", 404, "there is nothing"),
    "encoded": ("/..%2f..%2fetc%2fpasswd", 404, "there is nothing"),
    "another method": ("/search", 405, "does not take GET"),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_bad_path_says_what_is_wrong(client: TestClient, name: str):
    path, status, words = PATHS[name]
    problem_of(client.get(path), status, words)


def test_ten_thousand_queries_are_refused(client: TestClient):
    body = {"queries": [{"text": "red"}] * 10_000}
    problem_of(client.post("/search/batch", json=body), 422, "queries")
    problem_of(client.post("/search/batch", json={"queries": []}), 422, "queries")
    many = {"queries": [{"text": "red", "limit": 1000}] * 6}
    problem_of(client.post("/search/batch", json=many), 422, "asks for 6,000 hits")
    bad = {"queries": [{"text": "red"}, {"text": "red", "limit": 0}]}
    problem_of(client.post("/search/batch", json=bad), 422, "queries.1.limit must be at least 1")


def test_a_decompression_bomb_costs_nothing(client: TestClient):
    files = {"picture": ("bomb.png", bomb(60_000, 60_000))}
    problem_of(client.post("/search", files=files), 422, "over the limit")


def test_a_body_over_the_limit_is_refused(client_of: Client):
    client = client_of(max_body=10_000)
    body = json.dumps({"references": [{"base64": "A" * 20_000}]})
    headers = {"content-type": "application/json"}
    problem_of(client.post("/search", content=body, headers=headers), 413, "10,000 bytes")

    def chunks():
        for _ in range(1000):
            yield b" " * 1000

    chunked = client.post("/search", content=chunks(), headers=headers)
    problem_of(chunked, 413, "10,000 bytes")
    large = {"picture": ("a.png", b"x" * 50_000)}
    problem_of(client.post("/search", files=large), 413, "10,000 bytes")


def test_no_message_tells_where_the_files_are(client: TestClient, shop: Path):
    for answer in (
        client.post("/search", json={"references": [{"id": NOBODY}]}),
        client.get("/facets/shape"),
        client.get(f"/images/{NOBODY}"),
        client.post("/search", json={"text": "red"}),
        client.get("/info"),
    ):
        assert str(shop) not in answer.text
