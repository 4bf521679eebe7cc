"""The gallery that a run behind an alias writes to: the alias's own, or one beside it."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count

from fti_ingest.run.field_indexes import check_indexes
from fti_ingest.run.ingest import IngestJob
from fti_ingest.run.target_gallery import model_for, new_spec
from fti_ingest.stages.embed import words_of
from fti_qdrant.errors import BadManifest, GalleryNotFound, ModelMismatch, NotAGallery
from fti_qdrant.gallery import GallerySpec
from fti_qdrant.gallery.aliases import GalleryAlias
from fti_qdrant.gallery.edge_folder import SPEC_FILE, followed
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation

DIGEST = 8
"""Hex digits of a model in the name of a gallery."""


@dataclass(frozen=True)
class KnownGallery:
    """A gallery that is not open."""

    spec: GallerySpec
    name: str


def alias_target(job: IngestJob, alias: GalleryAlias) -> GalleryLocation:
    """Where a run writes to.

    1. the gallery that the alias stands for, where the run could go on in it: then it is updated
       in place, as without an alias;
    2. else one beside it that an earlier run has begun, or has left there, and that fits: so a run
       goes on after a kill, and back to an earlier model;
    3. else a new one, called after the alias, the model and the day.

    Raises as ``IngestJob``'s checks and ``GalleryAlias.target``.
    """
    current = alias.target()
    if current is not None and fits(current, job):
        return current
    spec = new_spec(model_for(None, job.model, job.pseudo_words), job.pseudo_words, job.indexes)
    stem = f"{alias.stem}-{digest(spec)}-"
    names = alias.names()
    for name in sorted((one for one in names if one.startswith(stem)), reverse=True):
        beside = alias.beside(name)
        if not same_place(beside, current) and fits(beside, job):
            return beside
    today = f"{stem}{datetime.now(timezone.utc):%Y%m%d}"
    numbered = (today if number == 1 else f"{today}-{number}" for number in count(1))
    return alias.beside(next(name for name in numbered if name not in names))


def digest(spec: GallerySpec) -> str:
    """A short hash of the model that makes a gallery's vectors and pseudo-words."""
    made_by = spec.fingerprint
    parts = [made_by.weights, made_by.activation, made_by.preprocess, made_by.dim]
    if spec.words is not None:
        parts += [spec.words.inverter, spec.words.topk]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGEST]


def fits(location: GalleryLocation, job: IngestJob) -> bool:
    """Whether there is a gallery that was made as the job asks.

    Only what the user asks for counts: a source that does not fit the gallery's indexes is an error
    of its own, not a reason to embed everything again.
    """
    try:
        if isinstance(location, EmbeddedLocation):
            known = _embedded(location)
        else:
            with closing(location.open()) as gallery:
                gallery.storage().check(job.storage, gallery.name)
                known = KnownGallery(gallery.spec, gallery.name)
        choice = model_for(known, job.model, job.pseudo_words)
        check_indexes(job.indexes, known)
        if known.spec.words is not None and choice.inverter != known.spec.words.name:
            known.spec.check_words(words_of(choice.load()), known.name)
    except (GalleryNotFound, NotAGallery, ModelMismatch, BadManifest):
        return False
    return True


def same_place(location: GalleryLocation, other: GalleryLocation | None) -> bool:
    if isinstance(location, EmbeddedLocation) and isinstance(other, EmbeddedLocation):
        return location.path.resolve() == other.path.resolve()
    return location == other


def _embedded(location: EmbeddedLocation) -> KnownGallery:
    """Without its lock: a search may have it open."""
    file = followed(location.path) / SPEC_FILE
    try:
        text = file.read_bytes()
    except OSError as error:
        raise GalleryNotFound(f"no gallery at {str(location.path)!r} ({error})") from error
    return KnownGallery(GallerySpec.read(text, str(file)), repr(str(location.path)))
