"""The reference images of a batch of queries: read once each, embedded in one batch.

Stored images come from the gallery with their vectors; no picture is read for them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composers.defaults import WITHOUT_INVERTER
from fti_qdrant.composers.registry import (
    IMAGE_ONLY,
    TEXT_ONLY,
    ComposerDescription,
    find_composer,
)
from fti_qdrant.errors import BadImage, BadQuery, ModelMismatch, UnknownImageId
from fti_qdrant.gallery import Gallery, StoredImage
from fti_qdrant.gallery.layout import CollectionLayout
from fti_qdrant.gallery.point_ids import StoredId, id_order
from fti_qdrant.gallery.pseudo_words import unstacked
from fti_qdrant.images import (
    DEFAULT_LIMITS,
    Cropped,
    ImageLimits,
    ImageSource,
    LoadedImage,
    content_hash,
    open_image,
)
from fti_qdrant.images.crop import Box
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.query import Query
from fti_qdrant.reference_ids import Reference, named_id, stored_id
from fti_qdrant.stored_pictures import image_place, picture_source, read_pictures

ReadAll = Callable[[Sequence[Callable[[], Any]]], list[Any]]


@dataclass(frozen=True)
class ReadingRules:
    """What may be read for a query.

    Attributes:
        allow_urls: whether a reference may be an http(s) URL.
        allow_paths: False refuses every path, unread.
        limits: of each picture.
    """

    allow_urls: bool = False
    allow_paths: bool = True
    limits: ImageLimits = DEFAULT_LIMITS


@dataclass(frozen=True)
class HashedImage:
    """A picture that is only to be left out of the hits: it was neither decoded nor embedded."""

    sha256: str


@dataclass(frozen=True)
class LoadedQuery:
    """A query whose references have been read.

    Attributes:
        query: with the name of the composer that answers it, and the warnings so far.
        sources: one for each reference.
    """

    query: Query
    sources: tuple[LoadedImage | StoredImage | HashedImage, ...]

    @property
    def composer(self) -> ComposerDescription:
        return find_composer(self.query.composer or "")

    @property
    def embeds(self) -> bool:
        """Whether image vectors are needed."""
        return bool(self.sources) and (self.composer.uses_image or self.query.explain)

    @property
    def inverts(self) -> bool:
        """Whether pseudo-words are of use."""
        return self.composer.needs_inverter or self.query.explain

    @property
    def options(self) -> dict[str, Any]:
        """The composer's options that the query gives."""
        return self.query.composer_options

    def pictures(self, layout: CollectionLayout) -> tuple[ImageSource | None, ...]:
        """As ``ReferencePictures.sources``."""
        pairs = zip(self.query.references, self.sources)
        return tuple(_place(reference, source, layout) for reference, source in pairs)

    @property
    def stored(self) -> list[StoredImage]:
        return [source for source in self.sources if isinstance(source, StoredImage)]


def with_composer(query: Query, composer: Composer) -> Query:
    """The query with the name of the composer that answers it.

    An image alone or a text alone needs no composing. What the composer will not use is named in
    the warnings.

    Raises BadQuery where an inverter is needed and none is loaded, or for an option that the
    composer does not have.
    """
    name = composer.default_composer if query.composer is None else query.composer
    composer.options(name, query.composer_options)
    if not query.references or not query.words:
        only = IMAGE_ONLY if query.references else TEXT_ONLY
        return replace(query, composer=only, text_weight=None, options=None)
    composer.check(name)
    chosen = find_composer(name)
    unused = [] if chosen.uses_image else ["image"]
    unused += [] if chosen.uses_text else ["text"]
    warnings = tuple(f"composer {name!r} does not use the {one}" for one in unused)
    return replace(query, composer=name, warnings=(*query.warnings, *warnings))


def stored_images(references: Iterable[Reference], gallery: Gallery) -> dict[StoredId, StoredImage]:
    """The images, by id, of those references that are ids or parts of ids; in one request.

    Raises UnknownImageId, which names the first that the gallery does not have.
    """
    ids = {one for reference in references if (one := named_id(reference)) is not None}
    found = gallery.retrieve(sorted(ids, key=id_order)) if ids else []
    stored = {image.id: image for image in found}
    missing = sorted(ids - stored.keys(), key=id_order)
    if missing:
        raise UnknownImageId(
            f"gallery {gallery.name} has no image {missing[0]}"
            + (f" (nor {len(missing) - 1} more)" if missing[1:] else "")
            + "; pass the id of a hit, or a picture"
        )
    return stored


def load_references(
    queries: Sequence[Query],
    gallery: Gallery,
    rules: ReadingRules,
    composer: Composer,
    read_all: ReadAll,
) -> list[LoadedQuery]:
    """Reads each picture once, and all stored images in one request.

    Args:
        queries: from ``with_composer``.
        rules: for the pictures that a query names; those that the gallery stores are read.
        read_all: calls functions that read a picture each, and returns what they return.

    Raises BadImage, UnknownImageId.
    """
    stored = stored_images([ref for query in queries for ref in query.references], gallery)
    layout = gallery.spec.layout
    tasks: dict[object, Callable[[], LoadedImage | HashedImage]] = {}

    def planned(reference: Reference, decode: bool) -> object:
        """The key of a picture that will be read, or the stored image."""
        id = stored_id(reference)
        if id is not None:
            return stored[id]
        picture = cast("ImageSource", reference)  # or what is none at all: opening it says so
        read = partial(_read, picture, decode, rules, composer)
        if isinstance(reference, Cropped) and (whole := named_id(reference)) is not None:
            read = partial(
                _read_part, stored[whole], reference.box, layout, decode, rules, composer
            )
        key = (_identity(picture), decode)
        tasks.setdefault(key, read)
        return key

    plans = []
    for query in queries:
        decode = LoadedQuery(query, ()).composer.uses_image or query.explain
        plans.append([planned(reference, decode) for reference in query.references])
    pictures: dict[object, Any] = dict(zip(tasks, read_all(list(tasks.values()))))
    return [
        LoadedQuery(
            query,
            tuple(one if isinstance(one, StoredImage) else pictures[one] for one in plan),
        )
        for query, plan in zip(queries, plans)
    ]


def _read(
    reference: ImageSource,
    decode: bool,
    rules: ReadingRules,
    composer: Composer,
) -> LoadedImage | HashedImage:
    if not decode:
        return HashedImage(content_hash(reference, **vars(rules)))
    return composer.fitted(open_image(reference, **vars(rules)))


def _read_part(
    image: StoredImage,
    box: Box,
    layout: CollectionLayout,
    decode: bool,
    rules: ReadingRules,
    composer: Composer,
) -> LoadedImage | HashedImage:
    """Of a stored image, wherever the gallery has it.

    Raises BadImage, which does not tell where that is: a service answers others with it.
    """
    from fti_qdrant.images.fetch import reason_of  # it loads file systems

    source = picture_source(image.payload, layout)
    found = None if source is None else read_pictures([source], layout)[0]
    try:
        if source is None or found is None:
            raise BadImage("the gallery does not store where its picture is")
        if isinstance(found, Exception):
            raise BadImage(reason_of(found, source).replace(source, "it")) from found
        part = _read(Cropped(found, box), decode, rules, composer)
    except BadImage as error:
        raise BadImage(f"image {image.id} cannot be cropped: {error}") from error
    if isinstance(part, HashedImage):
        return part
    return replace(part, uri=image_place(image.payload, layout))


def answerable(loaded: LoadedQuery, asked: Query) -> LoadedQuery:
    """The query, by the next best composer where stored images lack what the default one needs.

    Only a composer that the user did not choose is replaced, and a warning says so.

    Args:
        asked: the query before ``with_composer``.

    Raises BadQuery where the user chose a composer that cannot use a stored image.
    """
    chosen = loaded.composer
    lacking = [image for image in loaded.stored if not _suffices(image, chosen)]
    if not lacking:
        return loaded
    what = "pseudo-words" if chosen.needs_inverter else "features that are not normalized"
    missing = f"the gallery stores no {what} for image {lacking[0].id}"
    remedy = "pass the picture itself"
    if chosen.needs_inverter:
        remedy += ", or add them with fti-ingest words"
    if asked.composer is not None:
        raise BadQuery(f"{missing}; {remedy}, or use composer {WITHOUT_INVERTER!r}")
    warning = f"{missing}, so composer {WITHOUT_INVERTER!r} answered; for {chosen.name!r}, {remedy}"
    warnings = (*loaded.query.warnings, warning)
    return replace(
        loaded, query=replace(loaded.query, composer=WITHOUT_INVERTER, warnings=warnings)
    )


def _suffices(image: StoredImage, composer: ComposerDescription) -> bool:
    if composer.needs_inverter and image.words is None:
        return False
    return "raw_image" not in composer.needs


def embed_references(
    queries: Sequence[LoadedQuery], composer: Composer, gallery: Gallery
) -> list[References | None]:
    """The references of each query; None where its composer uses no image.

    All pictures pass the backbone in one batch, and those that need pseudo-words the inverter.
    Where the inverter was trained on pictures preprocessed in another way, these pass the backbone
    once more.

    Raises:
        ModelMismatch: stored pseudo-words of another inverter than the loaded one.
    """
    embedding = [query for query in queries if query.embeds]
    inverting = [query for query in embedding if query.inverts]
    pictures = {one.identity: one for query in embedding for one in _pictures(query)}
    fresh: dict[object, References] = {}
    if pictures:
        features = composer.backbone.image_features([one.image for one in pictures.values()])
        rows = {identity: row for row, identity in enumerate(pictures)}
        inverted = list({one.identity: None for query in inverting for one in _pictures(query)})
        plain = [identity for identity in pictures if identity not in set(inverted)]
        for group, invert in ((inverted, True), (plain, False)):
            if group:
                part = features.take([rows[identity] for identity in group])
                images = [pictures[identity].image for identity in group]
                for_words = composer.word_features(images) if invert else None
                references = composer.references(
                    part, (1,) * len(group), invert=invert, for_words=for_words
                )
                fresh.update(zip(group, references.split()))
    return [
        _of_query(query, composer, gallery, fresh) if query.embeds else None for query in queries
    ]


def stored_words(image: StoredImage, composer: Composer, gallery: Gallery) -> PseudoWords | None:
    """The stored pseudo-words of one image, ``[1, ...]``, or None. Raises ModelMismatch."""
    if image.words is None or gallery.spec.words is None:
        return None
    inverter = composer.inverter
    if inverter is None or inverter.weights_hash != gallery.spec.words.inverter:
        raise ModelMismatch(
            f"the pseudo-words in gallery {gallery.name} are of inverter "
            f"{gallery.spec.words.inverter}, and another one is loaded; load that inverter, or "
            "ingest again"
        )
    facts = gallery.spec.layout.facts(image.payload)
    words = unstacked(image.words, facts.get("r"), gallery.spec.words.topk)
    return words.to(composer.backbone.device)


def _pictures(query: LoadedQuery) -> list[LoadedImage]:
    return [source for source in query.sources if isinstance(source, LoadedImage)]


def _of_query(
    query: LoadedQuery, composer: Composer, gallery: Gallery, fresh: Mapping[object, References]
) -> References:
    parts = []
    for source in query.sources:
        if isinstance(source, LoadedImage):
            parts.append(fresh[source.identity])
        elif isinstance(source, StoredImage):
            inverts = query.inverts and composer.inverter is not None
            words = stored_words(source, composer, gallery) if inverts else None
            pooled = _tensor(source.vector, composer.backbone.device)
            parts.append(References(pooled, words, (1,)))
    joined = References.join(parts)
    weights = None if query.query.weights is None else tuple(query.query.weights)
    return References(joined.pooled, joined.words, (len(parts),), weights)


def _place(
    reference: Reference,
    source: LoadedImage | StoredImage | HashedImage,
    layout: CollectionLayout,
) -> ImageSource | None:
    """Where a reference can be read again; None where it cannot."""
    if isinstance(source, StoredImage):
        return image_place(source.payload, layout)
    if isinstance(reference, Cropped):
        whole = source.uri if isinstance(source, LoadedImage) else None
        return Cropped(whole, reference.box) if whole else _again(reference)
    return _again(reference)


def _again(reference: Reference) -> ImageSource | None:
    whole = reference.image if isinstance(reference, Cropped) else reference
    if named_id(whole) is not None or hasattr(whole, "read"):
        return None
    assert not isinstance(reference, (uuid.UUID, int))
    return reference


def _identity(reference: ImageSource) -> object:
    """Equal for references that are surely the same picture."""
    return reference if isinstance(reference, (str, os.PathLike, bytes)) else id(reference)


def _tensor(vector: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(vector)[None].to(device)
