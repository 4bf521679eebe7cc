"""How long the image tower takes: bare open_clip, ours by PyTorch and OpenVINO, ONNX Runtime.

    python -m bench.towers

Milliseconds for each image, medians. ViT-B/32 with random weights, the same in all. Each contestant
has a process of its own, as users have, and they take turns: each repetition times every one once.
Half of the repetitions run beside a busy loop in another process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # also as a file: `python bench/towers.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from rich.console import Console
from rich.table import Table

NAMES = (
    "open_clip fp32",
    "ours fp32",
    "ours bf16",
    "ours OpenVINO fp32",
    "ours OpenVINO bf16",
    "ONNX Runtime fp32",
)
BARE = NAMES[0]
BATCHES = (1, 16)
BUSY = "while True: pass"

Pass = Callable[[int], None]
"""Runs the tower over a batch of so many images."""


def main() -> None:
    if sys.argv[1:2] == ["--contestant"]:
        contest(sys.argv[2])
    else:
        command()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--repeats", default=10, show_default=True, type=click.IntRange(min=1))
def command(repeats: int) -> None:
    """Prints milliseconds for each image, alone and beside a busy neighbor."""
    with ExitStack() as stack:
        ready = {name: stack.enter_context(started(name)) for name in NAMES}
        running = {name: one for name, one in ready.items() if one is not None}
        alone = timed(running, repeats)
        with busy_neighbor():
            beside = timed(running, repeats)
    table = Table("tower", *(f"batch {n}{b}" for b in ("", ", busy neighbor") for n in BATCHES))
    for name in NAMES:
        if name not in running:
            table.add_row(name, "not installed")
            continue
        cells = (cell(times, name, batch) for times in (alone, beside) for batch in BATCHES)
        table.add_row(name, *cells)
    table.title = f"ms an image, and how many times faster than {BARE}; ViT-B/32, {repeats} repeats"
    Console(width=130).print(table)


Times = dict[tuple[str, int], float]


def cell(times: Times, name: str, batch: int) -> str:
    seconds, bare = times[name, batch], times[BARE, batch]
    return f"{1000 * seconds / batch:.1f} ({bare / seconds:.2f}x)"


def timed(running: dict[str, Contestant], repeats: int) -> Times:
    """Median seconds of a pass by contestant and batch, after one to warm up."""
    taken: dict[tuple[str, int], list[float]] = {}
    for repetition in range(repeats + 1):
        for batch in BATCHES:
            for name, contestant in running.items():
                seconds = contestant.run(batch)
                if repetition:
                    taken.setdefault((name, batch), []).append(seconds)
    return {key: median(values) for key, values in taken.items()}


class Contestant:
    """A process that times a pass whenever it is told to."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def run(self, batch: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        return float(self.read())

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return line.strip()


@contextmanager
def started(name: str) -> Iterator[Contestant | None]:
    """A contestant that is ready; None where its package is not installed."""
    line = [sys.executable, "-m", "bench.towers", "--contestant", name]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        contestant = Contestant(process)
        try:
            yield contestant if contestant.read() == "ready" else None
        finally:
            process.kill()


@contextmanager
def busy_neighbor() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def contest(name: str) -> None:
    """The contestant's process: reads batch sizes, writes seconds."""
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    answers, sys.stdout = sys.stdout, sys.stderr  # other packages print
    try:
        run = pass_of(name)
    except ImportError as error:
        print(f"{name}: {error}", file=sys.stderr)
        print("missing", file=answers, flush=True)
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - began, file=answers, flush=True)


def pass_of(name: str) -> Pass:
    """Raises ImportError where a package is missing."""
    if name.startswith("ours"):
        return ours(name)
    return onnx_runtime() if name.startswith("ONNX") else bare_open_clip()


def bare_open_clip() -> Pass:
    """As a script has it: fp32, and PyTorch as it is installed."""
    import torch

    model, batches = random_model(), random_batches()

    def run(batch: int) -> None:
        with torch.inference_mode():
            model.encode_image(batches[batch])

    return run


def ours(name: str) -> Pass:
    """A backbone by one of its backends and precisions."""
    from fti_qdrant.model.cpu import limit_spinning

    limit_spinning()  # which our package does where it is imported before torch
    import open_clip

    from fti_qdrant.errors import UnsupportedModel
    from fti_qdrant.model.backbone import Backbone
    from fti_qdrant.model.openvino_backend import use_openvino

    precision = name.rpartition(" ")[2]
    openvino = "OpenVINO" in name
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    backbone = Backbone(random_model(), tokenizer, "random", "fp32" if openvino else precision)
    if openvino:
        try:
            use_openvino(backbone, precision)
        except UnsupportedModel as error:
            raise ImportError(str(error)) from error
    batches = random_batches()

    def run(batch: int) -> None:
        import torch

        with torch.inference_mode():
            backbone.visual_pass(batches[batch].to(backbone.dtype))

    return run


def onnx_runtime() -> Pass:
    """The tower exported to ONNX, on the CPU in fp32, as fastembed runs CLIP."""
    import onnxruntime
    import torch

    batches = random_batches()
    warnings.simplefilter("ignore")  # this exporter is the older one
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        torch.onnx.export(
            random_model().visual,
            (batches[16][:2],),
            str(path),
            input_names=["pixels"],
            dynamic_axes={"pixels": {0: "batch"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(
            path.read_bytes(), providers=["CPUExecutionProvider"]
        )

    def run(batch: int) -> None:
        session.run(None, {"pixels": batches[batch].numpy()})

    return run


def random_model():  # type: ignore[no-untyped-def]
    """The same ViT-B/32 in each process."""
    import open_clip
    import torch

    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-32").eval()


def random_batches():  # type: ignore[no-untyped-def]
    """Batch size -> normalized pixels."""
    import torch

    return {batch: torch.rand(batch, 3, 224, 224) * 2 - 1 for batch in BATCHES}


if __name__ == "__main__":
    main()
