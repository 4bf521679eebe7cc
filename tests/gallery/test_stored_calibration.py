"""A gallery keeps its calibration: embedded in a file, on servers in the collection's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fti_qdrant.errors import BadCollection, CheckpointError, GalleryUnavailable, OutputUnavailable
from fti_qdrant.gallery import EdgeGallery, GallerySpec, WordsSpec
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.model.fingerprint import Fingerprint
from tests.calibration.judged import MAKER, calibrated
from tests.gallery.conftest import TOKEN_DIM, TOPK

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

ONE = Calibration().updated([calibrated()])
OTHER = MAKER.model_copy(update={"composer": "sum", "inverter": None})


def test_it_is_there_after_reopening(store: Any, spec: GallerySpec) -> None:
    made = store.create(spec)
    assert made.calibration == Calibration()
    made.store_calibration(ONE)
    assert made.calibration == ONE
    again = store.reopen(made)
    assert again.calibration == ONE
    assert again.spec == spec
    again.store_calibration(again.calibration.updated([calibrated(OTHER)]))
    third = store.reopen(again)
    assert [one.maker.composer for one in third.calibration.composers] == ["pdv", "sum"]
    third.store_calibration(Calibration())
    with store.reopen(third) as last:
        assert last.calibration == Calibration()


def test_words_that_are_added_later_leave_it(store: Any, spec: GallerySpec, points: Any) -> None:
    made = store.create(spec)
    made.upsert(points)
    made.store_calibration(ONE)
    made.add_words(WordsSpec(inverter="feed", topk=TOPK, token_dim=TOKEN_DIM, partial=True))
    with store.reopen(made) as again:
        assert again.calibration == ONE
        assert again.spec.words is not None


def test_an_alias_leads_to_that_of_its_collection(store: Any, spec: GallerySpec) -> None:
    if store.kind in ("edge", "grpc"):
        pytest.skip("aliases of embedded galleries are links, those of the stand-in have a test")
    from qdrant_client import models

    from fti_qdrant.gallery import ServerGallery

    store.create(spec).store_calibration(ONE)
    alias = models.CreateAlias(collection_name=store.collection, alias_name="shop-alias")
    store.client().update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    opened = ServerGallery.open(store.client(), "shop-alias")
    assert opened.calibration == ONE
    opened.store_calibration(Calibration())
    assert ServerGallery.open(store.client(), store.collection).calibration == Calibration()


def test_a_link_leads_to_that_of_its_folder(tmp_path: Path, spec: GallerySpec) -> None:
    with EdgeGallery.create(tmp_path / "shop-1", spec) as gallery:
        gallery.store_calibration(ONE)
    (tmp_path / "shop").symlink_to("shop-1")
    with EdgeGallery.open(tmp_path / "shop") as opened:
        assert opened.calibration == ONE


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b"",
        '{"composers": [{}]}',
        {"format": 2, "composers": []},
        {"composers": [{"maker": None}]},
        {"composers": 3},
        "text",
        ONE.model_dump_json().replace("0.95", "0.5"),
        ONE.model_dump_json().replace("0.95", "NaN"),
    ],
)
def test_a_damaged_one_is_empty_and_says_so(damage: Any) -> None:
    found = Calibration.stored(damage, "gallery 'shop'")
    assert found.composers == ()
    assert found.problem.startswith("the calibration of gallery 'shop' cannot be read: ")
    assert "\n" not in found.problem
    assert found.updated([calibrated()]) == ONE


def test_a_damaged_one_costs_no_gallery(tmp_path: Path, spec: GallerySpec) -> None:
    EdgeGallery.create(tmp_path / "gallery", spec).close()
    (tmp_path / "gallery" / "calibration.json").write_text("{")
    with EdgeGallery.open(tmp_path / "gallery") as opened:
        assert opened.calibration.problem
        opened.store_calibration(ONE)
    assert Calibration.read(tmp_path / "gallery" / "calibration.json") == ONE


def test_nothing_is_stored_where_nothing_may_be(
    tmp_path: Path, spec: GallerySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    EdgeGallery.create(tmp_path / "gallery", spec).close()
    monkeypatch.setattr("fti_qdrant.gallery.edge.is_read_only", lambda folder: True)
    with EdgeGallery.open(tmp_path / "gallery") as opened:
        with pytest.raises(GalleryUnavailable, match="read-only"):
            opened.store_calibration(ONE)
        assert opened.calibration == Calibration()
    opened.close()
    with pytest.raises(GalleryUnavailable, match="closed"):
        opened.store_calibration(ONE)


def test_an_attached_collection_is_not_written(store: Any, spec: GallerySpec) -> None:
    made: Any = store.create(spec)
    if store.kind == "edge":
        made.close()
        pytest.skip("only collections on servers are attached")
    made.attached = True
    with pytest.raises(BadCollection, match=r"attach\(calibration=\.\.\.\).*fti-ingest adopt"):
        made.store_calibration(ONE)
    with store.reopen(made) as again:
        assert again.calibration == Calibration()


def test_files(tmp_path: Path) -> None:
    ONE.write(tmp_path / "one.json")
    assert Calibration.read(tmp_path / "one.json") == ONE
    assert json.loads((tmp_path / "one.json").read_text())["format"] == 1
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        Calibration.read(tmp_path / "none.json")
    (tmp_path / "two.json").write_text("{}x")
    with pytest.raises(CheckpointError, match="not a calibration"):
        Calibration.read(tmp_path / "two.json")
    with pytest.raises(OutputUnavailable, match="cannot be written"):
        ONE.write(tmp_path / "one.json" / "below.json")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"composer": "fti"}, "calibrated composers are pdv"),
        ({"options": {"text_weight": 0.9}}, r"text_weight=0.5; this query has text_weight=0.9"),
        ({"options": {}}, r"this query has none"),
        ({"kind": "image"}, "another kind of query .image and text; this query is image"),
        ({"inverter": "other"}, "another inverter"),
        ({"vocabulary": "other"}, "another vocabulary"),
        (
            {"fingerprint": Fingerprint("tiny", "f" * 16, "GELU", "targetpad", 8)},
            "another model .tiny, weights 0123456789abcdef",
        ),
    ],
)
def test_queries_of_another_maker_have_no_chances(changes: dict[str, Any], why: str) -> None:
    import re

    found = ONE.find(MAKER.model_copy(update=changes))
    assert isinstance(found, str)
    assert re.search(why, found)
    same = MAKER.model_copy(update={"fingerprint": Fingerprint("x", *_facts(MAKER))})
    assert ONE.find(same) == ONE.composers[0]  # one model may have two names


def _facts(maker: Any) -> tuple[Any, ...]:
    one = maker.fingerprint
    return one.weights, one.activation, one.preprocess, one.dim


def test_a_new_map_takes_the_place_of_that_of_the_same_maker() -> None:
    both = ONE.updated([calibrated(OTHER)])
    weighted = MAKER.model_copy(update={"options": {"text_weight": 0.9}})
    again = both.updated([calibrated(queries=99), calibrated(weighted)])
    assert [(one.maker.composer, one.queries) for one in again.composers] == [
        ("sum", 40),
        ("pdv", 99),
        ("pdv", 40),
    ]
