"""The model card of a run: what the inverter was trained on, how, and with which results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import pyplot

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import CheckpointError
from fti_training.fit.config import FitConfig
from fti_training.fit.data_facts import DataFacts
from fti_training.fit.run import read_config
from fti_training.fit.state import INVERTER
from fti_training.loop.records import STEPS, VALIDATION, Row, read_rows

CURVE, CARD = "curve.png", "README.md"
LOSSES = ("total", "contrastive", "orthogonality", "tri_wise", "triplet")


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run left in its folder."""

    folder: Path
    config: FitConfig
    data: DataFacts
    steps: list[Row]
    validation: list[Row]

    @classmethod
    def read(cls, folder: Path) -> FinishedRun:
        """Raises CheckpointError where the folder holds no trained inverter with its log."""
        if not (folder / INVERTER / "config.json").is_file():
            raise CheckpointError(
                f"{str(folder)!r} holds no {INVERTER}/; pass the --out of a finished fti-train fit"
            )
        steps = read_rows(folder / STEPS)
        if not steps:
            raise CheckpointError(f"{str(folder / STEPS)!r} is missing or empty; the card needs it")
        data = DataFacts.read(folder)
        return cls(folder, read_config(folder), data, steps, read_rows(folder / VALIDATION))


def write_card(run: FinishedRun, license: str) -> Path:
    """Writes README.md and the curve beside the inverter's weights; the card's path."""
    target = run.folder / INVERTER
    draw_curve(run, target / CURVE)
    environment = Environment(
        loader=PackageLoader("fti_training.card", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    card = target / CARD
    text = environment.get_template("card.md.j2").render(license=license, **facts(run))
    write_text(card, text)
    return card


def facts(run: FinishedRun) -> dict[str, Any]:
    """The variables of the template."""
    return {
        "config": run.config.model_dump(mode="json"),
        "data": run.data,
        "last": run.steps[-1],
        "first": run.steps[0],
        "validation": run.validation,
        "curve": CURVE,
    }


def draw_curve(run: FinishedRun, path: Path) -> None:
    """Plots the losses over the steps, and the validation if there was one."""
    columns = 2 if run.validation else 1
    figure, axes = pyplot.subplots(
        1, columns, figsize=(5.5 * columns, 3.6), layout="constrained", squeeze=False
    )
    losses = axes[0][0]
    for name in (one for one in LOSSES if one in run.steps[0]):
        losses.plot(_column(run.steps, "step"), _column(run.steps, name), label=name)
    losses.set_xlabel("step")
    losses.set_title("loss")
    losses.legend()
    if run.validation:
        recall = axes[0][1]
        for name in run.validation[0]:
            if name != "step":
                values = _column(run.validation, name)
                recall.plot(_column(run.validation, "step"), values, marker="o", label=name)
        recall.set_xlabel("step")
        recall.set_title("validation")
        recall.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _column(rows: list[Row], name: str) -> list[float]:
    return [row[name] for row in rows]
