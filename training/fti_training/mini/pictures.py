"""The pictures that the mini model learns from and is measured on."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from fti_qdrant.benchmarks.emoji.artwork import FOLDERS, drawings, picture
from fti_qdrant.benchmarks.emoji.facts import JOINER, RIGHT_ARROW, Emoji, all_emoji
from fti_qdrant.images import Preprocess, to_rgb
from fti_qdrant.parallel_map import parallel_map

SIBLINGS = 12
"""Members of one family that are put into a batch together, as hard negatives of each other."""

LOOKALIKES = 16
"""Emoji of different scenes with the same attributes that are put into a batch together."""


MIRRORED_GROUP = "Animals & Nature"
MIN_ASYMMETRY = 10.0
"""Least mean difference from its mirror image, of 255, of a picture that has a direction."""


@dataclass(frozen=True)
class Pictures:
    """Drawn emoji: ``pixels[i]``, uint8 ``[3, size, size]``, shows ``emoji[i]``."""

    pixels: Tensor
    emoji: list[Emoji]

    def __len__(self) -> int:
        return len(self.emoji)

    def subset(self, keep: list[int]) -> Pictures:
        return Pictures(self.pixels[keep], [self.emoji[i] for i in keep])

    def join(self, other: Pictures) -> Pictures:
        return Pictures(torch.cat([self.pixels, other.pixels]), self.emoji + other.emoji)


def draw_all(artwork: str, preprocess: Preprocess, most: int | None = None) -> Pictures:
    """Every emoji of an artwork (or the first ``most``), by the backbone's preprocessing."""
    by_key = {emoji.key: emoji for emoji in all_emoji()}
    files = dict(islice(drawings(artwork).items(), most))
    drawn = parallel_map(lambda svg: preprocess.pixels(to_rgb(picture(svg))), files.values())
    pixels = list(track(drawn, description=f"drawing {artwork}", total=len(files)))
    return Pictures(torch.from_numpy(np.stack(pixels)), [by_key[key] for key in files])


def draw_artworks(preprocess: Preprocess, most: int | None = None) -> dict[str, Pictures]:
    """Artwork -> all of its pictures."""
    return {artwork: draw_all(artwork, preprocess, most) for artwork in FOLDERS}


def trainable(pictures: Pictures) -> Pictures:
    """Without held-out combinations, and without pictures that are identical to another one.

    OpenMoji draws some persons as men: a picture with two names teaches neither.
    """
    twins: dict[bytes, list[int]] = {}
    for index, pixels in enumerate(pictures.pixels):
        twins.setdefault(pixels.numpy().tobytes(), []).append(index)
    alone = [group[0] for group in twins.values() if len(group) == 1]
    return pictures.subset([index for index in alone if not pictures.emoji[index].held_out])


def mirrored(pictures: Pictures) -> Pictures:
    """Mirror images of animals, named as Unicode names people: "facing right".

    Unicode states a direction for six scenes only, too few to learn its meaning.
    """
    chosen = [
        index
        for index, emoji in enumerate(pictures.emoji)
        if emoji.group == MIRRORED_GROUP and not emoji.facets and _has_sides(pictures.pixels[index])
    ]
    emoji = [_facing_right(pictures.emoji[index]) for index in chosen]
    return Pictures(pictures.pixels[chosen].flip(-1), emoji)


class TrainingSet:
    """Twemoji and OpenMoji pictures without the held-out ones, in batches of whole families."""

    def __init__(self, drawn: Mapping[str, Pictures], mirrors: bool = False):
        """Artwork -> its pictures; ``mirrors`` adds mirror images of animals."""
        parts = [trainable(pictures) for pictures in drawn.values()]
        if mirrors:
            parts = [part.join(mirrored(part)) for part in parts]
        self.pixels = torch.cat([part.pixels for part in parts])
        self.emoji = [emoji for part in parts for emoji in part.emoji]
        self.artworks = [
            {emoji.key: start + i for i, emoji in enumerate(part.emoji)}
            for part, start in zip(parts, (0, len(parts[0])))
        ]
        self.distinct = list({emoji.key: emoji for emoji in self.emoji}.values())
        self.families = _grouped(self.distinct, _family)

    def batches(self, size: int, rng: random.Random) -> Iterator[list[int]]:
        """Endless batches of picture indices; no emoji is in a batch twice.

        A model learns to tell apart what is in a batch together. Half of each epoch is grouped by
        siblings (the same person with another skin tone, gender or direction), half by lookalikes
        (other people with the same skin tone).
        """
        while True:
            families = rng.sample(self.families, len(self.families))
            half = len(families) // 2
            others = [emoji for family in families[half:] for emoji in family]
            chunks = [
                *_chunks(families[:half], SIBLINGS, rng),
                *_chunks(_grouped(others, _appearance), LOOKALIKES, rng),
            ]
            rng.shuffle(chunks)
            first = [rng.randrange(2) for _ in chunks]
            for turn in (0, 1):
                line = [
                    self.artworks[(artwork + turn) % 2][emoji.key]
                    for chunk, artwork in zip(chunks, first)
                    for emoji in chunk
                    if emoji.key in self.artworks[(artwork + turn) % 2]
                ]
                for start in range(0, len(line) - size + 1, size):
                    yield line[start : start + size]

    def numbered_batches(self, size: int, seed: int) -> Callable[[int], list[int]]:
        """Batch number n of the sequence, for growing n; a resumed run skips to its first one."""
        numbered = enumerate(self.batches(size, random.Random(seed)))
        return lambda number: next(batch for n, batch in numbered if n == number)


def _has_sides(pixels: Tensor) -> bool:
    return float((pixels.float() - pixels.flip(-1).float()).abs().mean()) > MIN_ASYMMETRY


def _facing_right(emoji: Emoji) -> Emoji:
    """With the key that Unicode would give it, if it had a direction."""
    direction = "facing right"
    return replace(
        emoji,
        key=f"{emoji.key}-{JOINER:x}-{RIGHT_ARROW:x}",
        name=f"{emoji.name} {direction}",
        facets={"direction": direction},
    )


def _grouped(emoji: list[Emoji], key: Callable[[Emoji], Hashable]) -> list[list[Emoji]]:
    groups: dict[Hashable, list[Emoji]] = {}
    for one in emoji:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _family(emoji: Emoji) -> Hashable:
    """Couples of two skin tones state no facet; they are grouped with the same two people."""
    return emoji.family if emoji.facets else emoji.scene


def _appearance(emoji: Emoji) -> Hashable:
    """What lookalikes have in common."""
    return (emoji.group, *emoji.attributes, emoji.facets.get("gender"))


def _chunks(groups: list[list[Emoji]], most: int, rng: random.Random) -> Iterator[list[Emoji]]:
    """Each group shuffled, and cut into chunks of at most ``most``."""
    for group in groups:
        members = rng.sample(group, len(group))
        for start in range(0, len(members), most):
            yield members[start : start + most]
