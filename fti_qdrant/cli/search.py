"""``fti-search``: one composed query from the command line, and what can be named in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.cli.composers import composers
from fti_qdrant.cli.default_command import DefaultCommandGroup
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.facets import facets
from fti_qdrant.cli.filter_option import filter_option, parse_filter
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.image_options import max_pixels_option
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.model_options import backend_option
from fti_qdrant.cli.models import models
from fti_qdrant.cli.program_options import program_options
from fti_qdrant.cli.user_text import as_text, print_json, print_lines
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.images.limits import ImageLimits

if TYPE_CHECKING:
    from rich.text import Text

    from fti_qdrant.gallery.location import GalleryLocation
    from fti_qdrant.model.openvino_backend import Backend
    from fti_qdrant.query import Hit, Hits, Query
    from fti_qdrant.search import ComposedSearch

ID_WIDTH = 36
"""Characters of an ID, which is never broken: it is there to be copied."""

LEAST_WIDTH = 80
"""Columns of the table; a narrower terminal breaks its lines itself."""

EPILOG = """\b
Examples:
  fti-search --gallery shop --image dress.jpg --text "in red, with long sleeves"
  fti-search --gallery shop --image dress.jpg --text "in red" --filter '{"price": {"lt": 50}}'
  fti-search --gallery shop --image dress.jpg --text "in red" --avoid stripes
  fti-search --gallery shop --text "a red dress" --json
  fti-search --gallery shop --text "a red dress" --group-by product --cutoff 0.9
  fti-search facets brand --gallery shop
  fti-search --gallery shop --image dress.jpg --text "shorter" --explain --sheet out.html
  fti-search --url http://localhost:6333 --collection shop --id 42 --text "in blue"
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option(
    "--image",
    "images",
    multiple=True,
    help="Reference image: a path, or the UUID of a stored image. May be repeated.",
)
@click.option(
    "--id",
    "ids",
    multiple=True,
    help="ID of a stored image as the reference: a UUID or a number. May be repeated.",
)
@click.option("--text", help="What should be different. Without --image: what to look for.")
@filter_option
@click.option("--limit", type=int, default=10, show_default=True, help="Maximum number of results.")
@click.option(
    "--composer",
    type=click.Choice(composer_names()),
    help="How image and text are combined.  [default: the best that the loaded model can do]",
)
@click.option(
    "--text-weight", type=float, help="Share of the text, 0 to 1.  [default: the model's]"
)
@click.option("--avoid", help='What results should not have, such as "stripes".')
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="Weight of an --image or --id; one for each, in this order.",
)
@click.option(
    "--composer-option",
    "composer_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another option of the composer; fti-search composers lists them.",
)
@click.option("--like", "like", multiple=True, help="ID of an image that results should resemble.")
@click.option("--dislike", "dislike", multiple=True, help="ID of an image that they should not.")
@click.option("--offset", type=int, default=0, help="Results (or groups) to skip.")
@click.option(
    "--cutoff",
    type=float,
    help="Keep results with at least this share of the best one's confidence, above 0 to 1; of its "
    "score where the gallery is not calibrated.",
)
@click.option(
    "--min-confidence",
    type=float,
    help="Keep results that are right with this chance, 0 to 1. Needs fti-eval calibrate.",
)
@click.option("--diversity", type=float, help="0 (by score alone) to 1: avoid similar results.")
@click.option(
    "--order-by", help="A field of numbers or dates; -FIELD for descending. Needs --cutoff."
)
@click.option("--group-by", help="A field, such as the product: --limit then counts groups.")
@click.option("--group-size", type=int, default=1, show_default=True, help="Results of a group.")
@click.option(
    "--exact/--approximate",
    default=None,
    help="Compare with every image, or use the index.  [default: embedded exact, server index]",
)
@click.option("--keep-reference", is_flag=True, help="Keep the reference image in the results.")
@click.option("--score-threshold", type=float, help="Minimum cosine similarity of a result.")
@click.option("--model", help="[default: the model that the gallery was made with]")
@click.option(
    "--inverter",
    help="fti4cir, a folder, a checkpoint file or ORG/REPO on the hub; mini has its own.",
)
@backend_option
@click.option("--allow-urls", is_flag=True, help="Accept a URL as --image.")
@max_pixels_option
@click.option(
    "--explain",
    is_flag=True,
    help="Show the prompt, the words nearest to its pseudo-words, and what the query is close to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write an HTML page with images.")
@one_line_errors(after_stop="nothing was changed")
def query(
    location: GalleryLocation,
    images: tuple[str, ...],
    ids: tuple[str, ...],
    text: str | None,
    filter_json: str | None,
    limit: int,
    composer: str | None,
    text_weight: float | None,
    avoid: str | None,
    weights: tuple[float, ...],
    composer_options: tuple[str, ...],
    like: tuple[str, ...],
    dislike: tuple[str, ...],
    offset: int,
    cutoff: float | None,
    min_confidence: float | None,
    diversity: float | None,
    order_by: str | None,
    group_by: str | None,
    group_size: int,
    exact: bool | None,
    keep_reference: bool,
    score_threshold: float | None,
    model: str | None,
    inverter: str | None,
    backend: Backend,
    allow_urls: bool,
    max_pixels: int,
    explain: bool,
    as_json: bool,
    sheet: Path | None,
) -> None:
    """Find images like the reference, changed as the text says, that pass the filter."""
    from fti_qdrant.query import Query

    filter = parse_filter(filter_json)
    references = [*images, *_parse_ids(ids)]
    if explain and not references:
        raise click.UsageError("--explain needs an --image or --id")
    asked = Query(  # bad input is refused before a model is loaded, which takes seconds
        image=references or None,
        text=text,
        filter=filter,
        limit=limit,
        composer=composer,
        exclude_reference=not keep_reference,
        score_threshold=score_threshold,
        explain=explain,
        text_weight=text_weight,
        avoid=avoid,
        weights=weights or None,
        options=_parse_options(composer_options),
        like=_numbers(like),
        dislike=_numbers(dislike),
        offset=offset,
        cutoff=cutoff,
        min_confidence=min_confidence,
        diversity=diversity,
        order_by=order_by,
        group_by=group_by,
        group_size=group_size,
        exact=exact,
    )
    limits = ImageLimits(max_pixels=max_pixels)
    _check_images(images, allow_urls, limits)
    options: dict[str, Any] = {
        "model": model,
        "inverter": inverter,
        "backend": backend,
        "allow_urls": allow_urls,
    }
    with _open(location, asked, options | {"limits": limits}) as search:
        [hits] = search.query_many([asked])
    if as_json:
        print_json(_as_dict(hits))
    else:
        _print(hits)
    if sheet:
        from fti_qdrant.report.sheet import write_sheet

        write_sheet(sheet, text or "Images like this one", [hits])
        print_lines(f"sheet: {sheet}", err=as_json)


def _parse_ids(texts: tuple[str, ...]) -> list[str | int]:
    from fti_qdrant.errors import UnknownImageId
    from fti_qdrant.gallery.point_ids import parsed_id

    try:
        return [parsed_id(text) for text in texts]
    except UnknownImageId as error:
        raise click.UsageError(f"--id: {error}") from None


def _numbers(texts: tuple[str, ...]) -> list[str | int]:
    """Ids that are numbers as such; all else is looked at with the query."""
    return [int(text) if text.isascii() and text.isdigit() else text for text in texts]


def _parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE``, where the value is JSON, or else a text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in options:
            raise click.UsageError(f"--composer-option takes NAME=VALUE, each once, got {pair!r}")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _check_images(images: tuple[str, ...], allow_urls: bool, limits: ImageLimits) -> None:
    """Raises BadImage for files that are missing or too large."""
    from fti_qdrant.errors import BadImage
    from fti_qdrant.images.read import is_url, read_bytes
    from fti_qdrant.reference_ids import stored_id

    for image in images:
        if stored_id(image) is None and not (allow_urls and is_url(image)):
            try:
                read_bytes(image, allow_urls=allow_urls, limits=limits)
            except BadImage as error:
                hint = f"; for the image of this id, pass --id {image}" if image.isdigit() else ""
                raise BadImage(f"{error}{hint}") from None


def _open(location: GalleryLocation, asked: Query, options: dict[str, Any]) -> ComposedSearch:
    """What no image has, and chances that are not known, are refused before a model is loaded."""
    gallery = location.open()
    try:
        from fti_qdrant.confidence import check_calibrated
        from fti_qdrant.filters.stored_fields import StoredFields
        from fti_qdrant.vector_queries import refined

        refined(asked, StoredFields(gallery))
        check_calibrated(asked, gallery.calibration)
        from fti_qdrant.search import ComposedSearch

        return ComposedSearch.over(gallery, **options)
    except BaseException:
        gallery.close()
        raise


def _as_dict(hits: Hits) -> dict[str, Any]:
    out: dict[str, Any] = {"composer": hits.composer, "hits": [hit.as_dict() for hit in hits]}
    if hits.query.cutoff_by:
        out["cutoff_by"] = hits.query.cutoff_by
    if hits.query.warnings:
        out["warnings"] = list(hits.query.warnings)
    if hits.explanation:
        out["prompt"] = hits.explanation.prompt
        out["prompt_in_words"] = hits.explanation.prompt_in_words
        out["cosines"] = hits.explanation.cosines
        out["explanations"] = [
            [{"token": token.token, "words": dict(token.words)} for token in image]
            for image in hits.explanation.references
        ]
    return out


def _print(hits: Hits) -> None:
    from rich.table import Table

    from fti_qdrant.cli.console import output_console

    console = output_console()
    console.width = max(console.width, LEAST_WIDTH)
    table = Table("", "score", title=as_text(f"composer: {hits.composer}"))
    if any(hit.confidence is not None for hit in hits):
        table.add_column("confidence", justify="right")
    if hits.query.group_by is not None:
        table.add_column(as_text(hits.query.group_by), overflow="fold")
    table.add_column("image", overflow="fold", min_width=ID_WIDTH)
    table.add_column("payload", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        payload = ", ".join(f"{name}={value}" for name, value in hit.payload.items())
        group = [as_text(str(hit.group))] if hits.query.group_by is not None else []
        chance = [] if hit.confidence is None else [f"{hit.confidence:.0%}"]
        score = (str(rank), f"{hit.score:.3f}", *chance)
        table.add_row(*score, *group, _path_and_id(hit), as_text(payload))
    console.print(table)
    for warning in hits.query.warnings:
        console.print(as_text(f"warning: {warning}"))
    if hits.explanation:
        for line in hits.explanation.lines():
            console.print(as_text(line))


def _path_and_id(hit: Hit) -> Text:
    """Where the image was ingested from, and below it the ID, which ``--image`` takes."""
    id = as_text(str(hit.id), "dim")
    return as_text(hit.uri).append("\n").append_text(id) if hit.uri else id


@click.group(cls=DefaultCommandGroup, default="query", default_if_no_args=True, epilog=EPILOG)
@program_options("fti-search")
def main() -> None:
    """Find images like the reference, changed as the text says, that pass the filter.

    "query" may be left out: fti-search --gallery shop ... is fti-search query --gallery shop ...
    """


for command in (query, facets, composers, models):
    main.add_command(logging_options(command))

if __name__ == "__main__":
    main()
