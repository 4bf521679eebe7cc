"""The page about composers of one's own: its code runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fti_qdrant.composers import registry
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.description import ComposerInputs
from fti_qdrant.errors import BadQuery

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_code_of_the_page_runs(monkeypatch, tiny_composer, pictures):
    monkeypatch.setattr(registry, "COMPOSERS", dict(registry.COMPOSERS))
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert isinstance(names["composer"], Composer)
    image, prompt, bare = (
        torch.nn.functional.normalize(made, dim=-1)
        for made in (
            tiny_composer.compose(pictures[:2], ["in red"] * 2, "image"),
            tiny_composer.compose(pictures[:2], ["in red"] * 2, "fti"),
            tiny_composer.compose(pictures[:2], [""] * 2, "fti"),
        )
    )
    made = tiny_composer.compose(pictures[:2], ["in red"] * 2, "pushed", options={"push": 2.0})
    expected = torch.nn.functional.normalize(image + 2 * (prompt - bare), dim=-1)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadQuery, match="'pushed': push must be at most 5"):
        tiny_composer.options("pushed", {"push": 9})


def test_every_need_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    needs = [name for name, one in vars(ComposerInputs).items() if isinstance(one, property)]
    assert len(needs) == 7
    for need in needs:
        assert f"`{need}`" in text, need
