"""Which way of training the inverter of ``mini`` is best: recipes over seeds, at an equal budget.

    fti-train mini --out runs/mini
    python bench/mini_recipes.py --model runs/mini --out runs/recipes

Trains the inverter on the backbone of a mini model, once for each recipe and seed, and measures R@1
of ``fti`` and ``pdv`` on the held-out edits in known wordings, in unseen ones, and in the unused
paraphrases. A recipe is what differs from the settings of FTI4CIR in ``MiniConfig``. Finished runs
are kept in OUT, so a killed command goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

if __name__ == "__main__":  # also as a file: `python bench/mini_recipes.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from rich.console import Console
from rich.table import Table

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, UNSEEN_WORDINGS
from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from fti_training.mini import evaluate
from fti_training.mini.config import MiniConfig
from fti_training.mini.inverter import train_inverter
from fti_training.mini.pictures import TrainingSet, draw_artworks
from fti_training.mini.train import GALLERY_ARTWORK, measure_paraphrases

METHODS = ("fti", "pdv")
QUESTIONS = ("known wordings", "unseen wordings", "unused paraphrases")

PAPER: dict[str, Any] = {
    "inverter_steps": 400,
    "inverter_batch": 256,
    "inverter_average": 0.0,
    "inverter_jitter": False,
    "inverter_epsilon": 0.05,
    "inverter_temperature": 0.2,
    "inverter_triplet_weight": 0.0,
}
"""The settings of FTI4CIR, and the budget: 102,400 pictures."""

TRIPLETS = {"inverter_triplet_weight": 1.0}

RECIPES: dict[str, dict[str, Any]] = {
    "FTI4CIR": {},
    "triplets": TRIPLETS,
    "triplets, weight 4": {"inverter_triplet_weight": 4.0},
    "triplets at 0.05": {**TRIPLETS, "inverter_triplet_temperature": 0.05},
    "800 steps of 128": {"inverter_steps": 800, "inverter_batch": 128},
    "triplets, 200 steps of 512": {**TRIPLETS, "inverter_steps": 200, "inverter_batch": 512},
    "triplets, jitter": {**TRIPLETS, "inverter_jitter": True},
    "triplets, all 12 attributes": {**TRIPLETS, "inverter_epsilon": 0.0},
    "triplets, temperature 0.07": {**TRIPLETS, "inverter_temperature": 0.07},
    "triplets to names": {**TRIPLETS, "inverter_triplet_target": "name"},
    "triplets, average": {**TRIPLETS, "inverter_average": 0.99},
    "triplets, rate 1e-3": {**TRIPLETS, "inverter_lr": 1e-3},
    "1,200 steps": {"inverter_steps": 1200},
    "triplets, 1,200 steps": {**TRIPLETS, "inverter_steps": 1200},
}
"""Name -> what differs from PAPER; the last two have three times the budget."""

Figures = dict[str, dict[str, dict[str, float]]]
"""Question -> method -> measure -> value."""


@dataclass(frozen=True)
class Data:
    """What all runs share, made once in each process."""

    backbone: Backbone
    training: TrainingSet
    gallery: evaluate.Gallery

    @staticmethod
    @cache
    def of(model: Path) -> Data:
        backbone = Backbone.load(f"local-dir:{model}", precision="fp32")
        drawn = draw_artworks(backbone.preprocess)
        return Data(backbone, TrainingSet(drawn), evaluate.embed(backbone, drawn[GALLERY_ARTWORK]))


@dataclass(frozen=True)
class Run:
    """One recipe with one seed; everything of it is kept in a folder."""

    model: Path
    out: Path
    name: str
    seed: int
    overrides: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.out / f"{self.name}, seed {self.seed}" / "figures.json"

    def __call__(self) -> Figures:
        """The figures of a run that is finished, or is now made."""
        if not self.file.exists():
            data = Data.of(self.model)
            settings = {**PAPER, **RECIPES[self.name], **self.overrides}
            config = MiniConfig(seed=self.seed, checkpoint_every=10**9, **settings)
            began = time.monotonic()
            inverter = train_inverter(
                config, data.backbone, data.training, self.file.parent, lambda _: {}
            )
            took = time.monotonic() - began
            save_inverter(inverter.half(), self.file.parent / "weights")
            figures = measured(data, inverter.float())
            self.file.write_text(json.dumps({"seconds": took, "figures": figures}, indent=2))
        found: Figures = json.loads(self.file.read_text())["figures"]
        return found


@torch.inference_mode()
def measured(data: Data, inverter: Inverter) -> Figures:
    """R@1 and R@10 on the held-out edits, by the kind of wording."""
    composer = Composer(data.backbone, inverter)
    asked = evaluate.held_out_edits(data.gallery)
    known, unseen = (
        evaluate.composed(composer, data.gallery, asked, METHODS, wordings)
        for wordings in (KNOWN_WORDINGS, UNSEEN_WORDINGS)
    )
    paraphrased = measure_paraphrases(composer, data.gallery, METHODS)
    return dict(zip(QUESTIONS, (known, unseen, paraphrased)))


def table_of(results: dict[str, list[Figures]]) -> Table:
    """Mean and deviation of R@1 over the seeds."""
    columns = [f"{method}, {question}" for question in QUESTIONS for method in METHODS]
    table = Table("recipe", *columns, "seeds", title="R@1 on held-out edits")
    for name, runs in results.items():
        cells = []
        for question in QUESTIONS:
            for method in METHODS:
                values = [run[question][method]["R@1"] for run in runs]
                deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
                cells.append(f"{mean(values):.3f}{deviation}")
        table.add_row(name, *cells, str(len(runs)))
    return table


def make(runs: list[Run], jobs: int, limit: float | None) -> dict[str, list[Figures]]:
    """Runs several at a time, in their order; none is started after ``limit`` seconds."""
    results: dict[str, list[Figures]] = {}
    deadline = time.monotonic() + (limit or 1e9)
    waiting, running = list(reversed(runs)), dict[Future[Figures], Run]()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < deadline:
                run = waiting.pop()
                running[pool.submit(run)] = run
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(done)
                results.setdefault(run.name, []).append(done.result())
                click.echo(f"{run.name}, seed {run.seed}: {brief(done.result())}")
    return {name: results[name] for name in RECIPES if name in results}


def brief(figures: Figures) -> str:
    """R@1 of both methods, question after question."""
    return "  ".join(
        "/".join(f"{figures[question][method]['R@1']:.3f}" for method in METHODS)
        for question in QUESTIONS
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder made by fti-train mini; its backbone is used.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Finished runs.")
@click.option("--recipe", "names", multiple=True, type=click.Choice(list(RECIPES)))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--jobs", default=1, show_default=True, help="Runs at the same time.")
@click.option("--limit", type=float, help="Start no run after so many seconds.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="For every recipe.")
def main(
    model: Path,
    out: Path,
    names: tuple[str, ...],
    seeds: int,
    jobs: int,
    limit: float | None,
    overrides: tuple[str, ...],
) -> None:
    """Prints R@1 of each recipe, as mean and deviation over the seeds."""
    from fti_training.settings import parse_overrides

    changed = parse_overrides(overrides)
    runs = [
        Run(model, out, name, seed, changed)
        for name in names or tuple(RECIPES)
        for seed in range(seeds)
    ]
    results = make(runs, jobs, limit)
    Console(width=200).print(table_of(results))


if __name__ == "__main__":
    main()
