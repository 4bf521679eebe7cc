"""What each part of the inverter and of its loss is worth, on the emoji data.

    python bench/ablation.py --out runs/ablation

Trains the inverter of the packaged backbone again and again, with the same budget: with the
subject token only, with attribute tokens, with orthogonality, with tri-wise regularization (the
full method of the paper), with composed queries and their answers (triplets, the recipe of
``mini``), and with other numbers of latent attributes. Each run is measured on the held-out edits
among all Twemoji pictures. Finished runs are kept in OUT, so a killed ablation goes on.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

if __name__ == "__main__":  # also as a file: `python bench/ablation.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from fti_qdrant.cli.progress import step_progress
from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter, Relevant
from fti_training.loop.update import Cosine, Update
from fti_training.mini import evaluate
from fti_training.mini.config import MiniConfig
from fti_training.mini.inverter import features_of, split_caption
from fti_training.mini.pictures import TrainingSet, draw_artworks
from fti_training.mini.triplets import TripletWriter
from fti_training.precision import Precision, autocast
from fti_training.step import InverterStep, Weights

MEASURES = ("R@1", "R@10", "MRR")
OFFICIAL_LATENTS, OFFICIAL_TOPK = 24, 12
LR, WARMUP = 5e-4, 10

Figures = dict[str, float]


class SubjectOnly(Inverter):
    """An inverter whose pictures are one word: no attribute token counts."""

    def relevant(self, features: ImageFeatures) -> Relevant:
        found = super().relevant(features)
        return Relevant(found.z, torch.zeros_like(found.counts))


@dataclass(frozen=True)
class Row:
    """One configuration: its name, network and weights of the losses."""

    name: str
    network: type[Inverter]
    weights: Weights
    latents: int = OFFICIAL_LATENTS

    def inverter(self, backbone: Backbone) -> Inverter:
        sizes = (backbone.width, backbone.dim, backbone.token_dim)
        topk = min(OFFICIAL_TOPK, self.latents)
        return self.network(*sizes, latents=self.latents, topk=topk)


CONTRASTIVE = Weights(orthogonality=0, tri_wise=0)
COMPONENTS = (
    Row("subject token only", SubjectOnly, CONTRASTIVE),
    Row("+ attribute tokens", Inverter, CONTRASTIVE),
    Row("+ orthogonality", Inverter, Weights(tri_wise=0)),
    Row("+ tri-wise (full)", Inverter, Weights()),
    Row("+ triplets (mini)", Inverter, Weights(triplet=MiniConfig().inverter_triplet_weight)),
)
FULL = COMPONENTS[-2]
"""The paper's method."""

LATENTS = tuple(Row(f"full, n = {n}", Inverter, Weights(), n) for n in (4, 8, 12, 36))


@dataclass
class Ablation:
    """The data, embedded once, and the budget of every run."""

    backbone: Backbone
    data: TrainingSet
    features: ImageFeatures
    gallery: evaluate.Gallery
    steps: int
    batch: int
    precision: Precision

    @staticmethod
    def of(steps: int, batch: int, precision: Precision) -> Ablation:
        backbone = Backbone.load("mini")
        drawn = draw_artworks(backbone.preprocess)
        data = TrainingSet(drawn)
        features = features_of(backbone, data.pixels)
        gallery = evaluate.embed(backbone, drawn["twemoji"])
        return Ablation(backbone, data, features, gallery, steps, batch, precision)

    def train(self, row: Row, seed: int) -> Inverter:
        """The same seed gives the same batches to every row."""
        torch.manual_seed(seed)
        inverter = row.inverter(self.backbone).to(self.backbone.device)
        losses = InverterStep(self.backbone, inverter, row.weights).train()
        optimizer = torch.optim.AdamW(inverter.parameters(), lr=LR, weight_decay=0.01)
        schedule = Cosine(self.steps, LR, WARMUP)
        update = Update(row.name, inverter.parameters(), optimizer, schedule, clip=1.0)
        batches = self.data.numbered_batches(self.batch, seed)
        triplets = self._triplets(seed) if row.weights.triplet else None
        captions = [split_caption(emoji) for emoji in self.data.emoji]
        with step_progress() as progress:
            task = progress.add_task(f"{row.name}, seed {seed}", total=self.steps)
            for number in range(self.steps):
                torch.manual_seed(seed * 1_000_003 + number)
                chosen = batches(number)
                queries = triplets(chosen, number) if triplets else None
                given = self.features.take(chosen), [captions[i] for i in chosen]
                with autocast(self.precision, self.backbone):
                    loss = losses(*given, triplets=queries)
                update(loss.total, number)
                progress.update(task, advance=1)
        return inverter.eval()

    def _triplets(self, seed: int) -> TripletWriter:
        return TripletWriter.of(MiniConfig(seed=seed), self.backbone, self.data, self.features)

    @torch.inference_mode()
    def measure(self, inverter: Inverter) -> Figures:
        asked = evaluate.held_out_edits(self.gallery)
        composer = Composer(self.backbone, inverter)
        texts = evaluate.texts_of(asked)
        rank = evaluate.composed_ranks(composer, self.gallery, asked, texts, ("fti",))["fti"]
        return {**evaluate.recalls(rank), "MRR": float((1 / rank).mean())}


def figures_of(ablation: Ablation, row: Row, seed: int, out: Path) -> Figures:
    """Of a run that is finished, or is now made."""
    budget = f"{ablation.steps}x{ablation.batch} {ablation.precision}"
    weights = ablation.backbone.fingerprint.weights
    path = out / f"{weights}, {budget}, {row.name}, seed {seed}.json"
    if not path.exists():
        figures = ablation.measure(ablation.train(row, seed))
        path.write_text(json.dumps(figures, indent=2))
    found: Figures = json.loads(path.read_text())
    return found


def spread(runs: list[Figures], measure: str) -> tuple[float, float]:
    """Mean and standard deviation over the seeds (0 for a single one)."""
    values = [run[measure] for run in runs]
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def table_of(results: dict[str, list[Figures]]) -> Table:
    table = Table("", *MEASURES, "seeds")
    for name, runs in results.items():
        cells = []
        for measure in MEASURES:
            middle, deviation = spread(runs, measure)
            cells.append(f"{middle:.3f}" + (f" ± {deviation:.3f}" if len(runs) > 1 else ""))
        table.add_row(name, *cells, str(len(runs)))
    return table


def draw(results: dict[str, list[Figures]], path: Path) -> None:
    """Left what each component adds, right the number of latent attributes."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    names = [row.name for row in COMPONENTS]
    for offset, measure in zip((-0.2, 0.2), ("R@1", "MRR")):
        middles, deviations = zip(*(spread(results[name], measure) for name in names))
        places = [place + offset for place in range(len(names))]
        left.bar(places, middles, 0.38, yerr=deviations, capsize=3, label=measure)
    left.set_xticks(range(len(names)), names, rotation=12)
    left.set_title("what each part adds (mean and deviation over seeds)")
    left.set_ylim(0, 1)
    left.legend()
    by_latents = {row.latents: results[row.name] for row in (*LATENTS, FULL)}
    counts = sorted(by_latents)
    for measure in ("R@1", "MRR"):
        middles = [spread(by_latents[count], measure)[0] for count in counts]
        right.plot(counts, middles, marker="o", label=measure)
    right.set_xticks(counts)
    right.set_xlabel("latent attributes n")
    right.set_title("full method")
    right.legend()
    figure.savefig(path, dpi=110)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Finished runs.")
@click.option("--steps", default=150, show_default=True, type=click.IntRange(min=1))
@click.option("--batch", default=128, show_default=True, type=click.IntRange(min=2))
@click.option("--seeds", default=3, show_default=True, help="Of the first five rows.")
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "bf16"]))
@click.option("--picture", type=click.Path(path_type=Path), help="[default: OUT/ablation.png]")
def main(
    out: Path, steps: int, batch: int, seeds: int, precision: Precision, picture: Path | None
) -> None:
    """Prints R@1, R@10 and mean reciprocal rank of each configuration, and draws them."""
    out.mkdir(parents=True, exist_ok=True)
    ablation = Ablation.of(steps, batch, precision)
    results = {
        row.name: [figures_of(ablation, row, seed, out) for seed in range(seeds)]
        for row in COMPONENTS
    }
    results |= {row.name: [figures_of(ablation, row, 0, out)] for row in LATENTS}
    table = table_of(results)
    table.title = f"{steps} steps of {batch}, held-out edits of the emoji benchmark"
    Console().print(table)
    draw(results, picture or out / "ablation.png")


if __name__ == "__main__":
    main()
