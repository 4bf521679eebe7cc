"""The log of a run: two CSV files to plot from, and TensorBoard events."""

from __future__ import annotations

import csv
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

STEPS, VALIDATION, BOARD = "log.csv", "validation.csv", "tensorboard"

Row = dict[str, float]


class Records:
    """Rows by step. A run that goes on from an earlier step forgets what came after it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._board: SummaryWriter | None = None

    def begin(self, step: int) -> None:
        """Training goes on after ``step`` steps."""
        for name in (STEPS, VALIDATION):
            rows = [row for row in read_rows(self.folder / name) if row["step"] <= step]
            _replace(self.folder / name, rows)
        self.close()
        self._board = SummaryWriter(str(self.folder / BOARD), purge_step=step + 1)

    def stepped(self, step: int, parts: Row) -> None:
        self._add(STEPS, "train", step, parts)

    def validated(self, step: int, figures: Row) -> None:
        self._add(VALIDATION, "validation", step, figures)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _add(self, file: str, group: str, step: int, values: Row) -> None:
        _append(self.folder / file, {"step": step, **values})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


def read_rows(path: Path) -> list[Row]:
    """A log's rows; none where there is no log. A half-written last row is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        whole = [row for row in csv.DictReader(file) if all(row.values())]
    return [{name: float(value) for name, value in row.items()} for row in whole]


def _replace(path: Path, rows: list[Row]) -> None:
    fresh = path.with_name(path.name + ".part")
    fresh.unlink(missing_ok=True)
    for row in rows:
        _append(fresh, row)
    if rows:
        fresh.replace(path)
    else:
        path.unlink(missing_ok=True)


def _append(path: Path, row: Row) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row.keys())
        if fresh:
            writer.writeheader()
        writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
