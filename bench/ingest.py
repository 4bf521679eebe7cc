"""How fast fti-ingest is, against a bare open_clip loop; and whether its memory stays flat.

    python -m bench.ingest [--count 1000] [--curve 1,2,4] [--memory]

Throughput: ViT-B/32 with random weights on the CPU. The bare loop is ``model.encode_image`` over
tensors that are decoded and preprocessed already, with the same threads and batch, timed before
and after the pipeline. Of the pipeline, ``--count`` images are timed, from the end of the first
batch, so that neither Ray's start nor the loading of the model counts; as many images as may wait
between its stages come after, so that decoding goes on all through the timed part.

Shares: what each stage took of all work, and how busy it kept what it had, as ``fti-ingest
--profile`` tells. ``--curve``: images a second by the number of model processes, on this machine.

Memory: the sum of the proportional set sizes (PSS) of the command and all its processes, the object
store among them, sampled from start to end: the peak with many tiny images over that with few.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/ingest.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
import open_clip
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from bench.photographs import write_jpeg
from bench.verdict import verdict
from fti_ingest.engine.resources import BACKLOG, EMBED_BATCH, capacity, cpus
from fti_ingest.engine.session import quiet_ray
from fti_ingest.run.outcome import StageUse, advice, stage_uses
from fti_ingest.run.pipeline import ModelChoice, Told, run
from fti_ingest.sources.read_source import read_source
from fti_qdrant.gallery import EdgeGallery, GallerySpec
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone

ARCHITECTURE = "ViT-B-32"
SAMPLE_SECONDS = 0.25


def write_model(folder: Path) -> str:
    """A ViT-B/32 with random weights where the workers can load it; returns its name."""
    torch.manual_seed(0)
    folder.mkdir()
    model = open_clip.create_model(ARCHITECTURE)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": open_clip.get_model_config(ARCHITECTURE),
        "preprocess_cfg": model.visual.preprocess_cfg,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def write_jpegs(folder: Path, count: int, size: tuple[int, int], different: int) -> None:
    """JPEGs with the detail of photographs; after so many different ones they repeat, as links."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number >= different:
            os.link(folder / f"{number % different:06d}.jpg", path)
            continue
        write_jpeg(path, size, rng)


def prepared(backbone: Backbone, folder: Path, count: int) -> torch.Tensor:
    """The first pictures, decoded, preprocessed and normalized."""
    files = sorted(folder.iterdir())[:count]
    pixels = backbone.preprocess.batch(open_image(file).image for file in files)
    return backbone.preprocess.normalize(pixels)


def bare_rate(model: torch.nn.Module, batches: torch.Tensor) -> float:
    """Images per second of open_clip alone, after a batch to warm up."""
    with torch.inference_mode():
        model.encode_image(batches[:EMBED_BATCH])
        began = time.perf_counter()
        for batch in batches.split(EMBED_BATCH):
            model.encode_image(batch)
        return len(batches) / (time.perf_counter() - began)


def pipeline_rate(
    backbone: Backbone, folder: Path, gallery: Path, count: int, workers: int = 1
) -> tuple[float, list[StageUse]]:
    """Images per second of the pipeline over ``count`` images after the first batch."""
    source = read_source(str(folder))
    times, done = [], []

    def advance(images: int) -> None:
        times.append(time.perf_counter())
        done.append(images)

    choice = ModelChoice(backbone.name, None, None, backbone.preprocess, workers)
    spec = GallerySpec(fingerprint=backbone.fingerprint)
    with EdgeGallery.create(gallery, spec) as target, quiet_ray():
        outcome = run(source, target, choice, told=Told(advance=advance))
        uses = stage_uses(outcome, capacity(workers, 1))
    assert outcome.stored == len(source), outcome.line()
    after = np.cumsum(done)
    last = int(np.searchsorted(after, after[0] + count))
    return float((after[last] - after[0]) / (times[last] - times[0])), uses


def command_of(folder: Path, gallery: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "fti_ingest.cli", str(folder)]
    return [*command, "--gallery", str(gallery), *options]


def shares(uses: list[StageUse]) -> Table:
    table = Table("stage", "share of the work", "busy", title="stages of that run")
    for use in uses:
        table.add_row(use.stage, f"{use.share:.1%}", f"{use.busy:.0%}")
    table.caption = advice(uses)
    return table


def curve(workers: list[int], count: int, root: Path) -> Table:
    """Images a second over the number of model processes, in one run."""
    extra = (BACKLOG * max(workers) + 1) * EMBED_BATCH
    name = write_model(root / "model")
    write_jpegs(root / "photos", count + extra, (640, 480), count)
    backbone = Backbone.load(name, device="cpu")
    table = Table("workers", "images/s", "against one")
    table.title = f"fti-ingest, {ARCHITECTURE}, {count:,} JPEGs, {cpus()} cores"
    first = 0.0
    for number in workers:
        rate, _ = pipeline_rate(
            backbone, root / "photos", root / f"gallery-{number}", count, number
        )
        first = first or rate
        table.add_row(str(number), f"{rate:.1f}", f"{rate / first:.2f}x")
    return table


def throughput(count: int, root: Path) -> list[Table]:
    extra = (BACKLOG + 1) * EMBED_BATCH
    name = write_model(root / "model")
    write_jpegs(root / "photos", count + extra, (640, 480), count)
    model = open_clip.create_model(name, require_pretrained=True).eval()
    backbone = Backbone.load(name, device="cpu")
    batches = prepared(backbone, root / "photos", count)
    before = bare_rate(model, batches)
    ours, uses = pipeline_rate(backbone, root / "photos", root / "gallery", count)
    bare = (before + bare_rate(model, batches)) / 2
    began = time.perf_counter()
    subprocess.run(
        command_of(root / "photos", root / "again", "--model", name),
        check=True,
        capture_output=True,
    )
    whole = time.perf_counter() - began
    table = Table("work", "at least", "aim", "measured", "met", "images/s", "bare images/s")
    table.title = (
        f"fti-ingest, {ARCHITECTURE}, {count:,} JPEGs of 640 x 480, batch {EMBED_BATCH}, CPU, "
        f"{torch.get_num_threads()} threads"
    )
    ratio = ours / bare
    table.add_row(
        "ingest", "0.8", "0.95", f"{ratio:.3f}", verdict(ratio >= 0.8), f"{ours:.1f}", f"{bare:.1f}"
    )
    table.caption = (
        f"the whole command, Ray's start and the loading of the model among it: {whole:.1f} s for "
        f"{count + extra:,} images"
    )
    return [table, shares(uses)]


def processes_below(pid: int) -> list[int]:
    """A process and all that stem from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended since
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_of(pids: list[int]) -> int:
    """Bytes, each shared page shared out among those that share it."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def peak_memory(folder: Path, gallery: Path) -> int:
    process = subprocess.Popen(
        command_of(folder, gallery), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of(processes_below(process.pid)))
        time.sleep(SAMPLE_SECONDS)
    assert process.returncode == 0, f"fti-ingest ended with {process.returncode}"
    return peak


def memory(few: int, many: int, root: Path) -> Table:
    write_jpegs(root / "few", few, (64, 64), 100)
    write_jpegs(root / "many", many, (64, 64), 100)
    small = peak_memory(root / "few", root / "gallery-few")
    large = peak_memory(root / "many", root / "gallery-many")
    table = Table(
        "work", "at most", "aim", "measured", "met", f"{few:,} images", f"{many:,} images"
    )
    table.title = "peak memory of fti-ingest, model mini, images of 64 x 64"
    ratio = large / small
    sizes = (f"{small / 1e6:,.0f} MB", f"{large / 1e6:,.0f} MB")
    table.add_row("ingest", "1.3x", "1.1x", f"{ratio:.2f}x", verdict(ratio <= 1.3), *sizes)
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=1000, show_default=True, type=click.IntRange(min=EMBED_BATCH))
@click.option("--curve", "workers", help="Numbers of workers, 1,2,4: measure these instead.")
@click.option("--memory", "only_memory", is_flag=True, help="Measure peak memory instead.")
@click.option("--few", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--many", default=20_000, show_default=True, type=click.IntRange(min=1))
def main(count: int, workers: str | None, only_memory: bool, few: int, many: int) -> None:
    """Prints what fti-ingest reaches, beside its bars."""
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # as the pipeline's model has
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if only_memory:
            tables = [memory(few, many, root)]
        elif workers:
            tables = [curve([int(one) for one in workers.split(",")], count, root)]
        else:
            tables = throughput(count, root)
    for table in tables:
        Console().print(table)


if __name__ == "__main__":
    main()
