"""The log of a run: two CSV files to plot from, and TensorBoard events."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fti_qdrant.atomic_files import write_text

STEPS, VALIDATION, BOARD = "log.csv", "validation.csv", "tensorboard"

Row = dict[str, float]


def has_tensorboard() -> bool:
    """Whether TensorBoard events can be written; the CSV files need no package."""
    return find_spec("tensorboard") is not None


class Records:
    """Rows by step. A run that resumes from an earlier step drops the rows after it."""

    def __init__(self, folder: Path, board: bool = True):
        """``board`` asks for TensorBoard events, which need the package tensorboard."""
        self.folder = folder
        self._wants_board = board and has_tensorboard()
        self._board: Any = None

    def begin(self, step: int) -> None:
        """Training starts, or resumes, after ``step`` steps."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (STEPS, VALIDATION):
            rows = [row for row in read_rows(self.folder / name) if row["step"] <= step]
            _replace(self.folder / name, rows)
        self.close()
        if self._wants_board:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / BOARD), purge_step=step + 1)

    def stepped(self, step: int, figures: Row) -> None:
        self._add(STEPS, "train", step, figures)

    def validated(self, step: int, figures: Row) -> None:
        self._add(VALIDATION, "validation", step, figures)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _add(self, file: str, group: str, step: int, values: Row) -> None:
        row, path = {"step": step, **values}, self.folder / file
        header = not path.exists()
        if not header and (before := _header(path)) != [*row]:
            row = _widen(path, before, row)
        with path.open("a", newline="", encoding="utf-8") as log:
            log.write(_lines([row], header))
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


def read_rows(path: Path) -> list[Row]:
    """A log's rows; none where there is no log. A last row that was cut off is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        whole = [row for row in csv.DictReader(file) if all(row.values())]
    return [{name: float(value) for name, value in row.items()} for row in whole]


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _widen(path: Path, before: list[str], row: Row) -> Row:
    """Gives a log the columns of a new row too, as after a change of the validation.

    Returns the row with all columns; what is not known is nan.
    """
    names = dict.fromkeys([*before, *row])
    rows = [{name: one.get(name, math.nan) for name in names} for one in read_rows(path)]
    _replace(path, rows)
    return {name: row.get(name, math.nan) for name in names}


def _replace(path: Path, rows: list[Row]) -> None:
    if rows:
        write_text(path, _lines(rows, header=True))
    else:
        path.unlink(missing_ok=True)


def _lines(rows: Iterable[Row], header: bool) -> str:
    text = io.StringIO(newline="")
    for number, row in enumerate(rows):
        writer = csv.DictWriter(text, row.keys())
        if header and not number:
            writer.writeheader()
        writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
    return text.getvalue()
