"""``fti-ingest status``: what a gallery holds, and what its store is doing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.user_text import print_json, print_lines
from fti_qdrant.errors import GalleryNotFound

if TYPE_CHECKING:
    from fti_qdrant.gallery import Gallery
    from fti_qdrant.gallery.location import GalleryLocation

EPILOG = """\b
Examples:
  fti-ingest status --gallery shop
  fti-ingest status --url http://localhost:6333 --collection shop --json
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@one_line_errors
def status(location: GalleryLocation, as_json: bool) -> None:
    """Show the size, index, optimizer state, and model of a gallery."""
    with closing(_opened(location)) as gallery:
        state, spec, address = gallery.state(), gallery.spec, gallery.address
    if as_json:
        state_and_spec = {"gallery": address, **asdict(state), "spec": spec.model_dump(mode="json")}
        print_json(state_and_spec)
        return
    indexes = ", ".join(f"{field}: {kind}" for field, kind in spec.indexes.items())
    rows = (
        ("gallery", address),
        ("points", f"{state.points:,}"),
        ("indexed vectors", f"{state.indexed:,}"),
        ("segments", f"{state.segments:,}"),
        ("optimizer", state.optimizer),
        *(
            [("bulk load", "unfinished; the next complete run builds the index")]
            if state.bulk
            else []
        ),
        ("model", str(spec.fingerprint)),
        *([("model check", spec.check.summary())] if spec.check else []),
        ("pseudo-words", f"of inverter {spec.words.inverter}" if spec.words else "none"),
        ("payload indexes", indexes or "none"),
    )
    print_lines(*(f"{label + ':':<17}{value}" for label, value in rows))


def _opened(location: GalleryLocation) -> Gallery:
    """Raises GalleryUnavailable, not GalleryNotFound, where no gallery could be made either."""
    from fti_qdrant.gallery.edge_folder import check_free
    from fti_qdrant.gallery.location import EmbeddedLocation

    try:
        return location.open()
    except GalleryNotFound:
        if isinstance(location, EmbeddedLocation):
            check_free(location.path)
        raise
