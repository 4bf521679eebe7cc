"""How reliable confidences are: fitted on seen emoji edits, checked on held-out ones and wordings.

    python bench/calibration.py

The chances of each composer's hits are fitted on the first ten hits of seen edits, as ``fti-eval
calibrate`` does it. ECE (15 bins) and Brier score are those on the same hits (in sample), on the
same edits by maps that were fitted without them (out of fold), on the held-out edits, and on the
unused paraphrases of these. Where training has seen the seen edits, their maps promise too much of
the others: one column is of maps that were fitted on held-out edits with other references. A second
table says what ``min_confidence`` and ``cutoff`` keep of the gallery on the held-out edits (mean),
and how often the right answer is among it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/calibration.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import Edit, edits
from fti_qdrant.calibration.fit import fit_chances, out_of_fold
from fti_qdrant.calibration.judged_hits import DEPTH, JudgedHits, JudgedQueryHits
from fti_qdrant.calibration.reliability import Reliability, reliability
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import CHUNK, Gallery, embed, paraphrased, texts_of
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini

COMPOSERS = ("pdv", "fti", "sum", "text")
LEAST, CUTOFFS = (0.1, 0.3, 0.5), (0.9, 0.5, 0.1)
IN_SAMPLE, OUT_OF_FOLD = "in sample", "out of fold"
HELD_OUT, REWORDED = "held out", "paraphrases"
OWN = "held out, by others of it"


@dataclass(frozen=True)
class Asked:
    """Edits, each with its modification text."""

    edits: Sequence[Edit]
    texts: Sequence[str]

    def chunks(self) -> Iterator[Asked]:
        for start in range(0, len(self.edits), CHUNK):
            part = slice(start, start + CHUNK)
            yield Asked(self.edits[part], self.texts[part])


def known(asked: Sequence[Edit]) -> Asked:
    """The edits in the wordings of the model's training."""
    return Asked(asked, texts_of(asked))


@dataclass(frozen=True)
class Scored:
    """The cosines of edits with all images, ``[Q, N]``; the reference's own is the lowest.

    Attributes:
        targets: ``[Q]``, rows of the right answers.
    """

    scores: Tensor
    targets: Tensor
    references: Sequence[str]

    def judged(self) -> JudgedHits:
        """The first hits of each query."""
        best = self.scores.topk(DEPTH, dim=1)
        right = best.indices == self.targets[:, None]
        lists = zip(self.references, best.values.tolist(), right.tolist())
        return JudgedHits.of(JudgedQueryHits(*one) for one in lists)

    def kept(self, chances: ChanceMap) -> list[str]:
        """For each least chance and cutoff: images kept (mean), and how often the right one is."""
        known = torch.from_numpy(chances.at(self.scores.numpy().ravel())).view_as(self.scores)
        own, best = known.gather(1, self.targets[:, None]), known.max(dim=1, keepdim=True).values
        bounds = [*(torch.full_like(best, one) for one in LEAST), *(one * best for one in CUTOFFS)]
        images = [float((known >= one).sum(dim=1).float().mean()) for one in bounds]
        right = [float((own >= one).float().mean()) for one in bounds]
        return [f"{count:.2f} / {share:.3f}" for count, share in zip(images, right)]


@torch.inference_mode()
def scored(composer: Composer, gallery: Gallery, asked: Asked, name: str) -> Scored:
    """By the named composer."""
    rows = [gallery.row[edit.reference.key] for edit in asked.edits]
    scores = torch.cat([_scores(composer, gallery, part, name) for part in asked.chunks()])
    scores[torch.arange(len(rows)), torch.tensor(rows)] = -1
    targets = torch.tensor([gallery.row[edit.target.key] for edit in asked.edits])
    return Scored(scores, targets, [edit.reference.key for edit in asked.edits])


def _scores(composer: Composer, gallery: Gallery, asked: Asked, name: str) -> Tensor:
    rows = [gallery.row[edit.reference.key] for edit in asked.edits]
    invert = find_composer(name).needs_inverter
    references = composer.references(gallery.features.take(rows), (1,) * len(rows), invert=invert)
    vectors = composer.compose_references(references, asked.texts, name).vectors
    return torch.nn.functional.normalize(vectors, dim=-1) @ gallery.vectors.T


def cell(found: Reliability) -> str:
    return f"{100 * found.ece:.2f} / {found.brier:.4f} ({found.base_brier:.4f})"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--queries", default=2000, show_default=True, help="Most seen edits, evenly chosen.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=MINI,
    help="Folder made by fti-train mini.  [default: the packaged one]",
)
def main(queries: int, model: Path) -> None:
    """Print how reliable confidences are, and what min_confidence keeps."""
    composer = Mini.load(model).composer
    gallery = embed(composer.backbone, draw_all(GALLERY_ARTWORK, composer.backbone.preprocess))
    every = list(edits(gallery.pictures.emoji))
    seen = [edit for edit in every if not edit.target.held_out]
    held_out = [edit for edit in every if edit.target.held_out]
    fitting = known(seen[:: -(-len(seen) // queries)])
    checks = {HELD_OUT: known(held_out), REWORDED: Asked(*paraphrased(held_out))}
    places = (IN_SAMPLE, OUT_OF_FOLD, HELD_OUT, OWN, REWORDED)
    title = "first ten hits: ECE in percent / Brier score (that of stating the base rate)"
    table = Table("composer", *places, title=title)
    bounds = [
        *(f"min_confidence {one:g}" for one in LEAST),
        *(f"cutoff {one:g}" for one in CUTOFFS),
    ]
    least = Table("composer", *bounds, title="kept / right")
    for name in COMPOSERS:
        hits = scored(composer, gallery, fitting, name).judged()
        chances = fit_chances(hits.scores, hits.right)
        found = {
            IN_SAMPLE: reliability(chances.at(hits.scores), hits.right),
            OUT_OF_FOLD: reliability(out_of_fold(hits), hits.right),
        }
        for place, asked in checks.items():
            others = scored(composer, gallery, asked, name)
            judged = others.judged()
            found[place] = reliability(chances.at(judged.scores), judged.right)
            if place == HELD_OUT:
                found[OWN] = reliability(out_of_fold(judged), judged.right)
                least.add_row(name, *others.kept(chances))
        table.add_row(name, *map(cell, found.values()))
    console = Console(width=160)
    sizes = ", ".join(f"{len(one.edits):,} {place}" for place, one in checks.items())
    console.print(f"fitted on {len(fitting.edits):,} seen edits; checked on {sizes}")
    console.print(table, least)


if __name__ == "__main__":
    main()
