"""``fti-search``: one composed query from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.model_options import backend_option
from fti_qdrant.cli.program_options import program_options
from fti_qdrant.cli.user_text import as_text, print_json, printable
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.errors import BadFilter

if TYPE_CHECKING:
    from rich.text import Text

    from fti_qdrant.explanation import Explanation
    from fti_qdrant.gallery.location import GalleryLocation
    from fti_qdrant.model.openvino_backend import Backend
    from fti_qdrant.query import Hit, Hits
    from fti_qdrant.search import ComposedSearch

EPILOG = """\b
Examples:
  fti-search --gallery shop --image dress.jpg --text "in red, with long sleeves"
  fti-search --gallery shop --image dress.jpg --text "in red" --filter '{"price": {"lt": 50}}'
  fti-search --gallery shop --image dress.jpg --text "in red" --avoid stripes
  fti-search --gallery shop --text "a red dress" --json
  fti-search --gallery shop --image dress.jpg --text "shorter" --explain --sheet out.html
  fti-search --url http://localhost:6333 --collection shop --image ID --text "in blue"
"""


@click.command(epilog=EPILOG)
@gallery_options
@click.option(
    "--image",
    "images",
    multiple=True,
    help="Reference image: a path, or the ID of a stored image. May be repeated.",
)
@click.option("--text", help="What should be different. Without --image: what to look for.")
@click.option(
    "--filter", "filter_json", help='Filter on the payload, as JSON: {"price": {"lt": 50}}.'
)
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
    help="Weight of an --image; one for each, in the same order.",
)
@click.option(
    "--composer-option",
    "composer_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another option of the composer; fti-search composers lists them.",
)
@click.option("--keep-reference", is_flag=True, help="Keep the reference image in the results.")
@click.option("--score-threshold", type=float, help="Minimum cosine similarity of a result.")
@click.option("--model", help="[default: the model that the gallery was made with]")
@click.option("--inverter", help="Folder or hub name of an inverter; mini has its own.")
@backend_option
@click.option("--allow-urls", is_flag=True, help="Accept a URL as --image.")
@click.option(
    "--explain",
    is_flag=True,
    help="Show the prompt, the words nearest to its pseudo-words, and what the query is close to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write an HTML page with images.")
@program_options("fti-search")
@one_line_errors(after_stop="nothing was changed")
def main(
    location: GalleryLocation,
    images: tuple[str, ...],
    text: str | None,
    filter_json: str | None,
    limit: int,
    composer: str | None,
    text_weight: float | None,
    avoid: str | None,
    weights: tuple[float, ...],
    composer_options: tuple[str, ...],
    keep_reference: bool,
    score_threshold: float | None,
    model: str | None,
    inverter: str | None,
    backend: Backend,
    allow_urls: bool,
    explain: bool,
    as_json: bool,
    sheet: Path | None,
) -> None:
    """Find images like the reference, changed as the text says, that pass the filter."""
    from fti_qdrant.query import Query

    filter = _parse_filter(filter_json)
    if explain and not images:
        raise click.UsageError("--explain needs an --image")
    query = Query(  # refuses bad input before a model is loaded
        image=list(images) or None,
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
    )
    options = {"model": model, "inverter": inverter, "backend": backend, "allow_urls": allow_urls}
    with _open(location, options) as search:
        [hits] = search.query_many([query])
        pictures = [_picture(search, image) for image in images] if sheet else []
    if as_json:
        print_json(_as_dict(hits))
    else:
        _print(hits)
    if sheet:
        from fti_qdrant.report.sheet import AnsweredQuery, write_sheet

        row = AnsweredQuery(hits, pictures, hits.explanation)
        write_sheet(sheet, text or "Images like this one", [row])
        click.echo(f"sheet: {printable(sheet)}", err=as_json)


def _parse_filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise BadFilter(f"--filter is not JSON ({error}): {text}") from None
    if not isinstance(parsed, dict):
        raise BadFilter(f'--filter must be an object such as {{"brand": "Acme"}}, got {text}')
    return parsed


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


def _open(location: GalleryLocation, options: dict[str, Any]) -> ComposedSearch:
    from fti_qdrant.gallery.location import EmbeddedLocation
    from fti_qdrant.search import ComposedSearch

    if isinstance(location, EmbeddedLocation):
        return ComposedSearch.open(location.path, **options)
    options = {"api_key": location.api_key, "grpc_port": location.grpc_port, **options}
    return ComposedSearch.connect(location.url, location.collection, **options)


def _picture(search: ComposedSearch, image: str) -> str | None:
    """The path of a reference on the page; of a stored image, where it was ingested from."""
    from fti_qdrant.gallery.points import OURS
    from fti_qdrant.query import stored_id

    id = stored_id(image)
    if id is None:
        return image
    stored = search.gallery.retrieve([id])
    return stored[0].payload.get(OURS, {}).get("uri") if stored else None


def _as_dict(hits: Hits) -> dict[str, Any]:
    out: dict[str, Any] = {"composer": hits.composer, "hits": [hit.as_dict() for hit in hits]}
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
    table = Table("", "score", title=f"composer: {hits.composer}")
    table.add_column("image", overflow="fold")
    table.add_column("payload", overflow="fold")
    for rank, hit in enumerate(hits, 1):
        payload = ", ".join(f"{name}={value}" for name, value in hit.payload.items())
        table.add_row(str(rank), f"{hit.score:.3f}", _path_and_id(hit), as_text(payload))
    console.print(table)
    for warning in hits.query.warnings:
        console.print(as_text(f"warning: {warning}"))
    if hits.explanation:
        for line in _explanation_lines(hits.explanation):
            console.print(as_text(line))


def _explanation_lines(explanation: Explanation) -> Iterator[str]:
    if explanation.prompt is not None:
        yield f"prompt: {explanation.prompt}"
    if explanation.references and explanation.prompt_in_words != explanation.prompt:
        yield f"in words: {explanation.prompt_in_words}"
    cosines = ", ".join(f"{part} {cosine:.2f}" for part, cosine in explanation.cosines.items())
    yield f"cosine of the query with: {cosines}"
    for image in explanation.references:
        for token in image:
            words = ", ".join(f"{word} {cosine:.2f}" for word, cosine in token.words)
            yield f"{token.token}: {words}"


def _path_and_id(hit: Hit) -> Text:
    """Where the image was ingested from, and below it the ID, which ``--image`` takes."""
    id = as_text(hit.id, "dim")
    return as_text(hit.uri).append("\n").append_text(id) if hit.uri else id


if __name__ == "__main__":
    main()
