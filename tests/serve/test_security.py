"""Who may do what: keys, origins, paths, private addresses, rates."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest
from limits.errors import StorageError
from starlette.testclient import TestClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch, Cropped
from fti_qdrant.errors import BadImage, FtiError
from fti_qdrant.images import open_image
from fti_qdrant.serve import security
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.conftest import Client, id_of, png
from tests.serve.test_bad_requests import problem_of

RED = id_of("red", "circle")
API = ("/info", "/metrics", f"/images/{RED}", f"/similar/{RED}", "/facets/color")
OPEN = ("/health", "/ready", "/", "/openapi.json")


class TestKeys:
    @pytest.fixture(scope="class")
    def locked(self, client_of: Client) -> TestClient:
        return client_of(api_keys=("first", "second"))

    @pytest.mark.parametrize("path", API)
    def test_the_api_needs_one(self, locked: TestClient, path: str):
        missing = locked.get(path)
        problem_of(missing, 401, "no API key was sent")
        assert missing.headers["www-authenticate"] == "Bearer"
        for wrong in ("firs", "firstt", "FIRST", "", "\u00e9"):
            headers = {"X-API-Key": wrong.encode()}
            assert locked.get(path, headers=headers).status_code == 401
        assert locked.get(path, headers={"X-API-Key": "second"}).status_code == 200
        assert locked.get(path, headers={"Authorization": "Bearer first"}).status_code == 200
        assert locked.get(path, headers={"Authorization": "Basic first"}).status_code == 401

    @pytest.mark.parametrize("path", OPEN)
    def test_probes_and_the_page_need_none(self, locked: TestClient, path: str):
        assert locked.get(path).status_code == 200

    def test_nothing_is_read_of_a_request_without_one(self, locked: TestClient):
        problem_of(locked.post("/search", content=b"{", headers={}), 401, "no API key")

    def test_the_comparison_takes_the_same_time_for_all(self, monkeypatch: pytest.MonkeyPatch):
        compared: list[tuple[bytes, bytes]] = []

        def compare(a: bytes, b: bytes) -> bool:
            compared.append((a, b))
            return a == b

        monkeypatch.setattr(security.hmac, "compare_digest", compare)
        keys = [b"first", b"second", b"third"]
        assert security.is_one_of("first", keys)
        assert [key for _, key in compared] == keys  # also those after the right one
        assert hmac.compare_digest is compare

    @pytest.mark.parametrize("keys", [("",), ("a", ""), ("\u00e9",), ("a\nb",)])
    def test_keys_that_cannot_be_sent_are_refused(self, keys: tuple[str, ...]):
        with pytest.raises(FtiError, match="API key"):
            ServeSettings(api_keys=keys)


def test_a_search_that_takes_no_paths_says_the_same_of_all(search: ComposedSearch, shop: Path):
    """Of files that exist and that do not, of folders, devices, and other spellings."""
    paths = [
        str(shop / "pictures" / "red-circle.png"),
        str(shop / "pictures" / "none.png"),
        str(shop),
        "/dev/stdin",
        "/etc/passwd",
        "../../etc/passwd",
        "~/.ssh/id_rsa",
        "file:///etc/passwd",
        "s3://bucket/key.png",
        "\\\\server\\share\\a.png",
        "a\0b",
        "",
        RED[:-1],
    ]
    answers = set()
    for path in paths:
        for given in (path, Cropped(path, (0, 0, 1, 1)), Path(path) if "\0" not in path else path):
            shown = str(given) if isinstance(given, Path) else path
            for query in ({"text": "in red"}, {}, {"text": "x", "composer": "text"}):
                with pytest.raises(BadImage) as refused:
                    search.query(given, **query)
                answers.add(str(refused.value).replace(repr(shown), "IT"))
    assert len(answers) == 1
    assert "paths are off" in answers.pop()


def test_no_string_of_a_request_is_opened(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    """A path in every place of a request that takes a string."""
    import builtins
    import os

    path = "/etc/hostname"
    opened: list[str] = []
    for module, name in ((builtins, "open"), (os, "open"), (os, "stat")):
        original = getattr(module, name)

        def spying(place: Any, *args: Any, _original: Any = original, **options: Any) -> Any:
            opened.append(str(place))
            return _original(place, *args, **options)

        monkeypatch.setattr(module, name, spying)
    bodies: list[dict[str, Any]] = [
        {"references": [{name: path}]} for name in ("id", "url", "base64", "file")
    ]
    bodies += [{"references": [{"url": f"file://{path}"}]}, {"text": path}, {"avoid": path}]
    bodies += [{"text": "x", name: path} for name in ("composer", "group_by", "order_by")]
    bodies += [{"text": "x", "like": [path]}, {"text": "x", "filter": {path: path}}]
    bodies += [{"text": "x", "filter": {"color": path}}, {"text": "x", "with_payload": [path]}]
    for body in bodies:
        client.post("/search", json=body)
    client.post("/search", files={path: (path, png())})
    for get in (f"/images/{path}", f"/facets/{path}", f"/similar{path}", f"//{path}"):
        client.get(get)
    assert path not in opened


class TestUrls:
    def test_they_are_off(self, client: TestClient):
        body = {"references": [{"url": "https://example.com/a.png"}]}
        problem_of(client.post("/search", json=body), 422, "URLs are off")

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/a.png",
            "http://localhost:6333/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::7f00:1]/",
            "http://[fec0::1]/",
            "http://[5f00::1]/",
            "http://[100::1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://user:password@127.0.0.1/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1\\@example.com/",
            "http://\u2460\u2461\u2466.0.0.1/",
        ],
    )
    def test_private_addresses_are_never_asked(self, allowing: TestClient, url: str):
        answer = allowing.post("/search", json={"references": [{"url": url}]})
        assert answer.status_code == 422, answer.text
        reasons = ("not a public address", "cannot be found", "Invalid IP", "Invalid IDNA")
        assert any(reason in answer.text for reason in reasons), answer.text

    @pytest.fixture(scope="class")
    def allowing(self, search: ComposedSearch) -> TestClient:
        with_urls = ComposedSearch(
            search.composer, search.gallery, allow_urls=True, allow_paths=False
        )
        return TestClient(create_app(AsyncComposedSearch(with_urls)))

    @pytest.mark.parametrize("url", ["ftp://example.com/a", "javascript:1", "//example.com", "a"])
    def test_other_schemes_are_no_urls(self, allowing: TestClient, url: str):
        answer = allowing.post("/search", json={"references": [{"url": url}]})
        problem_of(answer, 422, "references.0.url")


class TestBrowsers:
    def test_every_answer_is_locked_down(self, client: TestClient):
        for path in (*API, *OPEN, "/nothing"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers

    def test_pages_of_other_sites_are_refused(self, client: TestClient):
        files = {"picture": ("a.png", png())}
        foreign = client.post("/search", files=files, headers={"Origin": "https://evil.example"})
        problem_of(foreign, 403, "another site")
        null = client.post("/search", files=files, headers={"Origin": "null"})
        problem_of(null, 403, "another site")
        own = client.post("/search", files=files, headers={"Origin": "http://testserver"})
        assert own.status_code == 200

    def test_names_that_the_service_does_not_go_by(self, client_of: Client):
        client = client_of(hosts=("localhost", "::1"))
        for host in ("localhost", "LOCALHOST:8000", "[::1]:8000"):
            assert client.get("/info", headers={"Host": host}).status_code == 200
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1",
            "[",
            "",
            "a@localhost:b",
        ):
            answer = client.get("/info", headers={"Host": host})
            problem_of(answer, 403, "--allow-host")

    def test_origins_that_are_allowed(self, client_of: Client):
        client = client_of(cors_origins=("https://shop.example",))
        origin = {"Origin": "https://shop.example"}
        answer = client.post("/search", json={"text": "red"}, headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        asked = client.options(
            "/search", headers=origin | {"Access-Control-Request-Method": "POST"}
        )
        assert asked.status_code == 200
        other = client.get("/info", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers

    @pytest.mark.parametrize("origin", ["shop.example", "https://", "https://a/b", "ftp://a", ""])
    def test_what_is_no_origin_is_refused(self, origin: str):
        with pytest.raises(FtiError, match="is not an origin"):
            ServeSettings(cors_origins=(origin,))

    def test_no_page_loads_anything_from_others(self, client: TestClient):
        for path in ("/docs", "/redoc"):
            assert client.get(path).status_code == 404


class TestRates:
    def test_each_key_has_its_own(self, client_of: Client):
        client = client_of(api_keys=("a", "b"), rate="3/minute")
        statuses = [
            client.get(f"/similar/{RED}", headers={"X-API-Key": key}).status_code
            for key in "aaaabb"
        ]
        assert statuses == [200, 200, 200, 429, 200, 200]

    def test_a_batch_counts_for_its_queries(self, client_of: Client):
        client = client_of(rate="10/hour")
        queries = {"queries": [{"text": "red"}] * 8}
        assert client.post("/search/batch", json=queries).status_code == 200
        refused = client.post("/search/batch", json=queries)
        problem_of(refused, 429, "more than 10 requests in 3600 s")
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert client.get("/health").status_code == 200

    def test_a_storage_that_fails_is_503(self, client_of: Client, monkeypatch: pytest.MonkeyPatch):
        async def fail(*args: object, **options: object) -> bool:
            raise StorageError(ConnectionError("redis is gone"))

        client = client_of(rate="10/hour")
        monkeypatch.setattr(security.FixedWindowRateLimiter, "hit", fail)
        answer = client.get(f"/similar/{RED}")
        problem_of(answer, 503, "requests cannot be counted")
        assert "redis" not in answer.text

    @pytest.mark.parametrize("rate", ["fast", "0/minute", "10/fortnight", ""])
    def test_what_is_no_rate_is_refused(self, search: ComposedSearch, rate: str):
        with pytest.raises(FtiError, match="rate"):
            create_app(AsyncComposedSearch(search), ServeSettings(rate=rate))

    @pytest.mark.parametrize("storage", ["nowhere://", "memory://", ""])
    def test_what_is_no_storage_is_refused(self, search: ComposedSearch, storage: str):
        with pytest.raises(FtiError, match="storage"):
            create_app(AsyncComposedSearch(search), ServeSettings(rate_storage=storage))


@pytest.mark.parametrize("field", ["_fti.uri", "_fti", '"_fti".uri', "_fti.sha256"])
def test_fields_of_the_gallery_itself_are_private(client: TestClient, field: str):
    for body in (
        {"text": "red", "group_by": field},
        {"text": "red", "order_by": f"-{field}", "cutoff": 0.5},
        {"text": "red", "filter": {field: {"exists": True}}},
        {"text": "red", "filter": {"or": [{"not": {field: "x"}}]}},
    ):
        problem_of(client.post("/search", json=body), 422, "private")
    problem_of(client.get(f"/facets/{field}"), 422, "private")
    values = client.post("/search", json={"text": "red", "filter": {"color": [field, "red"]}})
    assert values.status_code == 200


def test_paths_are_still_taken_where_they_are_allowed(shop: Path):
    path = shop / "pictures" / "red-circle.png"
    assert open_image(path).size == (96, 72)
    with pytest.raises(BadImage, match="paths are off"):
        open_image(path, allow_paths=False)
