"""``fti-train cache``: features of pictures and captions, computed once."""

from __future__ import annotations

from pathlib import Path

import click

from fti_ingest.cli.worker_options import worker_options
from fti_qdrant.cli.errors import one_line_errors

EPILOG = """\b
Examples:
  fti-train cache captions.parquet --model ViT-L-14-quickgelu/openai --out features
  fti-train fit --cache features --model ViT-L-14-quickgelu/openai --out runs/first

\b
A killed run goes on where it stopped. The cache belongs to one model; training from it never
touches pixels, so augmentation and a cache exclude each other.
"""


@click.command(epilog=EPILOG)
@click.argument("captions", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the cache.")
@click.option(
    "--model", default="mini", show_default=True, help="mini, ARCH/PRETRAINED, hf-hub:, local-dir:"
)
@worker_options
@one_line_errors
def cache(
    captions: Path,
    out: Path,
    model: str,
    precision: str | None,
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
) -> None:
    """Store the features of CAPTIONS' pictures, so that training need not compute them.

    Prints the size first and refuses where the disk is too small. Pictures that cannot be read
    are listed in OUT/rejects.jsonl.
    """
    from fti_ingest.engine.session import quiet_ray
    from fti_ingest.run.rejects import RejectsFile
    from fti_qdrant.cli.progress import step_progress
    from fti_qdrant.model.backbone import Backbone
    from fti_training.cache.write import CacheWriter, Sizes, gigabytes
    from fti_training.samples import read_samples

    samples = read_samples(captions)
    backbone = Backbone.load(model, device="cpu", precision=precision)
    sizes = Sizes.of(backbone)
    writer = CacheWriter(out, backbone, samples, sizes, precision, workers, gpus_per_worker)
    waiting = writer.prepare()
    whole, needed = sizes.bytes_for(len(samples)), sizes.bytes_for(waiting)
    click.echo(f"{len(samples):,} samples, {gigabytes(whole)}; {gigabytes(needed)} to write")
    with (
        quiet_ray(ray_address),
        step_progress() as progress,
        RejectsFile(out / "rejects.jsonl") as rejected,
    ):
        done = len(samples) - waiting
        task = progress.add_task("samples", total=len(samples), completed=done)
        for reject in writer.run(lambda count: progress.update(task, advance=count)):
            rejected.add(reject)
        count = rejected.count
    without = (
        f", {samples.without_split:,} captions without a split" if samples.without_split else ""
    )
    click.echo(f"cache: {out}, {len(samples) - count:,} samples; {count:,} unreadable{without}")
    if count:
        click.echo(f"unreadable pictures are listed in {out / 'rejects.jsonl'}")
