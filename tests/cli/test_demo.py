"""``fti-demo``: the main job from nothing to a page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fti_qdrant.benchmarks.emoji.showcase import SHOWCASES
from fti_qdrant.gallery import EdgeGallery


def demo(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fti_qdrant.cli.demo", "--out", str(out)],
        capture_output=True,
        text=True,
        env={"COLUMNS": "220", "PATH": "/usr/bin:/bin", "HOME": str(out.parent)},
        timeout=540,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("home") / "demo"
    done = demo(out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_ingests_every_picture(shown: tuple[Path, str]) -> None:
    out, told = shown
    pictures = len(list((out / "pictures").glob("*.png")))
    assert pictures > 3_500
    assert f"{pictures:,} images in: {pictures:,} stored, 0 unchanged, 0 rejected" in told
    with EdgeGallery.open(out / "gallery") as gallery:
        assert gallery.count() == pictures
        assert gallery.spec.words is not None


def test_the_right_answers_are_among_the_hits(shown: tuple[Path, str]) -> None:
    _, told = shown
    ranks = [
        [cell.strip() for cell in line.split("│")[4:7:2]]
        for line in told.splitlines()
        if re.search(r"│\s+(\d|> 7)\s+│", line)
    ]
    assert len(ranks) == len(SHOWCASES)
    free = [rank for rank, _ in ranks]
    filtered = [rank for _, rank in ranks]
    assert free.count("1") >= len(SHOWCASES) / 2
    assert all(rank.isdigit() and int(rank) <= 3 for rank in filtered)


def test_the_page_shows_every_query_without_and_with_its_filter(shown: tuple[Path, str]) -> None:
    out, _ = shown
    page = (out / "index.html").read_text(encoding="utf-8")
    for one in SHOWCASES:
        assert page.count(f">{one.text}<") == 2
    assert page.count('<section class="row">') == 2 * len(SHOWCASES)
    assert page.count("data:image/webp;base64,") > 100
    assert "http" not in re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", page)


def test_a_second_run_stores_nothing_again(shown: tuple[Path, str]) -> None:
    out, _ = shown
    done = demo(out)
    assert done.returncode == 0, done.stderr
    assert re.search(r": 0 stored, [\d,]+ unchanged, 0 rejected", done.stdout)


def test_help_shows_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fti_qdrant.cli.demo", "--help"], capture_output=True, text=True
    )
    assert "Examples:" in done.stdout
