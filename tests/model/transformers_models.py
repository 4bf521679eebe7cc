"""Small random CLIPs of transformers, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import bytes_to_unicode
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

LETTERS = list(bytes_to_unicode().values())
MERGES = [("r", "e"), ("re", "d</w>"), ("d", "r"), ("dr", "e"), ("dre", "s"), ("dres", "s</w>")]
PIECES = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *("".join(two) for two in MERGES)]
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = {piece: number for number, piece in enumerate([*PIECES, START, END])}

TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
    "eos_token_id": VOCABULARY[END],
    "bos_token_id": VOCABULARY[START],
}
VISION = {
    "hidden_size": 40,
    "intermediate_size": 90,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def save_clip(folder: Path, *, text: Any = None, vision: Any = None, **options: Any) -> CLIPModel:
    """A random model with its tokenizer and processor; ``options`` are of ``save_pretrained``."""
    torch.manual_seed(5)
    both = {"text_config": {**TEXT, **(text or {})}, "vision_config": {**VISION, **(vision or {})}}
    projection = options.pop("projection_dim", 28)
    model = CLIPModel(CLIPConfig(**both, projection_dim=projection)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    processor(both["vision_config"]["image_size"]).save_pretrained(folder)
    return model


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=VOCABULARY, merges=MERGES, model_max_length=TEXT_LENGTH)


TEXT_LENGTH = int(TEXT["max_position_embeddings"])


def processor(size: int, **options: Any) -> CLIPImageProcessorPil:
    crop = {"height": size, "width": size}
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=crop, **options)


def save_byte_pairs(folder: Path) -> None:
    """vocab.json and merges.txt, as old checkpoints have, in place of tokenizer.json."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    lines = ["#version: 0.2", *(" ".join(two) for two in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
