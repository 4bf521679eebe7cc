"""The recipes by which a picture becomes the square that a model sees. Importable at no cost."""

from __future__ import annotations

from typing import Literal

Recipe = Literal["target-pad", "center-crop", "squash"]

RECIPES: dict[Recipe, str] = {
    "target-pad": "black bars for pictures longer than 5:4, then the middle (FTI4CIR)",
    "center-crop": "the middle of the picture (CLIP)",
    "squash": "the whole picture, its sides scaled to the same length (SigLIP)",
}
"""Name -> what the model sees."""
