"""``fti-train captions``: images -> captions.parquet, split for the tri-wise loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.extras import need
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import worker_options
from fti_qdrant.errors import BadManifest
from fti_training.captions import DEFAULT_MODEL

if TYPE_CHECKING:
    import pyarrow as pa

    from fti_ingest.run.rejects import RejectsFile
    from fti_ingest.sources.source import Reject
    from fti_training.captions.pipeline import CaptionerChoice, CaptionsOutcome

EPILOG = """\b
Examples:
  fti-train captions photos/ --out captions.parquet
  fti-train captions 'photos/**/*.jpg' --out captions.parquet --batch 64 --gpus-per-worker 1
  fti-train captions photos/ --out captions.parquet --model models/blip-large
  fti-train captions --from-captions mine.csv --out captions.parquet

\b
Columns: uri, caption, subject, attribute, sha256. A caption of under 4 words, or one that cannot
be split, keeps an empty subject and attribute; training leaves it out. Captions are split with
spaCy's tagger if a spaCy English model is installed, else with a built-in one; quotes, emoji and
other marks around a caption are ignored.
"""


@click.command(epilog=EPILOG)
@click.argument("images", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The Parquet file. Run again to caption only new and changed images.",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="An image-to-text model of transformers: a name on the hub, or a folder.",
)
@click.option(
    "--from-captions",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Your own captions instead of IMAGES: CSV, JSONL or Parquet with image and caption.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Images at once."
)
@worker_options
@click.option("--allow-urls", is_flag=True, help="Fetch images that are named by URL.")
@click.option(
    "--save-every",
    type=click.FloatRange(min=0),
    default=60,
    show_default=True,
    help="Seconds between saves; a killed run loses no more than that.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    help="Where unreadable images are listed.  [default: beside OUT]",
)
@one_line_errors
def captions(
    images: str | None,
    out: Path,
    model: str,
    from_captions: Path | None,
    batch: int,
    precision: str | None,
    engine: EngineChoice,
    allow_urls: bool,
    save_every: float,
    rejects: Path | None,
) -> None:
    """Caption the IMAGES (a folder, glob or manifest) and split each caption after its first noun.

    Needs fti-qdrant[train], unless the captions are your own. Images that are unchanged since the
    last run are skipped. Unreadable ones are listed in OUT.rejects.jsonl and never stop the run.
    """
    if (images is None) == (from_captions is None):
        raise click.UsageError("pass either IMAGES or --from-captions FILE")
    engine.check()
    if from_captions is None:
        need("transformers", "train")
    from fti_ingest.run.rejects import RejectsFile
    from fti_qdrant.cli.progress import step_progress
    from fti_training.captions.pipeline import caption_images
    from fti_training.captions.split import choose_splitter
    from fti_training.captions.table import CaptionsTable, locked

    listed, bad, other_files = _listed(images, from_captions)
    splitter = choose_splitter()
    with locked(out), RejectsFile(rejects or out.with_suffix(".rejects.jsonl")) as rejected:
        table = CaptionsTable.open(out, splitter)
        captioner = from_captions.name if from_captions else _captioner(model, precision, engine)
        for one in bad:
            rejected.add(one)
        with open_engine(engine) as opened, step_progress() as progress:
            task = progress.add_task("images", total=len(listed))
            outcome = caption_images(
                listed,
                table,
                splitter,
                captioner,
                opened,
                batch=batch,
                allow_urls=allow_urls,
                save_every=save_every,
                reject=rejected.add,
                advance=lambda count: progress.update(task, advance=count),
            )
        outcome.rejected += len(bad)
        _conclude(
            outcome,
            rejected,
            f"{out}: {len(table):,} captions, split after the first noun by {splitter.title}",
            other_files,
        )


def _listed(
    images: str | None, from_captions: Path | None
) -> tuple[pa.Table, list[Reject], Mapping[str, int]]:
    """Columns uri and caption (null where a model is to write it), and what cannot be listed.

    Also the number of files that are no images, by suffix.
    """
    import pyarrow as pa

    from fti_ingest.sources.read_source import read_source
    from fti_training.captions.user_captions import read_user_captions

    if from_captions is not None:
        own = read_user_captions(from_captions)
        return own.table, own.rejects, {}
    assert images is not None
    source = read_source(images)
    uris = source.table.select(["uri"])
    table = uris.append_column("caption", pa.nulls(len(uris), pa.string()))
    return table, list(source.rejects()), source.other_files


def _captioner(model: str, precision: str | None, engine: EngineChoice) -> CaptionerChoice:
    from fti_training.captions.captioner import Pixels, full_name
    from fti_training.captions.pipeline import CaptionerChoice

    name = full_name(model)
    return CaptionerChoice(name, Pixels(name), precision, engine.workers, engine.gpus_per_worker)


def _conclude(
    outcome: CaptionsOutcome, rejected: RejectsFile, contents: str, other_files: Mapping[str, int]
) -> None:
    from fti_ingest.sources.image_files import counted

    print_lines(outcome.line())
    print_lines(contents)
    if other_files:
        print_lines(f"files that are no images: {counted(other_files)}")
    if rejected.first is None:
        return
    print_lines(f"unreadable images are listed in {rejected.path}")
    if outcome.rejected == outcome.images:
        first = f"{rejected.first.uri}: {rejected.first.reason}"
        raise BadManifest(f"no image could be captioned; the first: {first}")
