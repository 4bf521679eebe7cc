"""How fast a query is composed, against the plain implementation; and the import of the package.

    python -m bench.compose

Ratios, measured side by side in one run: each repetition times every contestant once, the medians
are divided. ViT-B/32 with random weights, batch 1, one JPEG read from disk. The plain
implementation computes in fp32, as published code does.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
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
from fti_qdrant.model.cpu import has_bf16
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.openvino_backend import Backend, use_openvino

TEXT = "in red, with long sleeves"
IMPORT = "import time; t = time.perf_counter(); import fti_qdrant; print(time.perf_counter() - t)"

Contestants = dict[str, Callable[[], object]]


def composer_of(precision: str, backend: Backend = "torch") -> Composer:
    """A ViT-B/32 and an inverter with the same random weights at every call."""
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    backbone = Backbone(model, tokenizer, "ViT-B-32/random")
    inverter = Inverter.for_backbone(backbone)
    if backend == "openvino":
        use_openvino(backbone, precision)
    else:
        backbone.convert(precision)
    return Composer(backbone, inverter)


def stored_words(composer: Composer, path: Path) -> References:
    """What a gallery with pseudo-words hands to the composer."""
    return composer.image_references([open_image(path).image])


KINDS: dict[str, tuple[str, Backend]] = {
    "fp32": ("fp32", "torch"),
    "bf16": ("bf16", "torch"),
    "OpenVINO fp32": ("fp32", "openvino"),
    "OpenVINO bf16": ("bf16", "openvino"),
}
"""Ways to compute."""


def contestants(path: Path) -> Contestants:
    """Each a function that composes one query; OpenVINO where it is installed."""
    exact = composer_of("fp32")
    assert exact.inverter is not None
    inverter = exact.inverter

    def plainly() -> torch.Tensor:
        return plain.compose(exact.backbone, inverter, [open_image(path).image], TEXT)

    found: Contestants = {"plain": plainly}
    expected = plainly()
    for kind, (precision, backend) in KINDS.items():
        if backend == "openvino" and find_spec("openvino") is None:
            continue
        composer = composer_of(precision, backend)
        found |= queries_of(kind, composer, path)
        cosine = float(expected @ composer.compose([open_image(path).image], [TEXT], "fti")[0])
        least = 1 - 1e-6 if precision == "fp32" else 0.999
        assert cosine > least, f"{kind} does not compute the same vector: cosine {cosine}"
    return found


def queries_of(kind: str, composer: Composer, path: Path) -> Contestants:
    """A query from a picture, and one from stored pseudo-words."""
    stored = stored_words(composer, path)
    return {
        f"image {kind}": lambda: composer.compose([open_image(path).image], [TEXT], "fti"),
        f"stored {kind}": lambda: composer.compose_references(stored, [TEXT], "fti"),
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


BARS: dict[str, tuple[float, float]] = {
    "image fp32": (1.6, 2.5),
    "image bf16": (3.0, 5.0),
    "stored fp32": (9.0, 15.0),
}
"""At least, and the aim. Those of bf16 hold for CPUs that multiply it."""


def table_of(seconds: dict[str, float], importing: float) -> Table:
    table = Table("work", "at least", "aim", "measured", "met", "ms", "plain ms")
    for name in seconds:
        if name == "plain":
            continue
        ratio = seconds["plain"] / seconds[name]
        bar, aim = BARS.get(name, (0.0, 0.0))
        asked = bar and ("bf16" not in name or has_bf16())
        bars = (f"{bar:g}x", f"{aim:g}x") if asked else ("", "")
        met = verdict(ratio >= bar) if asked else ""
        work, _, kind = name.partition(" ")
        label = "query from an image" if work == "image" else "query from stored pseudo-words"
        table.add_row(f"{label}, {kind}", *bars, f"{ratio:.2f}x", met, *times(seconds, name))
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
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
