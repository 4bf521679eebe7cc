"""Start time of the commands against ``python -c "import open_clip"``, side by side.

python bench/start.py                 five rounds, some minutes
python bench/start.py --rounds 3
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/start.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.photographs import write_jpeg
from bench.verdict import verdict

IMAGES, SIZE = 10, (640, 480)
BAR, AIM = 1.7, 1.3
"""Of the first ingest: at most this many times the baseline."""

BASELINE, FIRST_INGEST = 'python -c "import open_clip"', "fti-ingest of ten images, new gallery"
INGEST, SEARCH = ["-m", "fti_ingest.cli"], ["-m", "fti_qdrant.cli.search"]


@dataclass(frozen=True)
class Measurement:
    """A command, by the arguments of a Python interpreter.

    Attributes:
        name: as the table shows it.
    """

    name: str
    arguments: list[str]


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each command."
)
def main(rounds: int) -> None:
    """Print the median seconds of each command, and the ratio to importing open_clip.

    The commands take turns in each round, so that a busy machine slows all of them. One more round
    at the start, which is not counted, fills the caches of the disk.
    """
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "images")
        for number in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
            for one in measurements(Path(folder)):
                took = run(one)
                if number:
                    seconds.setdefault(one.name, []).append(took)
    show({name: statistics.median(values) for name, values in seconds.items()}, rounds)


def draw(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        write_jpeg(folder / f"{number}.jpg", SIZE, rng)


def measurements(folder: Path) -> Iterator[Measurement]:
    """The commands in order; the first ingest makes the gallery that the others use."""
    images, gallery = str(folder / "images"), folder / "gallery"
    shutil.rmtree(gallery, ignore_errors=True)
    ingest = [*INGEST, images, "--gallery", str(gallery), "--model", "mini"]
    yield Measurement(BASELINE, ["-c", "import open_clip"])
    yield Measurement("import fti_qdrant", ["-c", "import fti_qdrant"])
    yield Measurement(FIRST_INGEST, ingest)
    yield Measurement("fti-ingest again, nothing to do", ingest)
    search = [*SEARCH, "--gallery", str(gallery), "--text", "a red heart"]
    yield Measurement("fti-search with a text", search)
    yield Measurement("fti-ingest status", [*INGEST, "status", "--gallery", str(gallery)])
    yield Measurement("fti-ingest --help", [*INGEST, "--help"])


def run(one: Measurement) -> float:
    """Seconds from start to end of the process."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *one.arguments], capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{one.name} failed: {done.stderr}")
    return took


def show(medians: dict[str, float], rounds: int) -> None:
    baseline = medians[BASELINE]
    title = f"Start time, median of {rounds} interleaved rounds"
    table = Table("", "seconds", "ratio", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.2f}", f"{seconds / baseline:.2f}x")
    Console(highlight=False).print(table)
    ratio = medians[FIRST_INGEST] / baseline
    Console(highlight=False).print(
        f"first ingest: {ratio:.2f}x; bar {BAR}x: {verdict(ratio <= BAR)}, "
        f"aim {AIM}x: {verdict(ratio <= AIM)}"
    )


if __name__ == "__main__":
    main()
