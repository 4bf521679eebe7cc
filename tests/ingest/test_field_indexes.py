"""Payload indexes of an existing gallery, and the values of a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fti_ingest.run.field_indexes import check_indexes, check_values, warn_of_new_fields
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import EdgeGallery, GallerySpec, IndexType
from fti_qdrant.model.backbone import Backbone

INDEXES: dict[str, IndexType] = {"stock": "integer", "price": "float", "day": "datetime"}


@pytest.fixture
def gallery(tmp_path: Path, tiny_backbone: Backbone) -> Iterator[EdgeGallery]:
    spec = GallerySpec(fingerprint=tiny_backbone.fingerprint, indexes=INDEXES)
    with EdgeGallery.create(tmp_path / "shop", spec) as made:
        yield made


@pytest.mark.parametrize(
    "found", [{}, INDEXES, {"price": "integer"}, {"day": "keyword"}, {"stock": "integer"}]
)
def test_values_that_the_indexes_take(
    gallery: EdgeGallery, found: dict[str, IndexType], caplog: pytest.LogCaptureFixture
) -> None:
    check_values(found, gallery)
    warn_of_new_fields(found, gallery)
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["float", "keyword", "bool"])
def test_values_that_filters_would_miss(gallery: EdgeGallery, kind: IndexType) -> None:
    with pytest.raises(BadManifest, match=f"integer index on 'stock'.* has {kind} values there"):
        check_values({"stock": kind}, gallery)


def test_new_fields_are_a_warning(gallery: EdgeGallery, caplog: pytest.LogCaptureFixture) -> None:
    found: dict[str, IndexType] = {"brand": "keyword", "color": "keyword", "price": "float"}
    check_values(found, gallery)
    warn_of_new_fields(found, gallery)
    [message] = caplog.messages
    assert "has no index on brand, color, so filters on it are slow" in message


def test_an_index_asked_for_must_be_there(gallery: EdgeGallery) -> None:
    check_indexes({"price": "float"}, gallery)
    with pytest.raises(BadManifest, match="has float index on 'price', not integer"):
        check_indexes({"price": "integer"}, gallery)
