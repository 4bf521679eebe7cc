"""``fti-ingest words``: adds pseudo-words to a gallery that was made without them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.image_options import max_pixels_option
from fti_qdrant.cli.user_text import print_lines

if TYPE_CHECKING:
    from fti_qdrant.gallery.location import GalleryLocation

EPILOG = """\b
Examples:
  fti-ingest words --url http://localhost:6333 --collection shop --inverter fti4cir
  fti-ingest words --gallery shop
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option("--inverter", help="Folder or hub name.  [default: the model's own]")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="[default: fp16 on a GPU]"
)
@max_pixels_option
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    default=Path("rejects.jsonl"),
    show_default=True,
    help="List of the images that cannot be read.",
)
@one_line_errors
def words(
    location: GalleryLocation,
    inverter: str | None,
    precision: str | None,
    max_pixels: int,
    rejects: Path,
) -> None:
    """Add the pseudo-words of all images that have none, so that queries by id are fast.

    The images are read again, from where the gallery says that they are. Running again does only
    what is missing; so does running again after a kill.
    """
    from fti_ingest.cli.run import progress_bar
    from fti_ingest.run.words import WordsJob, add_words

    job = WordsJob(location, inverter, precision, max_pixels, rejects)
    with progress_bar() as callbacks:
        report = add_words(job, callbacks)
    print_lines(report.line())
    if report.rejected:
        print_lines(f"rejected images are listed in {rejects}")
