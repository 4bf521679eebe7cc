"""A share of the captioned pictures that is kept out of training, for validation."""

from __future__ import annotations

import numpy as np

from fti_qdrant.errors import FtiError
from fti_training.fit.sampling_order import Rows
from fti_training.samples import Samples

SALT = 4_711
"""Keeps the choice apart from the shuffling of the epochs, which has the same seed."""


def divide(samples: Samples, share: float, seed: int) -> tuple[Rows, Rows]:
    """The rows to train on, and the rows that are held out, each in the order of the samples.

    Pictures are drawn, not rows: all captions of a picture are on one side. The same samples, share
    and seed give the same rows, in every process and in a resumed run.

    Raises FtiError where fewer than two pictures would be held out.
    """
    rows = np.arange(len(samples), dtype=np.int64)
    if not share:
        return rows, rows[:0]
    number: dict[str, int] = {}
    pictures = np.array(
        [number.setdefault(uri, len(number)) for uri in samples.table["uri"].to_pylist()]
    )
    count = round(share * len(number))
    if count < 2:
        raise FtiError(
            f"held_out={share:g} of {len(number):,} pictures is {count}, and two are needed to "
            "tell one from another; hold out a larger share"
        )
    drawn = np.random.default_rng([seed, SALT]).permutation(len(number))[:count]
    held = np.isin(pictures, drawn)
    return rows[~held], rows[held]
