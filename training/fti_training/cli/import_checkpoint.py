"""``fti-train import``."""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.user_text import print_lines

EPILOG = """\b
Examples:
  fti-train import FTI4CIR_model.pth --backbone ViT-L-14-quickgelu/openai --out inverters/fti4cir
  fti-train import state.pth --backbone ViT-L-14-quickgelu/openai --topk 8 --out inverters/top8

The file is never unpickled freely: it may name the authors' six classes, classes of
torch.nn.modules and tensors, and none of their code is run. A file that names anything else is
refused. Weights that were saved on a graphics card need none here.
"""


@click.command("import", epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--backbone", required=True, help="Name of the backbone that it was trained with.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the inverter; must be new or empty.",
)
@click.option(
    "--topk",
    type=click.IntRange(min=1),
    help="Most attribute tokens, if the checkpoint does not state it.  [state dicts: 12]",
)
@click.option(
    "--epsilon",
    type=click.FloatRange(0, 1),
    help="Least relevance of an attribute, likewise.  [state dicts: 0.05]",
)
@click.option("--force", is_flag=True, help="Replace the inverter in OUT.")
@one_line_errors
def import_checkpoint(
    checkpoint: Path,
    backbone: str,
    out: Path,
    topk: int | None,
    epsilon: float | None,
    force: bool,
) -> None:
    """Convert the published checkpoint of FTI4CIR, a pickle, to safetensors and JSON.

    CHECKPOINT is the pickled network or a state dict with the same names. The weights of the
    backbone are not needed.
    """
    from fti_training.importer.import_inverter import import_inverter

    inverter = import_inverter(checkpoint, backbone, out, topk=topk, epsilon=epsilon, force=force)
    print_lines(
        f"{inverter.queries.shape[1]} latent attributes, {len(inverter.blocks)} layers, "
        f"topk {inverter.topk}, epsilon {inverter.epsilon}, for a backbone of "
        f"(w, d, t) = {inverter.sizes}"
    )
    print_lines(f"inverter: {out}, load it with Composer.load({backbone!r}, {str(out)!r})")
