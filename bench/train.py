"""How fast an inverter trains, against the plain implementation.

    python bench/train.py
    python bench/train.py --model ViT-L-14 --batch 256 --device cuda --precision bf16

Ratios, measured side by side in one run: each repetition times one whole step of every contestant
(forward, backward, AdamW), the medians are divided. Random weights, pictures decoded beforehand.
The plain implementation computes in the first precision that is asked for: in fp32 by default, as
published code does.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # also as a file: `python bench/train.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench import plain
from bench.verdict import verdict
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.cpu import has_bf16
from fti_qdrant.model.inverter import Inverter
from fti_training.loop.update import Decay, Update
from fti_training.precision import Precision, autocast, backbone_precision
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep

SUBJECTS = ("a woman", "two dogs", "a red car", "an old man", "a plate", "a brown horse")
ATTRIBUTES = (
    "standing on a beach next to a surfboard",
    "playing with a ball in the grass",
    "parked on the side of a street in front of a house",
    "sitting on a bench",
    "topped with rice and vegetables on a wooden table",
)
"""Captions as BLIP writes them; every pair of the two lists occurs."""

Step = Callable[[], Tensor]


@dataclass
class Setup:
    """A batch of pictures with captions, a frozen backbone, a fresh inverter."""

    backbone: Backbone
    inverter: Inverter
    pixels: Tensor
    captions: list[tuple[str, str]]
    precision: Precision

    @staticmethod
    def of(model: str, batch: int, device: str, precision: Precision) -> Setup:
        logging.disable(logging.WARNING)  # open_clip warns that these weights are random
        torch.manual_seed(0)
        tower = open_clip.create_model(model)
        tokenizer = open_clip.get_tokenizer(model)
        held_in = backbone_precision(precision, device)
        backbone = Backbone(tower, tokenizer, f"{model}/random", held_in or "fp32")
        backbone = backbone.to(device)
        size = (batch, 3, backbone.preprocess.size, backbone.preprocess.size)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8)
        captions = [(SUBJECTS[n % 6], ATTRIBUTES[n % 5]) for n in range(batch)]
        inverter = Inverter.for_backbone(backbone).to(device)
        return Setup(backbone, inverter, pixels.to(device), captions, precision)

    def plainly(self) -> Step:
        """Two visual passes, the whole context, one row after the other, nothing kept."""
        inverter = copy.deepcopy(self.inverter)
        update = _update(inverter, fused=False)

        def step() -> Tensor:
            normalized = self.backbone.preprocess.normalize(self.pixels)
            with autocast(self.precision, self.backbone):
                loss = plain.training_step(self.backbone, inverter, normalized, self.captions)[0]
            update(loss, 0)
            return loss.detach()

        return step

    def ours(self) -> Step:
        """From uint8 pixels, as ``fti-train fit --captions``."""

        def features() -> ImageFeatures:
            return self.backbone.pixel_features(self.pixels)

        return self._ours(features, None)

    def cached(self) -> Step:
        """From stored float16 features, as ``fti-train fit --cache``."""
        made = self.backbone.pixel_features(self.pixels)
        pooled, tokens = made.pooled.half().cpu(), made.required_tokens().half().cpu()
        device = self.pixels.device
        split = [SplitCaption(*caption) for caption in self.captions]
        sentences = InverterStep(self.backbone, self.inverter).sentences(split).half()

        def features() -> ImageFeatures:
            return ImageFeatures(pooled.to(device).float(), tokens.to(device).float())

        return self._ours(features, sentences)

    def _ours(self, features: Callable[[], ImageFeatures], sentences: Tensor | None) -> Step:
        inverter = copy.deepcopy(self.inverter)
        losses, update = InverterStep(self.backbone, inverter), _update(inverter, fused=True)
        split = [SplitCaption(*caption) for caption in self.captions]

        def step() -> Tensor:
            given = features()
            losses.sentences.clear()  # as in the first epoch, where every sentence is new
            with autocast(self.precision, self.backbone):
                loss = losses(given, split, sentences)
            update(loss.total, 0)
            return loss.total.detach()

        return step


def _update(inverter: Inverter, fused: bool) -> Update:
    inverter.train()
    optimizer = torch.optim.AdamW(inverter.parameters(), lr=4e-5, weight_decay=0.01, fused=fused)
    return Update("bench", inverter.parameters(), optimizer, Decay(4e-5, 0, 10, 0.1), 1.0)


def contestants(
    model: str, batch: int, device: str, precisions: Sequence[Precision]
) -> dict[str, Step]:
    """The plain step in the first precision, and ours in each; all with the same weights."""
    steps: dict[str, Step] = {}
    for precision in precisions:
        setup = Setup.of(model, batch, device, precision)
        if not steps:
            steps[f"plain, {precision}"] = setup.plainly()
        steps[f"ours, {precision}"] = setup.ours()
        steps[f"ours, cached, {precision}"] = setup.cached()
    return steps


def timed(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved, after one step to warm up that must agree."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(repeats + 1):
        losses = {}
        for name, step in steps.items():
            torch.manual_seed(repetition)
            began = time.perf_counter()
            losses[name] = float(step())
            if repetition:
                taken[name].append(time.perf_counter() - began)
        if not repetition:
            _check(losses)
    return {name: median(values) for name, values in taken.items()}


def _check(losses: dict[str, float]) -> None:
    """The contestants compute the same thing: the same dropout, the same loss."""
    expected = next(iter(losses.values()))
    for name, loss in losses.items():
        assert abs(loss - expected) < 0.02 * expected, f"{name} computes another loss: {losses}"


def memory(step: Step) -> str:
    """Most memory of the GPU during a step."""
    torch.cuda.reset_peak_memory_stats()
    step()
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", default="ViT-B-32", show_default=True, help="An open_clip architecture.")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=2))
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(("fp32", "bf16", "fp16")),
    help="May be given several times.  [default: fp32 and bf16]",
)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--profile", is_flag=True, help="Print where the time of our steps goes.")
def main(
    model: str,
    batch: int,
    device: str,
    precisions: tuple[Precision, ...],
    repeats: int,
    profile: bool,
) -> None:
    """Prints the ratios of training steps, ours against the plain implementation."""
    steps = contestants(model, batch, device, precisions or ("fp32", "bf16"))
    seconds = timed(steps, repeats)
    table = table_of(seconds, batch)
    table.title = f"{model}, batch {batch}, {device}, {repeats} repetitions"
    Console().print(table)
    if device.startswith("cuda"):
        for name, step in steps.items():
            print(f"{name}: {memory(step)}")
    if profile:
        for name, step in list(steps.items())[1:]:
            print_profile(name, step)


BARS = {"ours": (3, 5), "ours, cached": (5, 10)}
"""At least, and the aim. Those of bf16 hold for GPUs, and for CPUs that multiply it."""


def table_of(seconds: dict[str, float], batch: int) -> Table:
    table = Table("step", "at least", "aim", "measured", "met", "s", "images/s")
    plain_seconds = next(iter(seconds.values()))
    for name, taken in seconds.items():
        work, _, precision = name.rpartition(", ")
        ratio = plain_seconds / taken
        bar, aim = BARS.get(work, (1, 1))
        asked = precision != "bf16" or torch.cuda.is_available() or has_bf16()
        bars = (f"{bar}x", f"{aim}x") if asked else ("", "")
        met = verdict(ratio >= bar) if asked else ""
        table.add_row(name, *bars, f"{ratio:.2f}x", met, f"{taken:.2f}", f"{batch / taken:.1f}")
    return table


def print_profile(name: str, step: Step) -> None:
    """The operators that take the most time of one step."""
    with torch.profiler.profile() as profiler:
        step()
    averages = profiler.key_averages()
    print(f"\n{name}\n{averages.table(sort_by='self_cpu_time_total', row_limit=12)}")


if __name__ == "__main__":
    main()
