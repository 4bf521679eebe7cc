"""The composed queries that the mini inverter can be trained on."""

from __future__ import annotations

import pytest
import torch

from fti_qdrant.benchmarks.emoji.edits import changed_facets
from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.model.features import ImageFeatures
from fti_training.mini.backbone import fresh_clip, wrap
from fti_training.mini.config import MiniConfig
from fti_training.mini.pictures import Pictures, TrainingSet
from fti_training.mini.triplets import TripletWriter

SMALL = MiniConfig(width=64, visual_layers=1, text_layers=1)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Firefighters and two emoji without edits, in two artworks; the second lacks one of them."""
    emoji = [one for one in all_emoji() if "firefighter" in one.name or one.name in ("cat", "dog")]
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (2, len(emoji), 3, 64, 64), dtype=torch.uint8)
    artworks = {"one": Pictures(pixels[0], emoji), "two": Pictures(pixels[1][1:], emoji[1:])}
    return TrainingSet(artworks)


def test_each_query_leads_to_an_emoji_that_differs_in_one_facet(data: TrainingSet) -> None:
    backbone = wrap(fresh_clip(SMALL))
    features = ImageFeatures(torch.randn(len(data.emoji), backbone.dim))
    writer = TripletWriter.of(SMALL, backbone, data, features)
    chosen = list(range(len(data.emoji)))
    made, again = writer(chosen, 7), writer(chosen, 7)
    assert (made.rows, made.texts) == (again.rows, again.texts)
    assert made.texts != writer(chosen, 8).texts
    without = [row for row in chosen if data.emoji[row].name in ("cat", "dog")]
    assert made.rows == [row for row in chosen if row not in without]
    for number, (row, text) in enumerate(zip(made.rows, made.texts)):
        found = (features.pooled == made.targets[number]).all(dim=1).nonzero()
        target = data.emoji[int(found)]
        changed = changed_facets(data.emoji[row], target)
        assert len(changed) == 1
        assert not target.held_out
        assert target.facets[changed[0]].split()[0] in text
        alike = (made.shown == made.answers[number]).nonzero()[:, 0].tolist()
        assert {data.emoji[chosen[at]].key for at in alike} == {target.key}
