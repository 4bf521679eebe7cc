"""The reference images of a batch of queries: read once each, embedded in one batch.

Stored images come from the gallery with their vectors; no picture is read for them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from fti_qdrant.gallery.points import OURS
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
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.query import Query
from fti_qdrant.reference_ids import Reference, named_id, stored_id


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

    @property
    def pictures(self) -> tuple[ImageSource | None, ...]:
        """As ``ReferencePictures.sources``."""
        return tuple(map(_place, self.query.references, self.sources))

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


def stored_images(references: Iterable[Reference], gallery: Gallery) -> dict[str, StoredImage]:
    """The images, by id, of those references that are ids or parts of ids; in one request.

    Raises UnknownImageId, which names the first that the gallery does not have.
    """
    ids = {one for reference in references if (one := named_id(reference))}
    stored = {image.id: image for image in gallery.retrieve(sorted(ids))} if ids else {}
    missing = sorted(ids - stored.keys())
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
    allow_urls: bool,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    allow_paths: bool = True,
) -> list[LoadedQuery]:
    """Reads each picture once, and all stored images in one request.

    Args:
        queries: from ``with_composer``.
        limits: of each picture.
        allow_paths: False refuses paths, unread; those that the gallery itself stores are read.

    Raises BadImage, UnknownImageId.
    """
    stored = stored_images([ref for query in queries for ref in query.references], gallery)
    pictures: dict[object, LoadedImage] = {}

    def read(reference: Reference, decode: bool) -> LoadedImage | StoredImage | HashedImage:
        id = stored_id(reference)
        if id is not None or isinstance(reference, uuid.UUID):
            return stored[str(id)]
        source, ours = reference, named_id(reference)
        if isinstance(reference, Cropped) and ours is not None:
            source = Cropped(_uri(stored[ours]), reference.box)
        rules: dict[str, Any] = {
            "allow_urls": allow_urls,
            "allow_paths": allow_paths or ours is not None,
            "limits": limits,
        }
        if not decode:
            return HashedImage(content_hash(source, **rules))
        key = _identity(reference)
        if key not in pictures:
            pictures[key] = open_image(source, **rules)
        return pictures[key]

    loaded = []
    for query in queries:
        decode = LoadedQuery(query, ()).composer.uses_image or query.explain
        sources = tuple(read(reference, decode) for reference in query.references)
        loaded.append(LoadedQuery(query, sources))
    return loaded


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
    remedy = f"pass the picture itself{', or ingest with pseudo-words' * chosen.needs_inverter}"
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
    words = unstacked(image.words, int(image.payload[OURS]["r"]))
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
    reference: Reference, source: LoadedImage | StoredImage | HashedImage
) -> ImageSource | None:
    """Where a reference can be read again; None where it cannot."""
    if isinstance(source, StoredImage):
        return source.payload.get(OURS, {}).get("uri")
    if isinstance(reference, Cropped):
        whole = source.uri if isinstance(source, LoadedImage) else None
        return Cropped(whole, reference.box) if whole else _again(reference)
    return _again(reference)


def _again(reference: Reference) -> ImageSource | None:
    whole = reference.image if isinstance(reference, Cropped) else reference
    if named_id(whole) is not None or hasattr(whole, "read"):
        return None
    assert not isinstance(reference, uuid.UUID)
    return reference


def _uri(image: StoredImage) -> str:
    """Where the picture of a stored image is. Raises BadImage where that is not known."""
    uri = image.payload.get(OURS, {}).get("uri")
    if not uri:
        raise BadImage(
            f"image {image.id} cannot be cropped: the gallery does not store where its picture "
            "is; pass the picture itself"
        )
    return str(uri)


def _identity(reference: ImageSource) -> object:
    """Equal for references that are surely the same picture."""
    return reference if isinstance(reference, (str, os.PathLike, bytes)) else id(reference)


def _tensor(vector: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(vector)[None].to(device)
