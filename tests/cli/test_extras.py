"""Packages of an extra: asked for before the work, not missed after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fti_qdrant.cli import extras
from fti_qdrant.cli.evaluate import main
from fti_qdrant.errors import FtiError


def test_what_is_installed_is_not_asked_for() -> None:
    extras.need("pytest", "test")


def test_what_is_missing_is_told_with_its_extra() -> None:
    with pytest.raises(FtiError, match=r"no_such_package: pip install 'fti-qdrant\[eval\]'"):
        extras.need("no_such_package", "eval")


def test_an_evaluation_does_not_begin_without_its_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    told = CliRunner().invoke(main, ["run", "emoji", "--out", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert "pip install 'fti-qdrant[eval]'" in told.output
    assert not (tmp_path / "out").exists()
