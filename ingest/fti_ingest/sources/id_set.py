"""A set of ids that takes 8 bytes for each."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def short_id(id: str) -> int:
    """A hash of an id, 8 bytes: of 100 million, two agree with a probability of 1 in 3,700.

    A part of the id would not do: the UUIDs that other programs make may differ in a few bits, and
    a number may be small.
    """
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


class SeenIds:
    """A growing set of short ids: sorted runs, merged when they are equally long."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, ids: np.ndarray) -> np.ndarray:
        """uint64 ``[n]`` -> bool ``[n]``: True for the first occurrence of each id."""
        values, first = np.unique(ids, return_index=True)
        present = np.zeros(len(values), dtype=bool)
        for run in self._runs:
            places = np.searchsorted(run, values).clip(max=len(run) - 1)
            present |= run[places] == values
        new = np.zeros(len(ids), dtype=bool)
        new[first[~present]] = True
        self._insert(values[~present])
        return new

    def _insert(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")
        if len(run):
            self._runs.append(run)
