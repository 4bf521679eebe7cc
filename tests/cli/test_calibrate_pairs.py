"""``fti-eval calibrate --pairs`` on the embedded model, and ``fti-search`` on what it stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fti_qdrant import Composer
from fti_qdrant.cli.evaluate import main as evaluate
from fti_qdrant.cli.search import main as search
from fti_qdrant.gallery import point_id

TEXTS = [f"{color} {number}" for color in ("red", "dark", "blue", "a hat") for number in range(10)]


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments], env={"COLUMNS": "200"})


def write_pairs(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(["not json", *map(json.dumps, lines)]))
    return path


def test_from_clicks_to_a_search(
    place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Composer.load("mini", device="cpu")
    monkeypatch.setattr(Composer, "load", lambda *_, **__: loaded)  # once is enough
    gallery = place["folder"] / "gallery"
    ids = [point_id(f"{number}.png") for number in range(6)]
    clicks = [
        {"text": text, "right": [ids[number % 3]], "shown": ids[:5]}
        for number, text in enumerate(TEXTS)
    ]
    pairs = write_pairs(tmp_path / "clicks.jsonl", clicks)
    kept = run(
        *(evaluate, "calibrate", "--pairs", pairs, "--gallery", gallery),
        *("--out", tmp_path / "shop.json", "--json"),
    )
    assert kept.exit_code == 0, kept.output
    assert not (gallery / "calibration.json").exists()
    done = run(evaluate, "calibrate", "--pairs", pairs, "--gallery", gallery)
    assert done.exit_code == 0, done.output
    assert re.search(r"text \(text\) +│ +40 │ +200 │ +40 │", done.stdout), done.stdout
    assert "1 queries were left out:\nline 1: is not JSON" in done.stdout
    [told] = json.loads(kept.stdout)["fitted"]
    assert (told["queries"], told["hits"], told["right"]) == (40, 200, 40)
    table = run(search, "--gallery", gallery, "--text", "red 3", "--min-confidence", 0)
    assert re.search(r"score +┃ confidence ┃", table.stdout), table.stdout
    chances = [int(one) for one in re.findall(r"│ +(\d+)% │", table.stdout)]
    assert len(chances) == 6
    assert chances == sorted(chances, reverse=True)
    assert all(0 < one < 100 for one in chances)
