"""What a run goes into: the model's description, and the gallery opened or made for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from fti_ingest.cli.index_option import check_indexes, check_values, tell_new_fields
from fti_ingest.cli.server_options import ServerChoice
from fti_ingest.run.pipeline import ModelChoice
from fti_qdrant.errors import BadManifest, GalleryNotFound
from fti_qdrant.gallery import Gallery, GallerySpec, IndexType, ServerGallery, WordsSpec
from fti_qdrant.gallery.location import GalleryLocation, ServerLocation


def describe(
    model: str,
    inverter: str | None,
    precision: str | None,
    pseudo_words: bool,
    indexes: dict[str, IndexType],
) -> tuple[GallerySpec, ModelChoice]:
    """Loads the model once, to know its fingerprint; the workers load their own.

    Names of folders come back absolute: workers have another working directory.
    """
    from fti_qdrant.composers.composer import Composer

    composer = Composer.load(model, inverter, device="cpu", precision=precision)
    words = None
    if pseudo_words:
        if composer.inverter is None:
            raise BadManifest(f"--pseudo-words with {model!r} needs --inverter")
        words = WordsSpec(
            inverter=composer.inverter.weights_hash,
            topk=composer.inverter.topk,
            token_dim=composer.backbone.token_dim,
        )
    backbone = composer.backbone
    spec = GallerySpec(fingerprint=backbone.fingerprint, indexes=indexes, words=words)
    if inverter is not None and Path(inverter).is_dir():
        inverter = str(Path(inverter).resolve())
    return spec, ModelChoice(backbone.name, inverter, precision, backbone.preprocess)


@contextmanager
def opened_or_made(
    location: GalleryLocation,
    spec: GallerySpec,
    server: ServerChoice,
    asked: Mapping[str, IndexType],
    found: Mapping[str, IndexType],
) -> Iterator[Gallery]:
    """Opens the gallery, or makes it.

    Args:
        asked: indexes that the user wants; where none, ``found`` are those of the source's values.

    Raises as ``check_fits``.
    """
    opened: Gallery
    try:
        opened = location.open()
        if isinstance(opened, ServerGallery):
            opened.storage().check(server.storage, opened.name)
            opened.index_fields()
    except GalleryNotFound:
        if isinstance(location, ServerLocation):
            opened = location.create(spec, server.storage)
        else:
            opened = location.create(spec)
    try:
        check_fits(opened, spec, asked, found)
        yield opened
    finally:
        opened.close()


def check_fits(
    gallery: Gallery,
    spec: GallerySpec,
    asked: Mapping[str, IndexType],
    found: Mapping[str, IndexType],
) -> None:
    """Whether a source can go into a gallery; ``asked`` and ``found`` as in ``opened_or_made``.

    Raises ModelMismatch where it holds another model's vectors, or other pseudo-words, BadManifest
    where its indexes are not those asked for, or do not take the source's values.
    """
    gallery.spec.check_model(spec.fingerprint, gallery.name)
    gallery.spec.check_words(spec.words, gallery.name)
    check_indexes(asked, gallery)
    check_values(found, gallery)
    if not asked:
        tell_new_fields(found, gallery)


@contextmanager
def bulk_loading(gallery: Gallery, bulk: bool) -> Iterator[None]:
    """A bulk load that fails stays one: the next run goes on with it, and ends it."""
    if not isinstance(gallery, ServerGallery):
        yield
        return
    if bulk:
        gallery.begin_bulk()
    yield
    if gallery.state().bulk:
        gallery.end_bulk()
        click.echo("building the index ...", err=True)
        gallery.build_index()
