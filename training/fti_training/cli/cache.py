"""``fti-train cache``: features of pictures and captions, computed once."""

from __future__ import annotations

from pathlib import Path

import click

from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.model_options import MODEL_NAMES
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import worker_options

EPILOG = """\b
Examples:
  fti-train cache captions.parquet --model ViT-L-14-quickgelu/openai --out features
  fti-train fit --cache features --model ViT-L-14-quickgelu/openai --out runs/first

\b
Run a stopped or killed command again to continue it. A cache belongs to one model. Training from
it never reads the pictures, so it cannot be combined with augmentation.
"""


@click.command(epilog=EPILOG)
@click.argument("captions", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the cache.")
@click.option("--model", default="mini", show_default=True, help=MODEL_NAMES)
@worker_options
@one_line_errors
def cache(
    captions: Path, out: Path, model: str, precision: str | None, engine: EngineChoice
) -> None:
    """Store the features of the pictures in CAPTIONS, so that training need not compute them.

    CAPTIONS is a file of fti-train captions. The size is printed first; a disk that is too small
    is an error. Pictures that cannot be read are listed in OUT/rejects.jsonl.
    """
    engine.check()
    from fti_ingest.run.rejects import RejectsFile
    from fti_qdrant.cli.progress import step_progress
    from fti_qdrant.model.backbone import Backbone
    from fti_training.cache.write import CacheWriter, FeatureShapes, gigabytes
    from fti_training.samples import read_samples

    samples = read_samples(captions)
    # under Ray the workers load the model again, and this one is only asked for its shapes
    device = "cpu" if engine.resolved == "ray" else None
    backbone = Backbone.load(model, device=device, precision=precision)
    shapes = FeatureShapes.of(backbone)
    writer = CacheWriter(
        out, backbone, samples, shapes, precision, engine.workers, engine.gpus_per_worker
    )
    remaining = writer.prepare()
    whole, needed = shapes.bytes_for(len(samples)), shapes.bytes_for(remaining)
    print_lines(f"{len(samples):,} samples, {gigabytes(whole)}; {gigabytes(needed)} to write")
    with (
        open_engine(engine) as opened,
        step_progress() as progress,
        RejectsFile(out / "rejects.jsonl") as rejected,
    ):
        done = len(samples) - remaining
        task = progress.add_task("samples", total=len(samples), completed=done)
        for reject in writer.run(opened, lambda count: progress.update(task, advance=count)):
            rejected.add(reject)
        count = rejected.count
    without = (
        f", {samples.without_split:,} captions without a split" if samples.without_split else ""
    )
    print_lines(f"cache: {out}, {len(samples) - count:,} samples; {count:,} unreadable{without}")
    if count:
        print_lines(f"unreadable pictures are listed in {out / 'rejects.jsonl'}")
