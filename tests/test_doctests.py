"""The examples in the library's docstrings are true."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import fti_qdrant

ROOT = Path(fti_qdrant.__file__).parent
APPLICATIONS = ("benchmarks", "cli", "report")
"""Rooms whose examples their own tests run."""


def modules_with_examples() -> list[str]:
    paths = [path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    inside = [path.relative_to(ROOT.parent).with_suffix("") for path in sorted(paths)]
    return [".".join(path.parts) for path in inside if path.parts[1] not in APPLICATIONS]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0
