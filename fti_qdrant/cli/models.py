"""``fti-search models``: known backbones and inverters, with published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.benchmarks.published import Published, published_by
from fti_qdrant.cli.console import print_tables
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.user_text import as_text, print_json, print_lines
from fti_qdrant.composers.defaults import default_composer
from fti_qdrant.model.pretrained import (
    KNOWN_INVERTERS,
    KNOWN_MODELS,
    KnownInverter,
    KnownModel,
)
from fti_qdrant.model.pretrained import RECIPE_OF_OTHER_TOOLS as OTHERS

if TYPE_CHECKING:
    from rich.table import Table

EPILOG = """\b
Examples:
  fti-search models
  fti-search models --json
"""

MODEL_COLUMNS = ("model", "for", "parameters", "d", "license", "composer", "preprocess")
INVERTER_COLUMNS = ("inverter", "for", "parameters", "license", "trained with", "composer")


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@one_line_errors(after_stop="nothing was changed")
def models(as_json: bool) -> None:
    """List known models and inverters; others work, too.

    The names are what --model and --inverter take. "composer" is the default with it.
    """
    if as_json:
        print_json(_as_dict())
        return
    print_tables([_models_table(), _names_table(), _inverters_table(), _figures_table()])
    print_lines(
        "Other models: ARCH/PRETRAINED of open_clip, hf-hub:ORG/REPO, local-dir:PATH. Other "
        "inverters: a folder, a checkpoint file, ORG/REPO[@REVISION][:FILE] on the hub."
    )


def _as_dict() -> dict[str, list[dict[str, Any]]]:
    models = [
        {**asdict(row), "composer": _composer_of(row), "published": _published(row)}
        for row in KNOWN_MODELS.values()
    ]
    inverters = [
        {**asdict(row), "composer": _composer_with(row), "published": _published(row)}
        for row in KNOWN_INVERTERS.values()
    ]
    return {"models": models, "inverters": inverters}


def _published(row: KnownModel | KnownInverter) -> list[dict[str, Any]]:
    return [asdict(one) for one in published_by(row.method)]


def _composer_of(row: KnownModel) -> str:
    """The default composer; ``mini`` comes with its inverter."""
    return default_composer(row.name, inverter=row.name in KNOWN_INVERTERS)


def _composer_with(row: KnownInverter) -> str:
    return default_composer(row.backbone, inverter=True)


def _models_table() -> Table:
    rows = [
        (
            *(row.name, row.purpose, _millions(row.parameters), str(row.dim), row.license),
            *(_composer_of(row), row.preprocess),
        )
        for row in KNOWN_MODELS.values()
    ]
    return _table("Models", MODEL_COLUMNS, rows)


def _names_table() -> Table:
    rows = [(name, row.name) for row in KNOWN_MODELS.values() for name in row.names]
    title = f"Names by which other tools know a model; with their preprocessing, {OTHERS}"
    return _table(title, ("name", "model"), rows)


def _inverters_table() -> Table:
    rows = [
        (
            *(row.name, row.purpose, _millions(row.parameters), row.license, row.backbone),
            _composer_with(row),
        )
        for row in KNOWN_INVERTERS.values()
    ]
    return _table("Inverters", INVERTER_COLUMNS, rows)


def _source(one: Published) -> str:
    """The paper of the method, and where its figures were read, if that is another."""
    own = "" if one.source == one.paper else f"; {one.source}"
    return f"{one.method}, {one.paper}{own}"


def _figures_table() -> Table:
    known: list[KnownModel | KnownInverter] = [*KNOWN_MODELS.values(), *KNOWN_INVERTERS.values()]
    rows = [
        (
            row.name,
            one.benchmark,
            one.split,
            _figures(one),
            f"{one.method}, {one.paper}; {one.source}",
        )
        for row in known
        for one in published_by(row.method)
    ]
    columns = ("", "benchmark", "split", "figures", "source")
    return _table("Published figures, in percent", columns, rows)


def _figures(row: Published) -> str:
    return ", ".join(f"{measure} {value}" for measure, value in row.figures.items())


def _millions(count: int) -> str:
    return f"{count / 1e6:,.0f} M"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        numbers = column in ("parameters", "d")
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(as_text, row))
    return table
