"""Captioned drawings, ``fti-train fit`` in this process and in others, and its workers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from fti_qdrant.benchmarks.emoji.artwork import draw, drawings, file_name
from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_training.cli.main import main
from tests.commands import StartedCommand, start_command

QUICK = {
    "batch": 16,
    "steps": 16,
    "validate_on": "none",
    "log_every": 1,
    "checkpoint_every": 4,
    "dropout": 0.1,
    "lr": 1e-3,
    "warmup_steps": 4,
}


def write_samples(folder: Path, count: int) -> Path:
    """Drawings with captions; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    files = drawings("twemoji")
    known = [emoji for emoji in all_emoji() if emoji.key in files]
    chosen = [emoji for emoji in known if emoji.attributes and emoji.subject][:count]
    rows = []
    for emoji in chosen:
        path = folder / file_name(emoji.key)
        path.write_bytes(draw(files[emoji.key], 64))
        rows.append({"uri": str(path), **caption_of(emoji.subject, " ".join(emoji.attributes))})
    table = folder / "captions.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    return table


def caption_of(subject: str, attribute: str) -> dict[str, str]:
    return {"caption": f"{subject} {attribute}", "subject": subject, "attribute": attribute}


def fit_line(*arguments: object, **settings: object) -> list[str]:
    """Arguments of ``fti-train`` with quick settings."""
    flags = [f"--set={name}={value}" for name, value in {**QUICK, **settings}.items()]
    return ["fit", *map(str, arguments), *flags]


def train(*arguments: object) -> Result:
    """``fti-train`` in this process."""
    with without_ray_address():
        return CliRunner().invoke(main, [*map(str, arguments)])


@contextmanager
def without_ray_address() -> Iterator[None]:
    address = os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        if address is not None:
            os.environ["RAY_ADDRESS"] = address


def fitted(*arguments: object, **settings: object) -> Result:
    """``fti-train fit`` in this process, to its end."""
    result = train(*fit_line(*arguments, **settings))
    assert result.exit_code == 0, result.output
    return result


def start(line: list[str], environment: Mapping[str, str] | None = None) -> StartedCommand:
    """``fti-train`` in a process of its own, with one thread as this one has."""
    full = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return start_command("fti_training.cli", *line, environment=full)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Of the newest inverter of a run."""
    return load_file(out / "inverter" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, to the last bit."""
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def write_triplets(path: Path, pictures: list[Path]) -> Path:
    """Each picture becomes the next one by a text of its own."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["reference", "text", "target"])
        for number, (one, other) in enumerate(pairwise(pictures)):
            rows.writerow([one.name, f"as number {number}", other.name])
    return path


def rows_of(log: Path) -> list[dict[str, float]]:
    """A CSV log; the last line may be half-written while the run goes on."""
    if not log.exists():
        return []
    with log.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [{name: float(value) for name, value in row.items()} for row in rows]


def training_workers(token: str) -> list[int]:
    """Processes of Ray Train's workers in the cluster that was started with this token."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes()
            if b"RayTrainWorker" in title and token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found
