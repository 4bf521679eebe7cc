"""How fast fti-ingest is on both engines, against a bare open_clip loop; and its peak memory.

    python bench/ingest.py [--count 1000] [--display-p3] [--precision bf16]
    python bench/ingest.py --curve 1,2,4
    python bench/ingest.py --memory

Throughput: ViT-B/32 with random weights on the CPU. The bare loop is ``model.encode_image`` over
tensors that are already decoded and preprocessed, with the same threads and batch, timed before and
after each pipeline. Of the pipeline, ``--count`` images are timed from the end of the first full
batch, so neither the start of Ray nor the loading of the model counts. As many images as may wait
between the stages follow, so decoding goes on during all of the timed part.

``--display-p3``: the JPEGs have an embedded color profile, so their colors are converted to sRGB.

Shares: the part of the work that each stage did, and how busy it was, as ``--profile`` shows.
``--curve``: images per second by number of workers, on this machine.

Memory: the sum of the proportional set sizes (PSS) of the command and all its processes, including
Ray's object store, sampled from start to end: the peak with many tiny images over that with few.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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

from bench import profiles
from bench.photographs import write_jpeg
from bench.verdict import verdict
from fti_ingest.engine.choose import EngineChoice
from fti_ingest.engine.protocol import EngineName
from fti_ingest.engine.resources import BACKLOG
from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.run.outcome import StageUse, advice
from fti_ingest.run.pipeline import EMBED_ROWS, Callbacks
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.cpu import usable_cpus

ARCHITECTURE = "ViT-B-32"
SAMPLE_SECONDS = 0.25
ENGINES: tuple[EngineName, ...] = ("local", "ray")
BAR, AIM = 0.95, 1.0
MEMORY_BAR, MEMORY_AIM = 1.3, 1.1


def write_model(folder: Path) -> str:
    """Saves a ViT-B/32 with random weights that workers can load; returns its name."""
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


def write_jpegs(
    folder: Path,
    count: int,
    size: tuple[int, int],
    different: int,
    profile: bytes | None = None,
) -> None:
    """JPEGs with the detail of photographs, of which so many are different and the rest links."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number >= different:
            os.link(folder / f"{number % different:06d}.jpg", path)
            continue
        write_jpeg(path, size, rng, profile)


def prepared(backbone: Backbone, folder: Path, count: int) -> torch.Tensor:
    """The first images, decoded, preprocessed and normalized."""
    files = sorted(folder.iterdir())[:count]
    pixels = backbone.preprocess.batch(open_image(file).image for file in files)
    return backbone.preprocess.normalize(pixels)


def bare_rate(model: torch.nn.Module, batches: torch.Tensor) -> float:
    """Images per second of open_clip alone, after a batch to warm up."""
    batches = batches.to(model.visual.conv1.weight.dtype)
    with torch.inference_mode():
        model.encode_image(batches[:EMBED_ROWS])
        began = time.perf_counter()
        for batch in batches.split(EMBED_ROWS):
            model.encode_image(batch)
        return len(batches) / (time.perf_counter() - began)


def pipeline_rate(
    name: str,
    folder: Path,
    gallery: Path,
    count: int,
    engine: EngineChoice,
    device: str = "cpu",
    precision: str | None = None,
) -> tuple[float, list[StageUse]]:
    """Images per second of the pipeline over ``count`` images after the first full batch."""
    times, done = [], []

    def advance(images: int) -> None:
        times.append(time.perf_counter())
        done.append(images)

    job = IngestJob(
        str(folder),
        EmbeddedLocation(gallery),
        ModelChoice(name, device=device, precision=precision),
        engine=engine,
    )
    report = ingest(job, Callbacks(advance=advance))
    assert report.stored == report.images, report.line()
    after = np.cumsum(done)
    first = int(np.searchsorted(after, EMBED_ROWS))
    last = int(np.searchsorted(after, after[first] + count))
    return float((after[last] - after[first]) / (times[last] - times[first])), report.stages


def shares(engine: str, uses: list[StageUse]) -> Table:
    table = Table("stage", "share of the work", "busy", title=f"stages, engine {engine}")
    for use in uses:
        table.add_row(use.stage, f"{use.share:.1%}", f"{use.busy:.0%}")
    table.caption = advice(uses)
    return table


def curve(workers: list[int], count: int, root: Path) -> Table:
    """Images per second by the number of workers: one runs locally, several on Ray."""
    extra = (BACKLOG * max(workers) + 2) * EMBED_ROWS
    name = write_model(root / "model")
    write_jpegs(root / "photos", count + extra, (640, 480), count)
    table = Table("workers", "engine", "images/s", "against the first")
    table.title = f"fti-ingest, {ARCHITECTURE}, {count:,} JPEGs, {usable_cpus()} cores"
    first = 0.0
    for number in workers:
        choice = EngineChoice(workers=number)
        gallery = root / f"gallery-{number}"
        rate, _ = pipeline_rate(name, root / "photos", gallery, count, choice)
        first = first or rate
        table.add_row(str(number), choice.resolved, f"{rate:.1f}", f"{rate / first:.2f}x")
    return table


def throughput(
    engines: Sequence[EngineName], count: int, precision: str, root: Path, profile: bytes | None
) -> list[Table]:
    extra = (BACKLOG + 2) * EMBED_ROWS
    name = write_model(root / "model")
    write_jpegs(root / "photos", count + extra, (640, 480), count, profile)
    model = open_clip.create_model(name, precision=precision, require_pretrained=True).eval()
    batches = prepared(Backbone.load(name, device="cpu"), root / "photos", count)
    table = Table("engine", "at least", "aim", "measured", "met", "images/s", "bare images/s")
    table.title = (
        f"fti-ingest, {ARCHITECTURE}, {count:,} JPEGs of 640 x 480"
        f"{' in Display P3' if profile else ''}, batch {EMBED_ROWS}, {precision}, CPU, "
        f"{torch.get_num_threads()} threads"
    )
    details = []
    for engine in engines:
        before = bare_rate(model, batches)
        choice = EngineChoice(engine)
        ours, uses = pipeline_rate(
            name, root / "photos", root / engine, count, choice, precision=precision
        )
        bare = (before + bare_rate(model, batches)) / 2
        ratio = ours / bare
        met = verdict(ratio >= BAR)
        table.add_row(engine, f"{BAR}", f"{AIM}", f"{ratio:.3f}", met, f"{ours:.1f}", f"{bare:.1f}")
        details.append(shares(engine, uses))
    return [table, *details]


def processes_below(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended in the meantime
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_of(pids: list[int]) -> int:
    """Bytes; a page that n processes share counts as 1/n for each."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def peak_memory(folder: Path, gallery: Path, engine: EngineName) -> int:
    command = [sys.executable, "-m", "fti_ingest.cli", str(folder), "--gallery", str(gallery)]
    process = subprocess.Popen(
        [*command, "--model", "mini", "--engine", engine],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of(processes_below(process.pid)))
        time.sleep(SAMPLE_SECONDS)
    assert process.returncode == 0, f"fti-ingest ended with {process.returncode}"
    return peak


def memory(engines: Sequence[EngineName], few: int, many: int, root: Path) -> Table:
    write_jpegs(root / "few", few, (64, 64), 100)
    write_jpegs(root / "many", many, (64, 64), 100)
    table = Table(
        "engine", "at most", "aim", "measured", "met", f"{few:,} images", f"{many:,} images"
    )
    table.title = "peak memory of fti-ingest, model mini, images of 64 x 64"
    for engine in engines:
        small = peak_memory(root / "few", root / f"few-{engine}", engine)
        large = peak_memory(root / "many", root / f"many-{engine}", engine)
        ratio = large / small
        sizes = (f"{small / 1e6:,.0f} MB", f"{large / 1e6:,.0f} MB")
        met = verdict(ratio <= MEMORY_BAR)
        table.add_row(engine, f"{MEMORY_BAR}x", f"{MEMORY_AIM}x", f"{ratio:.2f}x", met, *sizes)
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=1000, show_default=True, type=click.IntRange(min=EMBED_ROWS))
@click.option("--display-p3", is_flag=True, help="JPEGs with an embedded color profile.")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    type=click.Choice(("fp32", "bf16")),
    help="Of the pipeline and of the bare loop.",
)
@click.option("--curve", "workers", help="Numbers of workers, 1,2,4: measure these instead.")
@click.option("--memory", "only_memory", is_flag=True, help="Measure peak memory instead.")
@click.option("--few", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--many", default=20_000, show_default=True, type=click.IntRange(min=1))
@click.option("--engine", type=click.Choice(ENGINES), help="Only this one.  [default: both]")
def main(
    count: int,
    display_p3: bool,
    precision: str,
    workers: str | None,
    only_memory: bool,
    few: int,
    many: int,
    engine: EngineName | None,
) -> None:
    """Prints the speed or the memory of fti-ingest, beside its bars."""
    engines = (engine,) if engine else ENGINES
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # as the pipeline's model has
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if only_memory:
            tables = [memory(engines, few, many, root)]
        elif workers:
            tables = [curve([int(one) for one in workers.split(",")], count, root)]
        else:
            profile = profiles.rgb_profile(profiles.DISPLAY_P3, None) if display_p3 else None
            tables = throughput(engines, count, precision, root, profile)
    for table in tables:
        Console().print(table)


if __name__ == "__main__":
    main()
