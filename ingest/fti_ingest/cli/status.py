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
from fti_qdrant.gallery.points import OURS

if TYPE_CHECKING:
    from fti_qdrant.gallery import Gallery
    from fti_qdrant.gallery.location import GalleryLocation

EPILOG = """\b
Examples:
  fti-ingest status --gallery shop
  fti-ingest status --url http://localhost:6333 --collection shop --json
  fti-ingest status --url http://localhost:6333 --collection shop --recall 500
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option(
    "--recall",
    is_flag=False,
    flag_value=100,
    type=click.IntRange(1, 100_000),
    metavar="[N]",
    help="Measure how many of the 10 nearest images approximate searches find, on N stored images "
    "drawn at random (100 if N is left out).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@one_line_errors
def status(location: GalleryLocation, recall: int | None, as_json: bool) -> None:
    """Show the size, index, optimizer state, and model of a gallery."""
    from fti_qdrant.gallery.recall import measure_recall, recall_advice

    with closing(_opened(location)) as gallery:
        state, spec, address = gallery.state(), gallery.spec, gallery.address
        storage, indexes = gallery.storage(), gallery.indexes()
        found = None if recall is None else measure_recall(gallery, recall)
    if as_json:
        measured = {} if found is None else {"recall": asdict(found)}
        told = {
            "gallery": address,
            **asdict(state),
            "quantization": storage.quantization,
            **measured,
            "spec": spec.model_dump(mode="json"),
        }
        print_json(told)
        return
    fields = ", ".join(f"{name}: {kind}" for name, kind in indexes.items() if OURS not in name)
    rows = (
        ("gallery", address),
        ("points", f"{state.points:,}"),
        (
            "indexed images",
            f"{state.indexed:,} of {state.points:,}; others are compared one by one",
        ),
        ("segments", f"{state.segments:,}"),
        ("optimizer", state.optimizer),
        *(
            [("bulk load", "unfinished; the next complete run builds the index")]
            if state.bulk
            else []
        ),
        ("quantization", storage.quantization),
        *([(f"recall@{found.neighbors}", str(found))] if found else []),
        ("model", str(spec.fingerprint)),
        *([("model check", spec.check.summary())] if spec.check else []),
        ("pseudo-words", f"of inverter {spec.words.inverter}" if spec.words else "none"),
        ("payload indexes", fields or "none"),
    )
    print_lines(*(f"{label + ':':<17}{value}" for label, value in rows))
    if found and (advice := recall_advice(found, storage)):
        print_lines(f"WARNING: {advice}", err=True)


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
