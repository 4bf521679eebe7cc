"""A small BLIP of random weights, saved as real ones are, and ``fti-train captions``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from click.testing import CliRunner
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from fti_training.cli.captions import captions
from tests.commands import StartedCommand, start_command
from tests.training.fit.runs import without_ray_address

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *SPECIAL,
    *("a", "the", "two", "dog", "cat", "man", "woman", "car", "red", "small", "wooden", "on", "in"),
    *("with", "standing", "sitting", "running", "table", "beach", "street", "and"),
]
SIDE = 32


def save_tiny_blip(folder: Path) -> Path:
    """Its captions differ from picture to picture; they are made of ``WORDS``."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 32,
    }
    text = {
        "vocab_size": len(WORDS) + 2,  # the start token is not in the tokenizer, as in BLIP's own
        "bos_token_id": len(WORDS),
        "pad_token_id": 0,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "encoder_hidden_size": 32,
        "max_position_embeddings": 64,
        "is_decoder": True,
    }
    config = BlipConfig(
        text_config={**sizes, **text},
        vision_config={**sizes, "image_size": SIDE, "patch_size": 16},
        projection_dim=32,
        image_text_hidden_size=32,
    )
    torch.manual_seed(3)
    model = BlipForConditionalGeneration(config)
    with torch.no_grad():  # so large that a picture decides what is written of it
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(std=0.3)
    model.save_pretrained(folder)
    processor = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    BlipProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Run:
    """One run of ``fti-train captions``."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The final line, without the rate, which differs from run to run."""
        return self.out.splitlines()[0].partition(";")[0] if self.out else ""

    @property
    def error(self) -> str:
        """The one line that a failure prints; asserts that it is one, and no traceback."""
        lines = [line for line in self.err.splitlines() if not line.startswith("images ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: "), self.err
        return lines[0]


def run_captions(*arguments: object) -> Run:
    """Runs the command in this process."""
    with without_ray_address():
        result = CliRunner().invoke(captions, [*map(str, arguments)])
    return Run(result.exit_code, result.stdout, result.stderr)


def start_captions(*arguments: object, **environment: str) -> StartedCommand:
    """Starts the command in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env = {**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    return start_command("fti_training.cli", "captions", *arguments, environment=env)
