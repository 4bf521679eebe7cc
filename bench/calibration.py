"""How reliable confidences are: fitted on seen emoji edits, checked on held-out ones and wordings.

    python bench/calibration.py

The chances of each composer's hits are fitted on the first ten hits of seen edits, as ``fti-eval
calibrate`` does it. ECE (15 bins) and Brier score are those on the same hits (in sample), on the
same edits by maps that were fitted without them (out of fold), on the held-out edits, and on the
unused paraphrases of these. A second table says what ``min_confidence`` keeps of the gallery on the
held-out edits, and how often the right answer is among it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/calibration.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, PARAPHRASES, Edit, edits
from fti_qdrant.benchmarks.emoji.paraphrases import unused_wordings
from fti_qdrant.calibration.fit import fit_chances, out_of_fold
from fti_qdrant.calibration.judged_hits import DEPTH, JudgedHits, JudgedQueryHits
from fti_qdrant.calibration.reliability import Reliability, reliability
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import CHUNK, Gallery, embed
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini

COMPOSERS = ("pdv", "fti", "sum", "text")
LEAST = (0.1, 0.3, 0.5, 0.7)
IN_SAMPLE, OUT_OF_FOLD = "in sample", "out of fold"
HELD_OUT, REWORDED = "held out", "paraphrases"


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
    return Asked(asked, [edit.wording(KNOWN_WORDINGS) for edit in asked])


def reworded(asked: Sequence[Edit]) -> Asked:
    """Each edit in the unused paraphrases that the benchmark asks it in."""
    wordings = unused_wordings()
    pairs = [(edit, text) for edit in asked for text in edit.some_wordings(wordings, PARAPHRASES)]
    return Asked([edit for edit, _ in pairs], [text for _, text in pairs])


@torch.inference_mode()
def scores_of(composer: Composer, gallery: Gallery, asked: Asked, name: str) -> Tensor:
    """``[Q, N]``, the references left out by the lowest possible score."""
    rows = [gallery.row[edit.reference.key] for edit in asked.edits]
    invert = find_composer(name).needs_inverter
    references = composer.references(gallery.features.take(rows), (1,) * len(rows), invert=invert)
    vectors = composer.compose_references(references, asked.texts, name).vectors
    scores = torch.nn.functional.normalize(vectors, dim=-1) @ gallery.vectors.T
    scores[torch.arange(len(rows)), torch.tensor(rows)] = -1
    return scores


def judged(composer: Composer, gallery: Gallery, asked: Asked, name: str) -> JudgedHits:
    """The first hits of each query."""
    each = []
    for chunk in asked.chunks():
        best = scores_of(composer, gallery, chunk, name).topk(DEPTH, dim=1)
        for edit, scores, found in zip(chunk.edits, best.values.tolist(), best.indices.tolist()):
            target = gallery.row[edit.target.key]
            right = [row == target for row in found]
            each.append(JudgedQueryHits(edit.reference.key, scores, right))
    return JudgedHits.of(each)


def kept(
    composer: Composer, gallery: Gallery, asked: Asked, name: str, chances: ChanceMap
) -> Iterator[str]:
    """For each least chance: images that are kept (mean), and how often the right one is there."""
    least = [chances.least_cosine(one) for one in LEAST]
    counts, found = np.zeros((len(LEAST), 0)), np.zeros((len(LEAST), 0))
    for chunk in asked.chunks():
        scores = scores_of(composer, gallery, chunk, name)
        targets = torch.tensor([gallery.row[edit.target.key] for edit in chunk.edits])
        own = scores.gather(1, targets[:, None])[:, 0]
        counts = np.hstack([counts, [(scores >= one).sum(dim=1).numpy() for one in least]])
        found = np.hstack([found, [(own >= one).numpy() for one in least]])
    for images, right in zip(counts.mean(axis=1), found.mean(axis=1)):
        yield f"{images:.2f} / {right:.3f}"


def cells(found: dict[str, Reliability]) -> Iterator[str]:
    for one in found.values():
        yield f"{100 * one.ece:.2f}"
        yield f"{one.brier:.4f} ({one.base_brier:.4f})"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--queries", default=2000, show_default=True, help="Seen edits, evenly chosen.")
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
    fitting = known(seen[:: max(1, len(seen) // queries)])
    checks = {HELD_OUT: known(held_out), REWORDED: reworded(held_out)}
    places = (IN_SAMPLE, OUT_OF_FOLD, *checks)
    columns = [column for place in places for column in (f"{place}: ECE, %", "Brier (base rate)")]
    table = Table("composer", *columns, title="confidence of the first ten hits")
    least = Table("composer", *(f"{one:g}: kept / right" for one in LEAST), title="min_confidence")
    for name in COMPOSERS:
        hits = judged(composer, gallery, fitting, name)
        chances = fit_chances(hits.scores, hits.right)
        found = {
            IN_SAMPLE: reliability(chances.at(hits.scores), hits.right),
            OUT_OF_FOLD: reliability(out_of_fold(hits), hits.right),
        }
        for place, asked in checks.items():
            other = judged(composer, gallery, asked, name)
            found[place] = reliability(chances.at(other.scores), other.right)
        table.add_row(name, *cells(found))
        least.add_row(name, *kept(composer, gallery, checks[HELD_OUT], name, chances))
    console = Console(width=160)
    asked = ", ".join(f"{len(one.edits):,} {place}" for place, one in checks.items())
    console.print(f"fitted on {len(fitting.edits):,} seen edits; checked on {asked}")
    console.print(table, least)


if __name__ == "__main__":
    main()
