"""A collection of another program as a gallery, with the model that was declared and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdrant_client import QdrantClient

from fti_qdrant.adoption.collection_shape import CollectionShape, read_shape
from fti_qdrant.adoption.declaration import Declaration
from fti_qdrant.adoption.new_ids import id_scheme
from fti_qdrant.adoption.point_sample import (
    PictureSample,
    check_uri_field,
    check_vectors,
    read_sample,
    sample_points,
)
from fti_qdrant.errors import BadCollection, ModelMismatch, UnsupportedModel
from fti_qdrant.gallery import (
    CollectionLayout,
    GallerySpec,
    ModelCheck,
    ServerGallery,
    StoredImage,
)
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_errors import translated
from fti_qdrant.gallery.server_opening import SPEC_KEY, stored_calibration
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.model.pretrained import KNOWN_MODELS, our_name

if TYPE_CHECKING:  # a collection is looked at before torch is loaded
    import torch

    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.model.backbone import Backbone
    from fti_qdrant.model.openvino_backend import Backend


@dataclass(frozen=True)
class Candidate:
    """A collection that fits what was declared, as far as can be seen without the model.

    Attributes:
        shape, layout: its configuration, and what of it is used.
        described: what the collection's metadata already says; None where it says nothing.
        model: as ``Backbone.load`` takes it.
        preprocess: None for what other tools do for this model.
        images: some of its points.
        check: number of them to check the model by.
    """

    shape: CollectionShape
    described: GallerySpec | None
    layout: CollectionLayout
    model: str
    preprocess: str | None
    images: list[StoredImage]
    check: int

    def gallery(
        self, client: QdrantClient, spec: GallerySpec, *, owns_client: bool
    ) -> ServerGallery:
        """The collection as a gallery, once ``checked`` has described it."""
        opened = ServerGallery(client, self.shape.collection, spec, self.shape.name)
        opened.owns_client = owns_client
        opened.attached = True
        opened.calibration = stored_calibration(self.shape.config, self.shape.name)
        return opened


def find_candidate(client: QdrantClient, collection: str, declared: Declaration) -> Candidate:
    """Looks at a collection; loads no model, reads no picture, and writes nothing.

    Raises:
        BadCollection: it has no vector that composed search can use, or the declaration does not
            fit it.
        UnsupportedModel: no model is named, and the collection names none.
        ModelMismatch: the model has vectors of another size.
        GalleryNotFound, GalleryUnavailable.
    """
    shape = read_shape(client, collection)
    described = _description(shape)
    if described is not None:
        declared = declared.completed_by(described)
    vector = shape.chosen(declared.vector)
    params = shape.vectors[vector]
    model = declared.model or shape.proposed_model(vector) or _ask_for_model(shape, params.size)
    name, implied = our_name(model)
    if name in KNOWN_MODELS:
        check_size(KNOWN_MODELS[name].dim, params.size, model, shape.name)
    base = described.layout if described else CollectionLayout(ours=False)
    named = {
        "image_vector": vector,
        "uri_field": declared.uri_field,
        "image_root": declared.image_root,
        "key_field": declared.key_field,
    }
    layout = base.model_copy(update=named)
    images = sample_points(client, shape, layout, declared.check)
    check_vectors(images, params.distance, shape.name)
    check_uri_field(images, layout, shape.name)
    scheme = id_scheme(images, declared.key_field, shape.name)
    layout = layout.model_copy(update={"ids": scheme})
    preprocess = declared.preprocess or implied
    return Candidate(shape, described, layout, name, preprocess, images, declared.check)


def check_size(dim: int, size: int, model: str, name: str) -> None:
    """Raises ModelMismatch where a model's vectors are of another size than the stored ones."""
    if dim != size:
        fitting = ", ".join(row.name for row in KNOWN_MODELS.values() if row.dim == size)
        raise ModelMismatch(
            f"{name} has vectors of {size} dimensions, and those of {model!r} have {dim}; "
            + (f"known models with {size} are {fitting}" if fitting else "declare another model")
        )


def checked_spec(
    candidate: Candidate, backbone: Backbone, limits: ImageLimits = DEFAULT_LIMITS
) -> GallerySpec:
    """Compares the stored vectors with the model's, and describes the collection.

    Raises ModelMismatch, which names what fits better, where they are not of this model.
    """
    shape, layout = candidate.shape, candidate.layout
    size = shape.vectors[layout.image_vector].size
    check_size(backbone.dim, size, candidate.model, shape.name)
    sample = read_sample(candidate.images, layout, candidate.check, limits)
    check = _check(candidate, backbone, sample)
    return GallerySpec(
        fingerprint=backbone.fingerprint,
        indexes=dict(shape.indexes),
        words=candidate.described.words if candidate.described else None,
        layout=layout,
        check=check,
    )


def _check(candidate: Candidate, backbone: Backbone, sample: PictureSample) -> ModelCheck:
    if not sample.pictures:
        reason = sample.reason
        if sample.unreadable:
            reason = f"none of {sample.unreadable} images could be read ({reason})"
        return ModelCheck(unreadable=sample.unreadable, reason=reason)
    from fti_qdrant.adoption.recompute import median_cosine
    from fti_qdrant.adoption.suspects import likely_preparation, likely_suspect

    check = ModelCheck(
        median=round(median_cosine(backbone, sample), 4),
        compared=len(sample.pictures),
        unreadable=sample.unreadable,
        reason=sample.reason if sample.unreadable else "",
    )
    if check.verdict == "fits":
        return check
    if check.verdict == "differs":
        found = likely_preparation(backbone, sample)
        likely = ""
        if found:
            advice = f"; {found.advice}" if found.advice else ""
            likely = f"{found.when} (median {found.figure:.3f}){advice}"
        return check.model_copy(update={"likely": likely})
    suspect = likely_suspect(backbone, sample)
    explained = (
        f"They fit better {suspect.when} (median {suspect.figure:.3f})"
        + (f"; {suspect.advice}" if suspect.advice else "; embed the images again")
        if suspect
        else "No usual reason explains it; declare the model that made them, or embed again"
    )
    raise ModelMismatch(
        f"the vectors of {candidate.shape.name} were not made by {backbone.fingerprint}: the "
        f"median cosine of {check.compared} stored images and their recomputed vectors is "
        f"{check.median:.3f}. {explained}"
    )


def checked(
    candidate: Candidate,
    *,
    inverter: str | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    backend: Backend = "torch",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> tuple[Composer, GallerySpec]:
    """A composer with the declared model, once that is checked, and what the collection is then.

    Asks no server. Raises as ``Composer.load`` and ``checked_spec``.
    """
    from fti_qdrant.composers.composer import Composer

    backbone = load_backbone(candidate, device, precision, backend)
    spec = checked_spec(candidate, backbone, limits)
    return Composer.with_inverter(backbone, inverter), spec


def adopt(
    client: QdrantClient,
    collection: str,
    declared: Declaration,
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> GallerySpec:
    """Checks the declaration, and writes it into the collection's metadata: that, and nothing else.

    Raises as ``find_candidate`` and ``checked_spec``, and BadCollection for a collection that
    fti-ingest made itself.
    """
    candidate = find_candidate(client, collection, declared)
    name, collection = candidate.shape.name, candidate.shape.collection
    ServerCapabilities.of(client).require("metadata", name)
    if candidate.layout.ours:
        raise BadCollection(f"{name} was made by fti-ingest; there is nothing to adopt")
    spec = checked_spec(candidate, load_backbone(candidate, device, precision), limits)
    with translated(name, "write"):
        client.update_collection(collection, metadata={SPEC_KEY: spec.model_dump(mode="json")})
    return spec


def load_backbone(
    candidate: Candidate,
    device: str | torch.device | None = None,
    precision: str | None = None,
    backend: Backend = "torch",
) -> Backbone:
    """The declared model, with the declared preprocessing or that of other tools.

    Raises as ``Backbone.load``.
    """
    from fti_qdrant.model.backbone import Backbone

    wanted = candidate.preprocess
    backbone = Backbone.load(
        candidate.model, device=device, precision=precision, preprocess=wanted, backend=backend
    )
    if wanted is None:
        backbone.preprocess = backbone.preprocess.unpadded
    return backbone


def _description(shape: CollectionShape) -> GallerySpec | None:
    described = shape.metadata.get(SPEC_KEY)
    return None if described is None else GallerySpec.read(json.dumps(described), shape.name)


def _ask_for_model(shape: CollectionShape, size: int) -> str:
    names = [row.name for row in KNOWN_MODELS.values() if row.dim == size]
    such = f", such as {', '.join(names)}" if names else ""
    raise UnsupportedModel(
        f"which model made the vectors of {shape.name}? They have {size} dimensions, and neither "
        f"the collection's metadata nor the name of the vector says it; pass model=...{such}"
    )
