"""``fti-ingest adopt``, and the other commands on an adopted collection."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from qdrant_client import QdrantClient, models

import fti_ingest.cli.main
import fti_qdrant.cli.search
from fti_qdrant import ComposedSearch
from fti_qdrant.adoption.new_ids import id_scheme
from fti_qdrant.errors import BadCollection
from fti_qdrant.gallery import StoredImage, connect, point_id
from tests.adoption.collections import BRANDS, OpenClip, make_collection
from tests.ingest.sources_and_runs import Run, ingest
from tests.qdrant_standin import Standin

SHOP = ("--collection", "shop")
COUNT = 9


@pytest.fixture
def url(standin: tuple[Standin, str], vectors: np.ndarray, paths: list[Path]) -> str:
    """A server with a collection that another program made."""
    _, url = standin
    make_collection(connect(url), vectors[:COUNT], paths[:COUNT], metadata={"owner": "web team"})
    return url


def command(*arguments: object) -> Result:
    texts = [str(one) for one in arguments]
    return CliRunner().invoke(fti_ingest.cli.main.main, texts, env={"QDRANT_API_KEY": ""})


def adopt(url: str, *more: object) -> Result:
    return command("adopt", "--url", url, *SHOP, "--model", "mini", *more)


ADOPTED = ("--uri-field", "image_url", "--key", "sku")


def test_the_declaration_is_written_and_nothing_else(
    standin: tuple[Standin, str], url: str
) -> None:
    server, _ = standin
    client = connect(url)
    before = client.scroll("shop", limit=99, with_vectors=True)
    config = client.get_collection("shop").config.params
    server.asked.clear()
    done = adopt(url, *ADOPTED)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "collection 'shop' is adopted: the unnamed vector, integer ids from 'sku'",
        f"model: {ComposedSearch.connect(url, 'shop', device='cpu').gallery.spec.fingerprint}",
        f"the model was checked by {COUNT} stored images: median cosine 1.000",
    ]
    changes = [one for one in server.asked if one.startswith(("PUT", "PATCH", "DELETE"))]
    assert changes == ["PATCH /collections/shop"]
    metadata = client.get_collection("shop").config.metadata or {}
    assert metadata["owner"] == "web team"
    assert set(metadata) == {"owner", "fti_qdrant"}
    assert client.scroll("shop", limit=99, with_vectors=True) == before
    assert client.get_collection("shop").config.params == config


def test_what_does_not_fit_writes_nothing(
    standin: tuple[Standin, str], url: str, clip: OpenClip, paths: list[Path]
) -> None:
    server, _ = standin
    client = connect(url)
    made = clip.vectors(paths[:COUNT], clip.white_square)
    make_collection(client, made, paths[:COUNT], name="other")
    server.asked.clear()
    done = command("adopt", "--url", url, "--collection", "other", "--model", "mini", *ADOPTED)
    assert done.exit_code == 2
    assert "padded to a white square" in done.stderr
    assert done.stderr.count("\n") == 1
    assert adopt(url, "--uri-field", "image_url", "--key", "price").exit_code == 2
    assert adopt(url, "--vector", "image").exit_code == 2
    assert not [one for one in server.asked if one.startswith(("PUT", "PATCH", "DELETE"))]


def test_a_key_that_may_only_read(standin: tuple[Standin, str], url: str) -> None:
    server, _ = standin
    server.read_only = True
    done = adopt(url, *ADOPTED)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert "write" in done.stderr
    search = ComposedSearch.attach(url, "shop", model="mini", uri_field="image_url", device="cpu")
    assert search.query(100, "in red"), "and searching it needs no more"


def test_an_unchecked_declaration_warns_every_time(url: str) -> None:
    done = adopt(url)
    assert done.exit_code == 0, done.stderr
    assert "the model was not checked: no uri_field" in done.stdout
    assert "warning: the collection's model was declared and not checked" in done.stdout
    found = search_command(url, "--text", "red", "--json")
    assert "not checked" in json.loads(found.stdout)["warnings"][0]


def search_command(url: str, *more: str) -> Result:
    arguments = ["--url", url, *SHOP, *more]
    return CliRunner().invoke(fti_qdrant.cli.search.main, arguments, env={"COLUMNS": "200"})


def test_the_search_command_takes_numbers(url: str, paths: list[Path]) -> None:
    assert adopt(url, *ADOPTED).exit_code == 0
    done = search_command(url, "--id", "104", "--text", "in red", "--limit", "3", "--json")
    hits = json.loads(done.stdout)["hits"]
    assert len(hits) == 3
    assert all(type(hit["id"]) is int for hit in hits)
    assert 104 not in [hit["id"] for hit in hits]
    rated = search_command(url, "--text", "x", "--like", "101", "--dislike", "102", "--json")
    ids = {hit["id"] for hit in json.loads(rated.stdout)["hits"]}
    assert ids == set(range(100, 109)) - {101, 102}
    table = search_command(url, "--id", "100", "--id", "101", "--weight", "1", "--weight", "0.5")
    assert "102" in table.stdout
    assert BRANDS[2] in table.stdout
    for arguments, said in {
        ("--id", "photo.png"): "--id: 'photo.png' is not an image id",
        ("--id", "-1"): "is not an image id",
        ("--id", "99"): "has no image 99",
        ("--image", "104"): "'104': no such file; for the image of this id, pass --id 104",
    }.items():
        refused = search_command(url, *arguments, "--text", "x")
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_status_says_what_it_is(url: str) -> None:
    adopt(url, *ADOPTED)
    done = command("status", "--url", url, *SHOP)
    assert done.exit_code == 0, done.stderr
    assert f"model check:     the model was checked by {COUNT} stored images" in done.stdout
    layout = json.loads(command("status", "--url", url, *SHOP, "--json").stdout)["spec"]["layout"]
    assert (layout["ids"], layout["key_field"], layout["ours"]) == ("integer", "sku", False)


def test_ours_cannot_be_adopted(standin: tuple[Standin, str], url: str, tmp_path: Path) -> None:
    from tests.ingest.sources_and_runs import write_pictures

    write_pictures(tmp_path / "photos", 2)
    ingest("photos", "--url", url, "--collection", "ours", cwd=tmp_path)
    done = command("adopt", "--url", url, "--collection", "ours", "--model", "mini")
    assert done.exit_code == 2
    assert "was made by fti-ingest; there is nothing to adopt" in done.stderr


def test_adopting_again_changes_the_declaration(url: str) -> None:
    """What is left out stays as it was."""
    adopt(url, "--uri-field", "image_url")
    first = ComposedSearch.connect(url, "shop", device="cpu").gallery.spec
    again = command("adopt", "--url", url, *SHOP, "--key", "sku")
    assert again.exit_code == 0, again.stderr
    spec = ComposedSearch.connect(url, "shop", device="cpu").gallery.spec
    assert spec.layout == first.layout.model_copy(update={"key_field": "sku"})
    assert spec.fingerprint == first.fingerprint


@pytest.mark.parametrize("arguments", [("--gallery", "shop"), ("--url", "http://127.0.0.1:1")])
def test_it_needs_a_collection_on_a_server(arguments: tuple[str, str]) -> None:
    done = command("adopt", *arguments, "--model", "mini")
    assert done.exit_code == 2
    assert "--collection" in done.stderr


# ---- fti-ingest SOURCE ----


def write_manifest(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def go_on(url: str, source: Path, *more: str) -> Run:
    return ingest(source, "--url", url, *SHOP, "--model", "mini", *more, cwd=source.parent)


def contents(url: str) -> dict[Any, dict[str, Any]]:
    records, _ = connect(url).scroll("shop", limit=999, with_vectors=True)
    return {one.id: {"payload": one.payload, "vector": one.vector} for one in records}


def test_ingest_goes_on_in_its_ids_vector_and_fields(
    url: str, paths: list[Path], vectors: np.ndarray, tmp_path: Path
) -> None:
    adopt(url, *ADOPTED)
    before = contents(url)
    rows: list[dict[str, Any]] = [
        {"image": str(paths[10]), "sku": 900, "brand": "Neu"},
        {"image": str(paths[11]), "sku": "901", "brand": "Neu"},
        {"image": str(paths[12]), "sku": 100, "brand": "taken"},
        {"image": "gone.png", "sku": 902},
        {"image": str(paths[13]), "brand": "no key"},
        {"image": str(paths[13]), "sku": "A-7"},
        {"image": str(paths[14]), "sku": 900, "brand": "twice"},
    ]
    manifest = write_manifest(tmp_path, rows)
    done = go_on(url, manifest)
    assert done.code == 0, done.err
    assert done.line == (
        "7 images in: 2 stored, 0 unchanged, 4 rejected, 1 left as another program stored them"
    )
    reasons = (tmp_path / "rejects.jsonl").read_text()
    assert "no 'sku' value, which the id is made of" in reasons
    assert "'sku' is 'A-7', and ids here are made of a whole number" in reasons
    assert "its 'sku' is listed twice" in reasons
    after = contents(url)
    assert {id: one for id, one in after.items() if id in before} == before
    assert set(after) - set(before) == {900, 901}
    new = after[900]
    assert new["payload"]["image_url"] == str(paths[10])
    assert new["payload"]["brand"] == "Neu"
    cosine = np.dot(new["vector"], vectors[10]) / np.linalg.norm(vectors[10])
    assert cosine == pytest.approx(1, abs=1e-4)

    again = go_on(url, manifest)
    assert again.line == (
        "7 images in: 0 stored, 2 unchanged, 4 rejected, 1 left as another program stored them"
    )
    rows[0]["brand"] = "Alt"
    changed = go_on(url, write_manifest(tmp_path, rows[:3]))
    assert ", 1 updated (payload only)" in changed.line
    assert contents(url)[900]["payload"]["brand"] == "Alt"
    assert contents(url)[900]["payload"]["image_url"] == str(paths[10])
    hits = ComposedSearch.connect(url, "shop", device="cpu").query(900, "in red")
    assert hits[0].uri is not None


def test_pruning_never_deletes_what_ingest_did_not_make(
    url: str, paths: list[Path], tmp_path: Path
) -> None:
    adopt(url, *ADOPTED)
    before = contents(url)
    rows = [{"image": str(paths[10 + n]), "sku": 900 + n} for n in range(4)]
    go_on(url, write_manifest(tmp_path, rows))
    done = go_on(url, write_manifest(tmp_path, rows[:2]), "--prune", "--prune-at-most", "0.5")
    assert ", 2 pruned" in done.line
    assert set(contents(url)) == {*before, 900, 901}
    assert go_on(url, write_manifest(tmp_path, rows[:1]), "--prune", "--dry-run").code == 0
    unclear = [*rows[:1], {"image": str(paths[0])}]
    refused = go_on(url, write_manifest(tmp_path, unclear), "--prune")
    assert refused.code == 2
    assert "--prune needs a complete source" in refused.err
    assert set(contents(url)) == {*before, 900, 901}


def test_the_collections_own_column_may_name_the_images(
    url: str, paths: list[Path], tmp_path: Path
) -> None:
    adopt(url, *ADOPTED)
    done = go_on(url, write_manifest(tmp_path, [{"image_url": str(paths[10]), "sku": 900}]))
    assert done.code == 0, done.err
    assert contents(url)[900]["payload"]["image_url"] == str(paths[10])


def test_what_ingest_refuses(url: str, paths: list[Path], tmp_path: Path) -> None:
    adopt(url, "--uri-field", "image_url")
    manifest = write_manifest(tmp_path, [{"image": str(paths[10]), "sku": 900}])
    assert "adopt it again with fti-ingest adopt --key FIELD" in go_on(url, manifest).error
    adopt(url, *ADOPTED)
    assert "--bulk changes how" in go_on(url, manifest, "--bulk").error
    assert "made without pseudo-words" in go_on(url, manifest, "--pseudo-words").error
    assert len(contents(url)) == COUNT


@pytest.mark.parametrize("scheme", ["uuid", "uuid5 of the key", "uuid5 of the path"])
def test_uuids(
    standin: tuple[Standin, str],
    vectors: np.ndarray,
    paths: list[Path],
    tmp_path: Path,
    scheme: str,
) -> None:
    _, url = standin
    client: QdrantClient = connect(url)
    made = [str(uuid.uuid4()) for _ in range(4)]
    keys: list[Any] = [f"SKU-{n}" for n in range(4)] if scheme != "uuid" else made
    ids = [point_id(key) for key in keys] if scheme == "uuid5 of the key" else made
    make_collection(client, vectors[:4], paths[:4], ids=ids, vector="photo", codes=keys)
    more = [] if scheme == "uuid5 of the path" else ["--key", "code"]
    done = adopt(url, "--uri-field", "image_url", *more)
    assert done.exit_code == 0, done.stderr
    new: Any = str(uuid.uuid4()) if scheme == "uuid" else "SKU-9"
    run = go_on(url, write_manifest(tmp_path, [{"image": str(paths[10]), "code": new}]))
    assert run.line.startswith("1 images in: 1 stored"), run.err
    [added] = set(contents(url)) - set(ids)
    assert (
        added
        == {
            "uuid": new,
            "uuid5 of the key": point_id("SKU-9"),
            "uuid5 of the path": point_id(str(paths[10])),
        }[scheme]
    )
    assert set(contents(url)[added]["vector"]) == {"photo"}


def test_ids_that_are_not_made_of_a_field() -> None:
    image = StoredImage(7, {"sku": 8}, np.ones(2))
    with pytest.raises(BadCollection, match="a point with 8 there has the id 7"):
        id_scheme([image], "sku", "collection 'shop'")
    assert id_scheme([StoredImage(7, {"sku": "7"}, np.ones(2))], "sku", "") == "integer"
    assert id_scheme([StoredImage(7, {}, np.ones(2))], "sku", "") == "integer"


def test_aliases_are_followed(url: str) -> None:
    connect(url).update_collection_aliases(
        [
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name="shop", alias_name="live")
            )
        ]
    )
    done = command("adopt", "--url", url, "--collection", "live", "--model", "mini", *ADOPTED)
    assert done.exit_code == 0, done.stderr
    assert ComposedSearch.connect(url, "live", device="cpu").query(100, "in red")
    attached = ComposedSearch.attach(url, "live", device="cpu")
    assert attached.query(100, "in red")
