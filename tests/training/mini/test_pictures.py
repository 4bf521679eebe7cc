"""The pictures and batches that the mini model learns from."""

from __future__ import annotations

import pytest
import torch

from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.images import Preprocess
from fti_training.mini.pictures import (
    Pictures,
    TrainingSet,
    draw_all,
    draw_artworks,
    mirrored,
    trainable,
)

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def drawn() -> dict[str, Pictures]:
    return draw_artworks(PREPROCESS, most=700)


@pytest.fixture(scope="module")
def data(drawn: dict[str, Pictures]) -> TrainingSet:
    return TrainingSet(drawn)


def test_drawn_pictures_are_upright_and_over_white() -> None:
    drawn = draw_all("twemoji", PREPROCESS, most=20)
    assert drawn.pixels.shape == (20, 3, 32, 32)
    assert drawn.pixels.dtype == torch.uint8
    corners = drawn.pixels[:, :, 0, 0]
    assert (corners == 255).all(dim=1).float().mean() > 0.5


def test_held_out_pictures_and_twins_are_left_out() -> None:
    emoji = list(all_emoji())
    held_out, other = [one for one in emoji if one.held_out][:2]
    first, second, third, fourth = [one for one in emoji if not one.held_out][:4]
    pixels = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
    for row, shade in enumerate((10, 10, 20, 20, 30, 40)):
        pixels[row] = shade
    pictures = Pictures(pixels, [first, held_out, second, third, fourth, other])
    kept = trainable(pictures)
    assert [one.key for one in kept.emoji] == [fourth.key]
    assert kept.pixels[:, 0, 0, 0].tolist() == [30]


def test_nothing_held_out_is_trained_on(data: TrainingSet) -> None:
    assert not any(emoji.held_out for emoji in data.emoji)


def test_only_animals_with_a_left_and_a_right_are_mirrored() -> None:
    names = {emoji.name: emoji for emoji in all_emoji()}
    dog, moon, man = (names[name] for name in ("dog", "first quarter moon", "man walking"))
    sides = torch.zeros(3, 2, 4, dtype=torch.uint8)
    sides[..., 0] = 200
    alike = torch.full((3, 2, 4), 7, dtype=torch.uint8)
    pictures = Pictures(torch.stack([sides, alike, sides, sides]), [dog, names["cat"], moon, man])
    made = mirrored(pictures)
    assert [emoji.name for emoji in made.emoji] == ["dog facing right"]
    assert made.emoji[0].family == dog.family
    assert made.pixels[0, 0, 0].tolist() == [0, 0, 0, 200]


def test_the_training_set_with_mirrors_still_holds_out_what_is_held_out(
    drawn: dict[str, Pictures], data: TrainingSet
) -> None:
    plain, more = data, TrainingSet(drawn, mirrors=True)
    extra = {emoji.key for emoji in more.emoji} - {emoji.key for emoji in plain.emoji}
    assert extra
    assert all(key.endswith("-200d-27a1") for key in extra)
    assert not any(emoji.held_out for emoji in more.emoji)


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
