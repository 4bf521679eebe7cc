"""One process of a gloo group: RANK SIZE FOLDER. Takes its part of a batch, writes what it saw."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fti_qdrant.model.backbone import ImageFeatures
from fti_training.distributed import DistributedGroup
from fti_training.step import InverterStep, Weights


def main(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    given = torch.load(f"{folder}/given.pt", weights_only=False)  # the test wrote it itself
    backbone, inverter, features, captions, triplets = given
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    group = DistributedGroup()
    rows = torch.arange(len(features)).chunk(size)[rank].tolist()
    step = DistributedDataParallel(InverterStep(backbone, inverter, Weights(triplet=0.7), group))
    part = ImageFeatures(features.pooled[rows], features.tokens[rows])
    loss = step(part, [captions[row] for row in rows], triplets=triplets[rank])
    loss.total.backward()
    gradients = {name: one.grad for name, one in inverter.named_parameters()}
    votes = [group.any(rank == 1), group.any(False)]
    torch.save((loss.figures(group), gradients, votes), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
