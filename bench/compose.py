"""How fast a query is composed, against the plain implementation; and the import of the package.

    python -m bench.compose

Ratios, measured side by side in one run: each repetition times every contestant once, the medians
are divided. ViT-B/32 with random weights, batch 1, one JPEG read from disk.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # also as a file: `python bench/compose.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
import open_clip
import torch
from rich.console import Console
from rich.table import Table

from bench import plain
from bench.photographs import write_jpeg
from bench.verdict import verdict
from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter

TEXT = "in red, with long sleeves"
IMPORT = "import time; t = time.perf_counter(); import fti_qdrant; print(time.perf_counter() - t)"

Contestants = dict[str, Callable[[], object]]


def composer_of(precision: str) -> Composer:
    """A ViT-B/32 and an inverter with the same random weights at every call."""
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    backbone = Backbone(model, open_clip.get_tokenizer("ViT-B-32"), "ViT-B-32/random", precision)
    return Composer(backbone, Inverter.for_backbone(backbone))


def stored_words(composer: Composer, path: Path) -> References:
    """What a gallery with pseudo-words hands to the composer."""
    features = composer.backbone.image_features([open_image(path).image])
    return composer.references(features, (1,))


def contestants(path: Path) -> Contestants:
    """Each a function that composes one query."""
    full, half = composer_of("fp32"), composer_of("bf16")
    stored, stored_half = stored_words(full, path), stored_words(half, path)

    def plainly() -> torch.Tensor:
        assert full.inverter is not None
        return plain.compose(full.backbone, full.inverter, [open_image(path).image], TEXT)

    def ours() -> torch.Tensor:
        return full.compose([open_image(path).image], [TEXT])[0]

    gap = float((plainly() - ours()).abs().max())
    assert gap < 1e-5, f"the two do not compute the same vector: they differ by {gap}"
    return {
        "plain": plainly,
        "image": ours,
        "stored": lambda: full.compose_references(stored, [TEXT]),
        "stored bf16": lambda: half.compose_references(stored_half, [TEXT]),
    }


def medians(functions: Contestants, repeats: int) -> dict[str, float]:
    """Median seconds of each; the repetitions are interleaved, after one to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(repeats + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if repetition:
                taken[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in taken.items()}


def import_seconds(repeats: int) -> float:
    """Median over fresh interpreters, after one that fills the caches."""
    command = [sys.executable, "-c", IMPORT]
    taken = [
        float(subprocess.run(command, capture_output=True, check=True).stdout)
        for _ in range(repeats + 1)
    ]
    return median(taken[1:])


def times(seconds: dict[str, float], name: str) -> tuple[str, str]:
    return f"{1000 * seconds[name]:.1f}", f"{1000 * seconds['plain']:.1f}"


def table_of(seconds: dict[str, float], importing: float) -> Table:
    table = Table("work", "at least", "aim", "measured", "met", "ms", "plain ms")
    rows = (
        ("query from an image", "image", 1.6, 2.5),
        ("query from stored pseudo-words", "stored", 9.0, 15.0),
    )
    for label, name, bar, aim in rows:
        ratio = seconds["plain"] / seconds[name]
        bars = (f"{bar:g}x", f"{aim:g}x", f"{ratio:.2f}x", verdict(ratio >= bar))
        table.add_row(label, *bars, *times(seconds, name))
    half = f"{seconds['plain'] / seconds['stored bf16']:.2f}x"  # its gain is the CPU's affair
    table.add_row("the same in bf16", "", "", half, "", *times(seconds, "stored bf16"))
    import_row = ("1 s", "0.3 s", f"{importing:.3f} s", verdict(importing <= 1))
    table.add_row("import fti_qdrant", *import_row, f"{1000 * importing:.1f}")
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--repeats", default=15, show_default=True, type=click.IntRange(min=1))
def main(repeats: int) -> None:
    """Prints the ratios of composed queries, ours against the plain implementation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        write_jpeg(path, (640, 480), np.random.default_rng(0))
        seconds = medians(contestants(path), repeats)
    table = table_of(seconds, import_seconds(min(repeats, 7)))
    table.title = (
        f"ViT-B/32, batch 1, CPU, {torch.get_num_threads()} threads, {repeats} repetitions"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
