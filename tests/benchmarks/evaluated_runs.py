"""Whole runs of ``fti-eval`` in the test's own process, and what they left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from fti_qdrant.cli.evaluate import main


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], env={"COLUMNS": "200"})


@dataclass(frozen=True)
class EvaluatedRun:
    """A whole run over stand-in images, and what it printed."""

    name: str
    root: Path
    out: Path
    output: str

    @property
    def metrics(self) -> Any:
        return json.loads((self.out / "metrics.json").read_text())
