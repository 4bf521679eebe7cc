"""The gallery that a run writes to: an existing one with all that it knows, or a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fti_ingest.run.field_indexes import check_indexes, check_values, warn_of_new_fields
from fti_ingest.stages.embed import ModelChoice, words_of
from fti_qdrant.errors import (
    BadManifest,
    GalleryExists,
    GalleryNotFound,
    ModelMismatch,
    UnsupportedModel,
)
from fti_qdrant.gallery import Gallery, GallerySpec, IndexType
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.edge_folder import check_free
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation, ServerLocation
from fti_qdrant.gallery.protocol import Described
from fti_qdrant.images import Preprocess

if TYPE_CHECKING:
    from fti_qdrant.gallery import ServerGallery


@contextmanager
def existing_gallery(location: GalleryLocation) -> Iterator[Gallery | None]:
    """Opens the gallery; None where there is none yet.

    Raises GalleryUnavailable, also for a folder that holds other things.
    """
    try:
        gallery: Gallery | None = location.open()
    except GalleryNotFound:
        gallery = None
        if isinstance(location, EmbeddedLocation):
            check_free(location.path)
    try:
        yield gallery
    finally:
        if gallery is not None:
            gallery.close()


def model_for(
    gallery: Described | None, choice: ModelChoice | None, pseudo_words: bool
) -> ModelChoice:
    """What to embed with; an existing gallery knows its own model.

    A model that is named otherwise than in the gallery is loaded here, to compare the two.

    Raises:
        UnsupportedModel: no model is named, and there is no gallery yet.
        ModelMismatch: the gallery was made with another model or preprocessing, or without
            pseudo-words.
    """
    if gallery is None:
        if choice is None or not choice.model:
            raise UnsupportedModel(
                "a new gallery needs --model: for photos ViT-B-32/laion2b_s34b_b79k or another "
                "model of open_clip, for emoji drawings mini"
            )
        return choice.anywhere()
    spec = gallery.spec
    made_with = spec.fingerprint.model
    choice = choice or ModelChoice("")
    if pseudo_words and spec.words is None:
        raise ModelMismatch(
            f"gallery {gallery.name} was made without pseudo-words; leave out --pseudo-words, or "
            "ingest into a new gallery"
        )
    if choice.preprocess is not None:
        _check_preprocess(choice.preprocess, gallery)
    named = replace(
        choice,
        model=choice.model or made_with,
        inverter=choice.inverter or (spec.words.name if spec.words else None),
        preprocess=Preprocess.if_known(spec.fingerprint.preprocess),
    ).anywhere()
    if named.model != made_with:
        try:
            loaded = named.load()
        except UnsupportedModel as error:
            raise ModelMismatch(
                f"gallery {gallery.name} was made with {spec.fingerprint}, and {named.model!r} "
                f"cannot be loaded to compare the two ({error}); leave out --model"
            ) from error
        spec.check_model(loaded.backbone.fingerprint, gallery.name)
    return named


def _check_preprocess(wanted: str, gallery: Described) -> None:
    made_by = Preprocess.for_decoding(gallery.spec.fingerprint.preprocess)
    if made_by.by(wanted) != made_by:
        raise ModelMismatch(
            f"gallery {gallery.name} was made with the preprocessing {made_by.name}, not with "
            f"{wanted}; leave out --preprocess, or ingest into a new gallery"
        )


def new_spec(
    choice: ModelChoice, pseudo_words: bool, indexes: Mapping[str, IndexType]
) -> GallerySpec:
    """Describes a new gallery; loads the model. Raises BadManifest, and as ``ModelChoice.load``."""
    composer = choice.load()
    words = words_of(composer) if pseudo_words else None
    if pseudo_words and words is None:
        raise BadManifest(f"--pseudo-words with {choice.model!r} needs --inverter")
    if words is not None:
        words = words.model_copy(update={"name": choice.inverter})
    return GallerySpec(
        fingerprint=composer.backbone.fingerprint, indexes=dict(indexes), words=words
    )


@contextmanager
def created_gallery(
    location: GalleryLocation, spec: GallerySpec, storage: CollectionConfig
) -> Iterator[Gallery]:
    """Makes a gallery, or opens the one that another run has made since this one looked.

    Raises GalleryUnavailable; ModelMismatch and BadManifest where that one is not what this run
    would have made.
    """
    try:
        gallery = _created(location, spec, storage)
    except GalleryExists:
        gallery = location.open()
        try:
            _check_same(gallery, location, spec, storage)
        except BaseException:
            gallery.close()
            raise
    try:
        yield gallery
    finally:
        gallery.close()


def _created(location: GalleryLocation, spec: GallerySpec, storage: CollectionConfig) -> Gallery:
    if isinstance(location, ServerLocation):
        return location.create(spec, storage)
    return location.create(spec)


def _check_same(
    gallery: Gallery, location: GalleryLocation, spec: GallerySpec, storage: CollectionConfig
) -> None:
    """Whether another run has made what this one would have made."""
    gallery.spec.check_model(spec.fingerprint, gallery.name)
    gallery.spec.check_words(spec.words, gallery.name)
    check_fits(gallery, location, spec.indexes, {}, storage)


def check_fits(
    gallery: Gallery,
    location: GalleryLocation,
    asked: Mapping[str, IndexType],
    found: Mapping[str, IndexType],
    storage: CollectionConfig,
) -> None:
    """Whether a source can go into an existing gallery.

    Args:
        asked: indexes that the user wants.
        found: types of the source's values.

    Raises BadManifest where the gallery has other indexes, or is stored in another way.
    """
    if (server := on_server(gallery, location)) is not None:
        server.storage().check(storage, server.name)
        server.index_fields()
    check_indexes(asked, gallery)
    check_values(found, gallery)
    if not asked:
        warn_of_new_fields(found, gallery)


def check_adopted(gallery: Gallery, bulk: bool) -> None:
    """Whether a run can go on into a collection that another program made.

    Raises BadManifest where it cannot know new ids, or would change how the collection is indexed.
    """
    layout = gallery.spec.layout
    if layout.ours:
        return
    if layout.ids == "integer" and layout.key_field is None:
        raise BadManifest(
            f"the ids in {gallery.name} are numbers, and nothing says which column holds them; "
            "adopt it again with fti-ingest adopt --key FIELD"
        )
    if bulk:
        raise BadManifest(
            f"--bulk changes how {gallery.name} is indexed, and another program made it; leave the "
            "option out"
        )


def on_server(gallery: Gallery, location: GalleryLocation) -> ServerGallery | None:
    """The gallery as what it is on a server; None for an embedded one, which needs no client."""
    if not isinstance(location, ServerLocation):
        return None
    from fti_qdrant.gallery import ServerGallery

    assert isinstance(gallery, ServerGallery)
    return gallery
