"""The pictures and batches that the mini model learns from."""

from __future__ import annotations

import pytest
import torch

from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.images import Preprocess
from fti_training.mini.pictures import Pictures, TrainingSet, draw_all, shifted, trainable

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return TrainingSet(PREPROCESS, most=700)


def test_drawn_pictures_are_upright_and_over_white() -> None:
    drawn = draw_all("twemoji", PREPROCESS, most=20)
    assert drawn.pixels.shape == (20, 3, 32, 32)
    assert drawn.pixels.dtype == torch.uint8
    corners = drawn.pixels[:, :, 0, 0]
    assert (corners == 255).all(dim=1).float().mean() > 0.5


def test_held_out_pictures_and_their_twins_are_left_out() -> None:
    emoji = list(all_emoji())
    held_out = next(one for one in emoji if one.held_out)
    first, second, third = [one for one in emoji if not one.held_out][:3]
    pixels = torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    for row, shade in enumerate((10, 10, 20, 20, 30)):
        pixels[row] = shade
    pictures = Pictures(pixels, [first, held_out, second, third, third])
    kept = trainable(pictures)
    assert [one.key for one in kept.emoji] == [second.key, third.key]
    assert kept.pixels[:, 0, 0, 0].tolist() == [20, 30]


def test_nothing_held_out_is_trained_on(data: TrainingSet) -> None:
    assert not any(emoji.held_out for emoji in data.emoji)


def test_no_emoji_stands_twice_in_a_batch(data: TrainingSet) -> None:
    batch_of = data.numbered_batches(64, seed=0)
    for number in range(60):
        keys = [data.emoji[index].key for index in batch_of(number)]
        assert len(keys) == 64
        # one batch may run over the seam of the two artworks, where an emoji may return
        assert len(set(keys)) >= 60


def test_a_resumed_run_sees_the_batches_of_an_undisturbed_one(data: TrainingSet) -> None:
    undisturbed = data.numbered_batches(64, seed=3)
    batches = [undisturbed(number) for number in range(30)]
    resumed = data.numbered_batches(64, seed=3)
    assert [resumed(number) for number in range(17, 30)] == batches[17:]


def test_shifting_moves_the_picture_and_fills_with_its_border() -> None:
    pixels = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8)
    pixels[:, :, 8, 8] = 0
    for seed in range(5):
        moved = shifted(pixels, torch.Generator().manual_seed(seed))
        assert moved.shape == pixels.shape
        assert moved.dtype == torch.uint8
        assert int((moved == 0).sum()) == 6
