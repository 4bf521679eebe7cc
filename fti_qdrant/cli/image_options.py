"""Options about the images that a command reads."""

from __future__ import annotations

import click

from fti_qdrant.images.limits import DEFAULT_LIMITS

max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=DEFAULT_LIMITS.max_pixels,
    show_default=True,
    help="Refuse larger images. A JPEG may have more: it is decoded at a part of its size.",
)
