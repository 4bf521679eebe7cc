"""Speed on a GPU: ingest, composed queries and training, each against what the card can do.

    python bench/gpu.py --out gpu.json

ViT-L/14 with random weights, bfloat16. Ingest from JPEG files is compared with the bare forward
pass of open_clip over tensors on the card; queries are timed at batch 1 and 64; training steps are
given as a fraction of the rate of a large matrix product, by the operations that torch counts.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # also as a file: `python bench/gpu.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bench.ingest import pipeline_rate, write_jpegs
from bench.train import Setup
from fti_ingest.engine.choose import EngineChoice
from fti_qdrant.composers.composer import Composer
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter

ARCHITECTURE = "ViT-L-14"
PRECISION = "bf16"
TEXT = "in red, with long sleeves"
SIDE = 8192
"""Of the square matrices whose product gives the card's rate."""


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median over the repetitions, after two to warm up, until the card has finished."""
    taken = []
    for repetition in range(repeats + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if repetition >= 2:
            taken.append(time.perf_counter() - began)
    return median(taken)


def product_rate() -> float:
    """Operations a second of a large bfloat16 matrix product."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * SIDE**3 / seconds(lambda: left @ right, 10)


def composer_on_card() -> tuple[Composer, torch.nn.Module]:
    """A backbone with an inverter, and open_clip's own model of the same weights."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    backbone = Backbone(model, tokenizer, f"{ARCHITECTURE}/random", PRECISION).to("cuda")
    composer = Composer(backbone, Inverter.for_backbone(backbone))
    torch.manual_seed(0)
    bare = open_clip.create_model(ARCHITECTURE).to("cuda", torch.bfloat16).eval()
    return composer, bare


def save_model(composer: Composer, bare: torch.nn.Module, folder: Path) -> str:
    """The same model as a folder that ``fti-ingest`` loads."""
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(bare.float().state_dict(), folder / "open_clip_model.safetensors")
    bare.to(torch.bfloat16)
    config = {
        "model_cfg": open_clip.get_model_config(ARCHITECTURE),
        "preprocess_cfg": bare.visual.preprocess_cfg,  # type: ignore[union-attr]
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@torch.inference_mode()
def bare_rate(bare: torch.nn.Module, batch: int) -> float:
    """Images a second of ``encode_image`` over normalized tensors on the card."""
    pixels = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    return batch / seconds(lambda: bare.encode_image(pixels), 10)  # type: ignore[operator]


def queries(composer: Composer, path: Path) -> dict[str, float]:
    """Seconds of composing, by kind of query and batch."""
    picture = open_image(path).image
    found = {}
    for size in (1, 64):
        pixels = composer.backbone.preprocess.batch([picture] * size)
        texts = [TEXT] * size
        words = composer.references(composer.backbone.pixel_features(pixels), (1,) * size)

        def image(pixels: torch.Tensor = pixels, texts: list[str] = texts) -> object:
            features = composer.backbone.pixel_features(pixels)
            references = composer.references(features, (1,) * len(texts))
            return composer.compose_references(references, texts).vectors.cpu()

        def stored(words=words, texts: list[str] = texts) -> object:  # type: ignore[no-untyped-def]
            return composer.compose_references(words, texts).vectors.cpu()

        def tower(pixels: torch.Tensor = pixels) -> object:
            return composer.backbone.pixel_features(pixels)

        found[f"image, batch {size}"] = seconds(image, 20)
        found[f"stored pseudo-words, batch {size}"] = seconds(stored, 20)
        found[f"image tower alone, batch {size}"] = seconds(tower, 20)
    return found


def training(batch: int, peak: float) -> dict[str, dict[str, float]]:
    """Seconds, memory and the fraction of the card's rate, of a step and of a cached step."""
    setup = Setup.of(ARCHITECTURE, batch, "cuda", PRECISION)
    found = {}
    for name, step in (("step", setup.ours()), ("cached step", setup.cached())):
        took = seconds(step, 5)
        torch.cuda.reset_peak_memory_stats()
        with FlopCounterMode(display=False) as counter:
            step()
        found[name] = {
            "s": took,
            "images/s": batch / took,
            "GiB": torch.cuda.max_memory_allocated() / 2**30,
            "of the product's rate": counter.get_total_flops() / took / peak,
        }
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=6000, show_default=True, help="JPEG files to ingest.")
@click.option("--batch", default=256, show_default=True, help="Of a training step.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the figures as JSON.")
def main(count: int, batch: int, out: Path | None) -> None:
    """Prints the figures with the card's name."""
    logging.disable(logging.WARNING)  # open_clip warns that these weights are random
    card = torch.cuda.get_device_name()
    peak = product_rate()
    figures: dict[str, object] = {"card": card, "product, TFLOP/s": peak / 1e12}
    composer, bare = composer_on_card()
    figures["bare forward pass, images/s"] = bare_rate(bare, 256)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_jpegs(root / "photos", count + 3000, (640, 480), 256)
        figures["composed queries, ms"] = {
            kind: 1000 * took
            for kind, took in queries(composer, root / "photos" / "000000.jpg").items()
        }
        model = save_model(composer, bare, root / "model")
        del composer, bare
        torch.cuda.empty_cache()
        engine = EngineChoice("local")
        rate, uses = pipeline_rate(
            model, root / "photos", root / "gallery", count, engine, "cuda", PRECISION
        )
        figures["ingest from JPEG, images/s"] = rate
        figures["stages"] = {use.stage: [use.share, use.busy] for use in uses}
    torch.cuda.empty_cache()
    figures["training"] = training(batch, peak)
    show(figures)
    if out:
        out.write_text(json.dumps(figures, indent=2))


def show(figures: dict[str, object], console: Console | None = None) -> None:
    table = Table("what", "figure", title=str(figures["card"]))
    for name, value in figures.items():
        rows = value if isinstance(value, dict) else {"": value}
        for part, figure in rows.items():
            table.add_row(f"{name} {part}".strip(), _text(figure))
    (console or Console()).print(table)


def _text(figure: object) -> str:
    if isinstance(figure, dict):
        return ", ".join(f"{name} {_text(value)}" for name, value in figure.items())
    return f"{figure:.3g}" if isinstance(figure, float) else str(figure)


if __name__ == "__main__":
    main()
