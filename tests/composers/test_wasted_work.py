"""Nothing runs that the composer does not need: calls of each part are counted."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import COMPOSERS
from fti_qdrant.errors import BadQuery


@pytest.fixture
def calls(tiny_composer, monkeypatch) -> Counter[str]:
    """How often each part of the model ran."""
    counted: Counter[str] = Counter()
    parts = {
        "image tower": (tiny_composer.backbone, "visual_pass"),
        "text tower": (tiny_composer.backbone, "text_features"),
        "inverter": (tiny_composer.inverter, "forward"),
    }
    for name, (owner, attribute) in parts.items():
        original = getattr(owner, attribute)

        def count(*args, name=name, original=original, **options):
            counted[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, attribute, count)
    return counted


@pytest.mark.parametrize("name", COMPOSERS)
def test_a_composer_runs_what_it_needs_and_no_more(tiny_composer, pictures, calls, name):
    tiny_composer.compose(pictures[:2], ["in red", "smaller"], name)
    one = COMPOSERS[name]
    assert calls["image tower"] == one.uses_image
    assert calls["text tower"] == one.uses_text
    assert calls["inverter"] == one.needs_inverter


def test_references_for_composers_without_inverter(tiny_composer, pictures, calls):
    features = tiny_composer.backbone.image_features(pictures[:2])
    references = tiny_composer.references(features, (1, 1), invert=False)
    assert references.words is None
    assert not calls["inverter"]
    tiny_composer.compose_references(references, ["a", "b"], "sum")
    with pytest.raises(BadQuery, match=r"'pdv' needs pseudo-words.*invert=True"):
        tiny_composer.compose_references(references, ["a", "b"])


def test_texts_need_no_reference(tiny_composer, calls):
    composed = tiny_composer.texts(["in red", "in blue"])
    torch.testing.assert_close(
        composed.vectors, tiny_composer.backbone.texts(["in red", "in blue"])
    )
    assert not calls["image tower"]
    for name in ("fti", "sum", "image"):
        with pytest.raises(BadQuery, match=f"'{name}' needs a reference image"):
            tiny_composer.compose_references(None, ["in red"], name)


def test_names_before_the_composer_argument_still_work(tiny_composer, pictures):
    wanted = tiny_composer.compose(pictures[:1], ["in red"], composer="sum")
    with pytest.warns(DeprecationWarning, match=r"compose\(method=...\).*use composer="):
        old = tiny_composer.compose(pictures[:1], ["in red"], method="sum")
    assert torch.equal(old, wanted)
    with pytest.warns(DeprecationWarning, match="use default_composer"):
        assert tiny_composer.default_method == "pdv"


def test_without_a_name_the_best_composer_is_taken(tiny_backbone, tiny_composer, pictures):
    for composer, best in ((tiny_composer, "pdv"), (Composer(tiny_backbone), "sum")):
        default = composer.compose(pictures[:2], ["in red", "smaller"])
        assert torch.equal(default, composer.compose(pictures[:2], ["in red", "smaller"], best))
