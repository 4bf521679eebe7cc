"""Validation on held-out captions: each picture found by its own composed prompt, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_training.fit.batches import Batch, Batches
from fti_training.fit.sampling_order import Rows
from fti_training.step import InverterStep, Weights

RECALL_AT = (1, 5, 10)
LOSS = "captions_loss"
FIGURES = (*(f"captions_R@{k}" for k in RECALL_AT), LOSS)


@dataclass
class RowsInOrder:
    """Batches of given rows, in order; the last may be smaller. Takes a ``SamplingOrder``'s place.

    Attributes:
        batch: rows of a batch.
    """

    chosen: Rows
    batch: int

    @property
    def steps(self) -> range:
        """The numbers of the batches."""
        return range(-(-len(self.chosen) // self.batch))

    def part(self, step: int, rank: int, size: int) -> Rows:
        """The rows of a batch; one process takes all of it."""
        return self.chosen[step * self.batch : (step + 1) * self.batch]


@dataclass
class CaptionValidation:
    """The figures of ``FIGURES`` over the held-out samples.

    R@K: the share of pictures that are among the first K for the vector of their own training
    prompt, "a photo of * with * ... *", among all held-out pictures. The loss is the training loss
    without dropout, a mean over the samples; its contrastive part is over batches of the run's
    size, so that runs with other batches have other losses.

    Attributes:
        batches, steps: of the held-out samples.
        keeps: whether their features are kept in memory after the first time, 4 bytes a number;
            otherwise they are read again each time, as those of a cache are.
        autocast: the precision of the training.
        report: called with each batch when it is read for the first time.
    """

    batches: Batches
    steps: range
    keeps: bool
    weights: Weights
    autocast: Callable[[], AbstractContextManager[object]]
    report: Callable[[Batch], None]
    _kept: list[Batch] = field(default_factory=list, init=False)
    _reported: bool = field(default=False, init=False)

    @torch.inference_mode()
    def __call__(self, backbone: Backbone, inverter: Inverter) -> dict[str, float]:
        """Raises BadImage where no picture of a batch can be read."""
        training = inverter.training
        composer = Composer(backbone, inverter.eval())
        step = InverterStep(backbone, inverter, self.weights).eval()
        pictures, queries, losses, rows = [], [], 0.0, 0
        for batch in self._read():
            features = _on(batch.features, backbone.device)
            references = composer.references(features, (1,) * len(features))
            empty = [""] * len(features)
            queries.append(composer.compose_references(references, empty, "fti").vectors.cpu())
            pictures.append(features.pooled.float().cpu())
            with self.autocast():
                total = step(features, batch.captions, batch.sentences).total
            losses, rows = losses + float(total) * len(features), rows + len(features)
        inverter.train(training)
        found = recalls(torch.cat(queries), torch.cat(pictures))
        return {**found, LOSS: losses / rows}

    def _read(self) -> Iterator[Batch]:
        if self._kept:
            yield from self._kept
            return
        with closing(self.batches.parts(self.steps)) as parts:
            for batch in parts:
                if not self._reported:
                    self.report(batch)
                if self.keeps:
                    self._kept.append(_in_memory(batch))
                yield batch
        self._reported = True


def recalls(queries: Tensor, pictures: Tensor) -> dict[str, float]:
    """R@K of each picture for its own query; ties count against it.

    Args:
        queries: ``[N, d]``, unit length.
        pictures: ``[N, d]``; rows that are equal are one picture, and the first one counts.
    """
    first: dict[bytes, int] = {}
    for row, picture in enumerate(pictures):
        first.setdefault(picture.numpy().tobytes(), row)
    rows = torch.tensor(list(first.values()))
    scores = queries[rows] @ F.normalize(pictures[rows], dim=-1).T
    ranks = (scores >= scores.diagonal()[:, None]).sum(dim=1)
    return {f"captions_R@{k}": float((ranks <= k).float().mean()) for k in RECALL_AT}


def _on(features: ImageFeatures, device: torch.device) -> ImageFeatures:
    return ImageFeatures(features.pooled.to(device), features.required_tokens().to(device))


def _in_memory(batch: Batch) -> Batch:
    features = _on(batch.features, torch.device("cpu"))
    return replace(batch, features=features)
