"""Options that choose a model, the same for every command."""

from __future__ import annotations

import click

from fti_qdrant.images.recipes import RECIPES

MODEL_NAMES = (
    "mini; ARCH/PRETRAINED or hf-hub:ORG/REPO of open_clip; hf:ORG/REPO, a CLIP of transformers; "
    "or a folder that holds one of these."
)

backend_option = click.option(
    "--backend",
    type=click.Choice(["torch", "openvino"]),
    default="torch",
    show_default=True,
    help="What runs the model; openvino is faster on a CPU, and needs fti-qdrant[openvino].",
)

preprocess_option = click.option(
    "--preprocess",
    type=click.Choice(list(RECIPES)),
    help="How pictures become squares, for vectors made in another way than by default: "
    + "; ".join(f"{name}, {what}" for name, what in RECIPES.items())
    + ".  [default: the gallery's, else squash for models made for it, center-crop for hf: "
    "models, target-pad for all others]",
)
