"""``fti-ingest adopt``: describes a collection that another program made."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.image_options import max_pixels_option
from fti_qdrant.cli.model_options import MODEL_NAMES, preprocess_option
from fti_qdrant.cli.user_text import print_lines

if TYPE_CHECKING:
    from fti_qdrant.gallery import GallerySpec
    from fti_qdrant.gallery.location import GalleryLocation

EPILOG = """\b
Examples:
  fti-ingest adopt --url http://localhost:6333 --collection shop \\
      --model clip-ViT-B-32 --uri-field image_url
  fti-ingest adopt --url http://localhost:6333 --collection shop --vector photo \\
      --model ViT-B-32/laion2b_s34b_b79k --uri-field path --image-root s3://bucket/photos --key sku
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option(
    "--model",
    help=f"What made the vectors: {MODEL_NAMES} Or another tool's name, such as clip-ViT-B-32.",
)
@click.option("--vector", help="Name of the image vector.  [default: the only one]")
@click.option(
    "--uri-field",
    help="Payload field that says where an image is: a path, a URL, s3://, or itself in base64.",
)
@click.option("--image-root", help="Folder or URI that relative values of --uri-field begin at.")
@click.option("--key", "key_field", help="Payload field that ids are made of, for new images.")
@preprocess_option
@click.option(
    "--check",
    type=click.IntRange(0, 1000),
    default=32,
    show_default=True,
    help="How many images to embed again and compare with the stored vectors.",
)
@max_pixels_option
@one_line_errors(after_stop="nothing was written")
def adopt(
    location: GalleryLocation,
    model: str | None,
    vector: str | None,
    uri_field: str | None,
    image_root: str | None,
    key_field: str | None,
    preprocess: str | None,
    check: int,
    max_pixels: int,
) -> None:
    """Declare which model made the vectors of a collection of another program, and check it.

    The declaration is written into the collection's metadata, and nothing else is changed. From
    then on fti-search, ComposedSearch.connect and fti-ingest SOURCE work on it.
    """
    from fti_qdrant.adoption.attach import adopt as adopted
    from fti_qdrant.adoption.declaration import Declaration
    from fti_qdrant.gallery.location import ServerLocation
    from fti_qdrant.images.limits import ImageLimits

    if not isinstance(location, ServerLocation):
        raise click.UsageError("adopt needs a collection on a server: --url and --collection")
    declared = Declaration(
        model, vector, uri_field, image_root, key_field, preprocess=preprocess, check=check
    )
    limits = ImageLimits(max_pixels=max_pixels)
    with closing(location.connect()) as client:
        spec = adopted(client, location.collection, declared, limits=limits)
    print_lines(*_lines(location.collection, spec))


def _lines(collection: str, spec: GallerySpec) -> list[str]:
    layout = spec.layout
    vector = f"vector {layout.image_vector!r}" if layout.image_vector else "the unnamed vector"
    ids = f"{layout.ids} ids" + (f" from {layout.key_field!r}" if layout.key_field else "")
    lines = [f"collection {collection!r} is adopted: {vector}, {ids}", f"model: {spec.fingerprint}"]
    if spec.check is not None:
        lines.append(spec.check.summary())
    lines += [f"warning: {one}" for one in spec.warnings]
    return lines
