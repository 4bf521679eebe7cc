"""``fti-train fit``: trains an inverter on captioned pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fti_ingest.engine.choose import EngineChoice
from fti_ingest.engine.protocol import EngineName
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.logging_options import is_quiet
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import engine_option, ray_address_option

EPILOG = """\b
Examples:
  fti-train fit --captions captions.parquet --model ViT-L-14-quickgelu/openai --out runs/first
  fti-train fit --cache features --model ViT-L-14-quickgelu/openai --out runs/first
  fti-train fit settings.yaml --captions captions.parquet --out runs/first --resume
  fti-train fit --captions captions.parquet --out s --workers 8 --gpus-per-worker 1 \\
      --ray-address auto --storage s3://bucket/first
  fti-train fit --captions captions.parquet --out runs/first --validate cirr:data/cirr \\
      --best-by cirr_R@5 --stop-after 3
  fti-train fit --captions captions.parquet --out runs/first --validate captions:0.05
  fti-train fit --captions captions.parquet --out runs/second --triplets clicks.csv
  fti-train fit --print-config > settings.yaml

\b
OUT/inverter is the trained inverter, OUT/best the one with the best validation figure
(--best-by). Beside them are log.csv, validation.csv and, if the package tensorboard is
installed, tensorboard/.
A run that was stopped or killed continues with --resume. A finished one is extended by --resume
with more --steps or --epochs (not with schedule=cosine). Other settings that a resumed run may
change: validate_on, validate_root, validate_split, best_by, stop_after, checkpoint_every,
log_every, workers, gpus_per_worker, max_failures. One
worker trains in this process, on a GPU if there is one; several need fti-qdrant[ray].
"""


@click.command(epilog=EPILOG)
@click.argument("settings", type=click.Path(path_type=Path), required=False)
@click.option(
    "--captions", type=click.Path(path_type=Path), help="Parquet file of fti-train captions."
)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of fti-train cache.")
@click.option(
    "--triplets",
    type=click.Path(path_type=Path),
    help="CSV, JSONL or Parquet file of composed queries whose answers are known, to learn from "
    "as well: columns reference, text and target.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--storage", help="Where checkpoints are kept: a folder or an fsspec URL.  [default: OUT]"
)
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint.")
@click.option("--model", help="As fti-search models lists them.  [default: mini]")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the samples.  [default: 60]")
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="End the run before its epochs do.  [default: at the end of the epochs]",
)
@click.option(
    "--batch",
    type=click.IntRange(2),
    help="Samples of one step, of all workers together.  [default: 256]",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="Learning rate.  [default: 4e-05]",
)
@click.option(
    "--validate",
    "validate_on",
    metavar="NAME[:DIR]",
    help="What to validate on at each checkpoint: a benchmark of fti-eval with the folder of its "
    "data, such as cirr:data/cirr; captions:SHARE, such as captions:0.05, which holds out "
    "pictures; emoji; none.  [default: auto]",
)
@click.option("--validate-root", help="Folder of the benchmark's data, if not in --validate.")
@click.option("--validate-split", help="Split of the benchmark.  [default: its first]")
@click.option(
    "--best-by",
    help="Validation figure that chooses OUT/best, such as cirr_R@5 or captions_loss.  "
    "[default: the main one]",
)
@click.option(
    "--stop-after",
    type=click.IntRange(1),
    help="End the run after so many validations without a better one.  [default: never]",
)
@engine_option
@click.option("--workers", type=click.IntRange(1), help="Training processes.  [default: 1]")
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(0),
    help="GPUs for each worker on a Ray cluster.  [default: 0]",
)
@ray_address_option
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any setting; --print-config lists them.",
)
@click.option("--print-config", is_flag=True, help="Print the settings as YAML and exit.")
@one_line_errors(
    after_stop="the newest checkpoint is kept; run the same command with --resume to continue"
)
def fit(
    settings: Path | None,
    captions: Path | None,
    cache: Path | None,
    triplets: Path | None,
    out: Path | None,
    storage: str | None,
    resume: bool,
    engine: EngineName,
    ray_address: str | None,
    overrides: tuple[str, ...],
    print_config: bool,
    **flags: str | float | None,
) -> None:
    """Train an inverter with the losses of FTI4CIR, which needs no composed queries.

    With --triplets, queries whose answers are known add a loss of their own: the vector of a
    picture and a text must find the answer among the pictures of the step.

    SETTINGS is a YAML file; flags and --set take precedence over it. The progress bar shows the
    loss with its parts (contrastive, orthogonality, tri-wise), the mean number of attribute
    tokens r, and images per second.
    """
    import yaml

    from fti_training.fit.config import FitConfig
    from fti_training.settings import parse_overrides, parse_settings, read_yaml

    given: dict[str, Any] = read_yaml(settings) if settings else {}
    given |= {name: value for name, value in flags.items() if value is not None}
    config = parse_settings(FitConfig, given | parse_overrides(overrides))
    if print_config:
        as_yaml = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        print_lines(*as_yaml.splitlines())
        return
    if out is None:
        raise click.UsageError("pass --out DIR")
    if (captions is None) == (cache is None):
        raise click.UsageError("pass either --captions FILE or --cache DIR")
    if triplets is None and config.triplet_weight is not None:
        raise click.UsageError(f"triplet_weight={config.triplet_weight:g} needs --triplets FILE")
    if triplets is not None and config.triplet_weight is None:
        config = parse_settings(FitConfig, {**config.model_dump(), "triplet_weight": 1})
    address = ray_address if engine != "local" else None
    choice = EngineChoice(engine, config.workers, config.gpus_per_worker, address)
    choice.check()
    from fti_training.fit.run import FitRun
    from fti_training.fit.validate import validation_line, with_validation
    from fti_training.loop.checkpoint_storage import CheckpointStorage
    from fti_training.loop.recorder import REJECTS
    from fti_training.loop.records import STEPS
    from fti_training.samples import read_samples
    from fti_training.triplet_table import read_triplets

    data = read_samples(captions) if captions else cache
    assert data is not None
    config = with_validation(config)
    kept_at = CheckpointStorage.at(storage or str(out))
    made = read_triplets(triplets) if triplets else None
    run = FitRun(config, data, out, kept_at, choice, made, resume)
    if (line := validation_line(config)) and not is_quiet():
        print_lines(line)
    inverter = run.run()
    print_lines(f"{run.summary()}; the log is {out / STEPS}")
    if run.skipped_triplets:
        count = run.skipped_triplets
        print_lines(f"{count} triplets were left out, as a picture of theirs could not be read")
    if run.skipped:
        print_lines(f"{len(run.skipped)} pictures could not be read; listed in {out / REJECTS}")
    print_lines(f"inverter: {inverter}, load it with Composer.load({config.model!r}, '{inverter}')")
