"""Reference images of a batch of queries -> features and pseudo-words, each read once.

Pictures go through the backbone in one batch; stored images come from the gallery, without a
picture being read.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fti_qdrant.composers.composer import PSEUDO_WORD_METHODS, Composer, References
from fti_qdrant.errors import BadQuery, ModelMismatch, UnknownImageId
from fti_qdrant.gallery import Gallery, StoredImage
from fti_qdrant.gallery.points import OURS
from fti_qdrant.gallery.pseudo_words import unstacked
from fti_qdrant.images import LoadedImage, open_image
from fti_qdrant.model.inverter import Inverter, PseudoWords
from fti_qdrant.query import Query, Reference, stored_id


@dataclass(frozen=True)
class ReadQuery:
    """A query whose references have been read.

    Attributes:
        sources: one for each reference: a picture, or a stored image.
    """

    query: Query
    sources: tuple[LoadedImage | StoredImage, ...]

    @property
    def method(self) -> str:
        """The composer that answers: an image or a text alone needs no composing."""
        if not self.query.references:
            return "text"
        return self.query.composer if self.query.words else "image"


def read(queries: Sequence[Query], gallery: Gallery, allow_urls: bool) -> list[ReadQuery]:
    """Opens pictures and retrieves stored images, all ids in one request.

    Raises BadImage, UnknownImageId.
    """
    ids = {one for query in queries for ref in query.references if (one := stored_id(ref))}
    stored = {image.id: image for image in gallery.retrieve(sorted(ids))} if ids else {}
    missing = sorted(ids - stored.keys())
    if missing:
        raise UnknownImageId(
            f"gallery {gallery.name} holds no image {missing[0]}"
            + (f" (nor {len(missing) - 1} more)" if missing[1:] else "")
            + "; pass the id of a hit, or a picture"
        )

    def source(reference: Reference) -> LoadedImage | StoredImage:
        id = stored_id(reference)
        if id is not None or isinstance(reference, uuid.UUID):
            return stored[str(id)]
        return open_image(reference, allow_urls=allow_urls)

    return [ReadQuery(query, tuple(map(source, query.references))) for query in queries]


def invert(queries: Sequence[ReadQuery], composer: Composer, gallery: Gallery) -> list[References]:
    """References of each query; pictures of all queries pass the backbone as one batch.

    Raises:
        BadQuery: a composer that needs pseudo-words, and a stored image that has none.
        ModelMismatch: stored pseudo-words of another inverter than the loaded one.
    """
    pictures = {
        source.sha256: source.image
        for read in queries
        for source in read.sources
        if isinstance(source, LoadedImage)
    }
    rows = {sha256: row for row, sha256 in enumerate(pictures)}
    fresh = None
    if pictures:
        features = composer.backbone.image_features(list(pictures.values()))
        fresh = composer.references(features, (1,) * len(pictures))
    return [_of_query(read, composer, gallery, fresh, rows) for read in queries]


def words_of(image: StoredImage, inverter: Inverter | None, gallery: Gallery) -> PseudoWords:
    """The stored pseudo-words of one image, ``[1, ...]``. Raises BadQuery, ModelMismatch."""
    if image.words is None or gallery.spec.words is None:
        raise BadQuery(
            f"gallery {gallery.name} stores no pseudo-words for image {image.id}; pass the picture "
            "itself, use composer='sum', or ingest with --pseudo-words"
        )
    if inverter is None or inverter.weights_hash != gallery.spec.words.inverter:
        raise ModelMismatch(
            f"the pseudo-words in gallery {gallery.name} are of inverter "
            f"{gallery.spec.words.inverter}, and another one is loaded; load that inverter, or "
            "ingest again"
        )
    return unstacked(image.words, int(image.payload[OURS]["r"]))


def _of_query(
    read: ReadQuery,
    composer: Composer,
    gallery: Gallery,
    fresh: References | None,
    rows: dict[str, int],
) -> References:
    pooled: list[Tensor] = []
    words: list[PseudoWords] = []
    device = composer.backbone.device
    needs_words = read.method in PSEUDO_WORD_METHODS
    for source in read.sources:
        if isinstance(source, StoredImage):
            pooled.append(_tensor(source.vector, device))
            if needs_words:
                words.append(_to(words_of(source, composer.inverter, gallery), device))
        elif fresh is not None:
            row = slice(rows[source.sha256], rows[source.sha256] + 1)
            pooled.append(fresh.pooled[row])
            if needs_words and fresh.words is not None:
                part = fresh.words
                words.append(PseudoWords(part.subject[row], part.attributes[row], part.counts[row]))
    joined = PseudoWords.join(words) if len(words) == len(pooled) and words else None
    return References(torch.cat(pooled), joined, (len(pooled),))


def _tensor(vector: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(vector)[None].to(device)


def _to(words: PseudoWords, device: torch.device) -> PseudoWords:
    return PseudoWords(
        words.subject.to(device), words.attributes.to(device), words.counts.to(device)
    )
