"""Packages of extras: checked before any work, not found missing after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fti_qdrant.cli import extras
from fti_qdrant.cli.evaluate import main
from fti_qdrant.errors import FtiError


def test_an_installed_package_is_enough() -> None:
    extras.need("pytest", "test")


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(FtiError, match=r"no_such_package: pip install 'fti-qdrant\[eval\]'"):
        extras.need("no_such_package", "eval")


def test_an_evaluation_does_not_begin_without_its_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["run", "emoji", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "pip install 'fti-qdrant[eval]'" in done.output
    assert not (tmp_path / "out").exists()
