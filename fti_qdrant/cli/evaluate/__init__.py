"""``fti-eval``: benchmarks measured against a gallery in Qdrant."""

from __future__ import annotations

import click

from fti_qdrant.cli.evaluate.calibrate import calibrate_command
from fti_qdrant.cli.evaluate.compare import compare_command
from fti_qdrant.cli.evaluate.doctor import doctor
from fti_qdrant.cli.evaluate.run import run_command
from fti_qdrant.cli.evaluate.score import score
from fti_qdrant.cli.program_options import program_options

EPILOG = """\b
Examples:
  fti-eval run emoji
  fti-eval doctor cirr --root data/cirr
  fti-eval run cirr --root data/cirr --model ViT-L-14-quickgelu/openai \\
      --inverter runs/first/inverter
  fti-eval score circo --annotations data/circo --split val --predictions lists.json
  fti-eval compare eval/a/metrics.json eval/b/metrics.json
  fti-eval calibrate --pairs clicks.jsonl --gallery shop
"""


@click.group(epilog=EPILOG)
@program_options("fti-eval")
def main() -> None:
    """Measure composed search on benchmarks, by their official protocols.

    FashionIQ, CIRR, CIRCO, i-CIR (icir), GeneCIS, PinPoint, emoji, and those of your own packages.
    """


for command in (doctor, run_command, score, compare_command, calibrate_command):
    main.add_command(command)
