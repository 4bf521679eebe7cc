"""The weights in the package: the bars of the design, on combinations held out of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, UNSEEN_WORDINGS
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import Gallery, embed, text_to_image
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import (
    GALLERY_ARTWORK,
    Figures,
    Mini,
    measure_paraphrases,
    measure_wordings,
)


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Mini.load(MINI).composer


@pytest.fixture(scope="module")
def gallery(composer: Composer) -> Gallery:
    return embed(composer.backbone, draw_all(GALLERY_ARTWORK, composer.backbone.preprocess))


@pytest.fixture(scope="module")
def figures(composer: Composer, gallery: Gallery) -> Figures:
    return {
        "text to image": {"text": text_to_image(composer.backbone, gallery)},
        "known wordings": measure_wordings(composer, gallery, KNOWN_WORDINGS),
        "unseen wordings": measure_wordings(composer, gallery, UNSEEN_WORDINGS),
    }


@pytest.fixture(scope="module")
def paraphrased(composer: Composer, gallery: Gallery) -> dict[str, dict[str, float]]:
    """On every fifth held-out edit."""
    return measure_paraphrases(composer, gallery, ("pdv", "fti"), every=5)


def test_held_out_pictures_are_found_by_name(figures: Figures) -> None:
    assert figures["text to image"]["text"]["R@1"] >= 0.95


def test_composed_search_meets_its_bars(figures: Figures) -> None:
    known = figures["known wordings"]
    assert known["fti"]["R@1"] >= 0.9
    assert known["fti"]["R@10"] >= 0.99
    assert known["fti"]["R@1"] > known["subject"]["R@1"]
    best = max(known[method]["R@1"] for method in composer_names(inverter=False))
    assert known["fti"]["R@1"] >= 2.2 * best


def test_wordings_that_training_never_used_work_too(figures: Figures) -> None:
    unseen = figures["unseen wordings"]
    best = max(unseen[method]["R@1"] for method in composer_names(inverter=False))
    assert unseen["fti"]["R@1"] >= 0.9
    assert unseen["fti"]["R@1"] >= 2.2 * best


def test_sentences_as_people_write_them_work_too(
    paraphrased: dict[str, dict[str, float]],
) -> None:
    assert paraphrased["true name"]["R@1"] >= 0.9
    assert paraphrased["pdv"]["R@1"] >= 0.86
    assert paraphrased["pdv"]["deviation"] <= 0.12


def test_the_card_tells_these_figures(
    figures: Figures, paraphrased: dict[str, dict[str, float]]
) -> None:
    card = (MINI / "README.md").read_text(encoding="utf-8")
    for name, row in paraphrased.items():  # of a fifth of the edits
        told = [float(cell) for cell in _row(card.partition("**unused")[2], name, row)]
        assert told == pytest.approx(list(row.values()), abs=0.06)
    for rows in figures.values():
        for name, row in rows.items():
            line = next(line for line in card.splitlines() if line.startswith(f"| {name} "))
            assert line
            told = [float(cell) for cell in _row(card, name, row)]
            assert told == pytest.approx(list(row.values()), abs=0.006)


def test_the_weights_are_small() -> None:
    size = sum(path.stat().st_size for path in Path(MINI).rglob("*.safetensors"))
    assert size <= 40_000_000


def _row(card: str, name: str, row: dict[str, float]) -> list[str]:
    """The cells of the card's line that is nearest to the measured ones."""
    lines = [line for line in card.splitlines() if line.startswith(f"| {name} |")]
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]
    wanted = list(row.values())
    return min(cells, key=lambda found: sum(abs(float(f) - w) for f, w in zip(found, wanted)))
