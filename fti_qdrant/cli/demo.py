"""``fti-demo``: pictures -> gallery -> composed queries -> a page to look at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.ingest_process import run_ingest

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.emoji.showcase import Showcase
    from fti_qdrant.query import Hits
    from fti_qdrant.search import ComposedSearch

HITS = 7
EPILOG = """\b
Examples:
  fti-demo                       writes demo/, open demo/index.html afterwards
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
    help="Folder for the pictures, the gallery and index.html.",
)
@one_line_errors
def main(out: Path) -> None:
    """Show composed search on emoji: draw them, ingest them, answer eight queries.

    Everything runs here: no server, no network. Needs fti-qdrant[demo].
    """
    from fti_qdrant.benchmarks.emoji.artwork import file_name
    from fti_qdrant.benchmarks.emoji.showcase import SHOWCASES
    from fti_qdrant.report.sheet import Answered, write_sheet
    from fti_qdrant.search import ComposedSearch

    began = time.monotonic()
    pictures, gallery = out / "pictures", out / "gallery"
    run_ingest([str(_draw(pictures)), "--gallery", str(gallery), "--pseudo-words"])
    with ComposedSearch.open(gallery) as search:
        answers = [(one, *_ask(search, pictures, one)) for one in SHOWCASES]
    _summarize(answers)
    rows = [
        Answered(hits, [str(pictures / file_name(one.reference))], title="name")
        for one, *both in answers
        for hits in both
    ]
    page = out / "index.html"
    write_sheet(page, "Composed search on emoji", rows, NOTE)
    click.echo(f"open {page} to see them ({time.monotonic() - began:.0f} s in all)")


NOTE = (
    "Each query is a picture and a text that changes it, asked without and with a filter on the "
    "payload. Pictures: Twemoji, CC-BY 4.0."
)


def _draw(folder: Path) -> Path:
    from rich.progress import Progress

    from fti_qdrant.benchmarks.emoji.gallery import write_gallery

    with Progress(transient=True) as progress:
        task = progress.add_task("drawing emoji")
        return write_gallery(
            folder,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _ask(search: ComposedSearch, pictures: Path, one: Showcase) -> tuple[Hits, Hits]:
    from fti_qdrant.benchmarks.emoji.artwork import file_name

    image = pictures / file_name(one.reference)
    free = search.query(image, one.text, limit=HITS)
    return free, search.query(image, one.text, filter=one.filter, limit=HITS)


def _summarize(answers: list[tuple[Showcase, Hits, Hits]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fti_qdrant.benchmarks.emoji.facts import all_emoji

    names = {emoji.key: emoji.name for emoji in all_emoji()}
    table = Table("picture", "text", "best hit", "rank", "filter", "rank")
    for one, free, filtered in answers:
        best = str(free[0].payload["name"]) if free else "none"
        asked = json.dumps(dict(one.filter))
        table.add_row(
            names[one.reference], one.text, best, _rank(free, one), asked, _rank(filtered, one)
        )
    Console().print(table)
    click.echo(f"rank: of the right answer among {HITS} hits, without the filter and with it")


def _rank(hits: Hits, one: Showcase) -> str:
    places = [Path(hit.uri or "").stem for hit in hits]
    return str(places.index(one.answer) + 1) if one.answer in places else f"> {HITS}"


if __name__ == "__main__":
    main()
