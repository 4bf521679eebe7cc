"""What a user says about a collection that another program made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fti_qdrant.errors import BadCollection
from fti_qdrant.gallery import GallerySpec
from fti_qdrant.images import Preprocess

MOST_CHECKED = 1000


@dataclass(frozen=True)
class Declaration:
    """What a user says about a collection.

    Attributes:
        model: what made its vectors, as ``Backbone.load`` takes it; None where the name of the
            vector or the collection's metadata says it.
        vector: name of the image vector, ``""`` for the unnamed one; None where there is only one.
        uri_field: payload field that says where each image can be read.
        image_root: folder or URI that relative values of ``uri_field`` begin at. URLs below it may
            be on a private host.
        key_field: payload field that a new point's id is made of.
        preprocess: how pictures were prepared; by default as other tools do for this model.
        check: number of stored images to compare; 0 checks nothing.
    """

    model: str | None = None
    vector: str | None = None
    uri_field: str | None = None
    image_root: str | None = None
    key_field: str | None = None
    preprocess: str | None = None
    check: int = 32

    def __post_init__(self) -> None:
        for name in ("uri_field", "image_root", "key_field"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise BadCollection(f"{name} must be a text that is not empty, got {value!r}")
        if self.vector is not None and not isinstance(self.vector, str):
            raise BadCollection(f"vector must be the name of a vector, got {self.vector!r}")
        whole = isinstance(self.check, int) and not isinstance(self.check, bool)
        if not whole or not 0 <= self.check <= MOST_CHECKED:
            raise BadCollection(
                f"check must be a number of images from 0 to {MOST_CHECKED:,}, got {self.check!r}"
            )

    def completed_by(self, described: GallerySpec) -> Declaration:
        """What the user left out is taken from what the collection says about itself."""
        layout, made_by = described.layout, described.fingerprint
        preprocess = None if self.model else Preprocess.if_known(made_by.preprocess)
        return replace(
            self,
            model=self.model or made_by.model,
            vector=layout.image_vector if self.vector is None else self.vector,
            uri_field=self.uri_field or layout.uri_field,
            image_root=self.image_root or layout.image_root,
            key_field=self.key_field or layout.key_field,
            preprocess=self.preprocess or preprocess,
        )
