"""``fti-demo``: emoji images -> gallery -> composed queries -> an HTML page."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.ingest import run_ingest
from fti_qdrant.cli.program_options import program_options
from fti_qdrant.cli.user_text import as_text, print_lines

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.emoji.showcase import Showcase
    from fti_qdrant.query import Hits
    from fti_qdrant.search import ComposedSearch

    Answer = tuple[Showcase, Hits, Hits]
    """A query with its results, without and with its filter."""

LIMIT = 7
"""Results of each query."""

NOTE = (
    "Each query is an image and a text that changes it, without and with a filter on the payload. "
    "Images: Twemoji, CC-BY 4.0."
)

EPILOG = """\b
Examples:
  fti-demo                       writes to demo/; open demo/index.html afterwards
  fti-serve --gallery demo/gallery     a page to search them with; needs fti-qdrant[serve]
  fti-demo --out /tmp/emoji
  fti-search --gallery demo/gallery --image demo/pictures/1f469-1f3fd-200d-1f692.png \\
      --text "with dark skin tone"
"""


@click.command(epilog=EPILOG)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for the images, the gallery and index.html.",
)
@program_options("fti-demo")
@one_line_errors
def main(out: Path) -> None:
    """Show composed search on emoji: draw them, ingest them, answer eight queries.

    Everything runs on this machine, without a server or a network. Needs fti-qdrant[demo].
    """
    began = time.monotonic()
    manifest = _draw(out / "pictures")
    answers = _answer(out / "gallery", manifest)
    _print(answers)
    page = _write_page(out / "index.html", answers)
    print_lines(
        f"open {page} to see them ({time.monotonic() - began:.0f} s in total)",
        "to search them yourself, in a browser: "
        f"{serve_command()} --gallery {shlex.quote(str(out / 'gallery'))}",
    )


def serve_command() -> str:
    """``fti-serve`` as it can be typed: ``make demo`` runs in an environment that is not active."""
    beside = Path(sys.executable).with_name("fti-serve")
    if shutil.which("fti-serve") is None and beside.exists():
        return shlex.quote(os.path.relpath(beside))
    return "fti-serve"


def _draw(folder: Path) -> Path:
    from fti_qdrant.benchmarks.emoji.gallery import write_gallery
    from fti_qdrant.cli.progress import step_progress

    with step_progress(transient=True) as progress:
        task = progress.add_task("drawing emoji", total=None)
        return write_gallery(
            folder,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _answer(gallery: Path, manifest: Path) -> list[Answer]:
    """Ingests the images and answers the queries, with one model."""
    from fti_ingest.run.ingest import IngestJob
    from fti_ingest.stages.embed import ModelChoice
    from fti_qdrant.benchmarks.emoji.showcase import SHOWCASES
    from fti_qdrant.gallery.location import EmbeddedLocation
    from fti_qdrant.search import ComposedSearch

    location, choice = EmbeddedLocation(gallery), ModelChoice("mini")
    run_ingest(IngestJob(str(manifest), location, choice, pseudo_words=True))
    with ComposedSearch(choice.load(), location.open()) as search:
        return [(one, *_query(search, manifest.parent, one)) for one in SHOWCASES]


def _query(search: ComposedSearch, pictures: Path, one: Showcase) -> tuple[Hits, Hits]:
    """The results without and with the filter."""
    from fti_qdrant.benchmarks.emoji.artwork import file_name

    image = pictures / file_name(one.reference)
    unfiltered = search.query(image, one.text, limit=LIMIT)
    return unfiltered, search.query(image, one.text, filter=one.filter, limit=LIMIT)


def _write_page(page: Path, answers: list[Answer]) -> Path:
    from fti_qdrant.report.sheet import write_sheet

    rows = [hits for _, *both in answers for hits in both]
    write_sheet(page, "Composed search on emoji", rows, NOTE, title="name")
    return page


def _print(answers: list[Answer]) -> None:
    from rich.table import Table

    from fti_qdrant.benchmarks.emoji.facts import all_emoji
    from fti_qdrant.cli.console import output_console

    names = {emoji.key: emoji.name for emoji in all_emoji()}
    table = Table("image", "text", "best result", "rank", "filter", "rank")
    for one, unfiltered, filtered in answers:
        best = str(unfiltered[0].payload["name"]) if unfiltered else "none"
        table.add_row(
            as_text(names[one.reference]),
            as_text(one.text),
            as_text(best),
            _rank(unfiltered, one),
            as_text(json.dumps(dict(one.filter))),
            _rank(filtered, one),
        )
    output_console().print(table)
    print_lines(f"rank: of the right answer in {LIMIT} results, without the filter and with it")


def _rank(hits: Hits, one: Showcase) -> str:
    keys = [Path(hit.uri or "").stem for hit in hits]
    return str(keys.index(one.answer) + 1) if one.answer in keys else f"> {LIMIT}"


if __name__ == "__main__":
    main()
