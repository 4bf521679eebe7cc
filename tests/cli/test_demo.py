"""``fti-demo``: the main job from nothing to a page. One run serves all tests."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fti_qdrant.benchmarks.emoji.showcase import SHOWCASES
from fti_qdrant.cli.demo import main
from fti_qdrant.gallery import EdgeGallery

NOT_DRAWN = 200
"""Images that the demo draws itself in these tests; it finds the others."""


@dataclass(frozen=True)
class Demo:
    """A demo's folder, and what it printed."""

    out: Path
    output: str


def run_demo(out: Path) -> Result:
    return CliRunner().invoke(main, ["--out", str(out)], env={"COLUMNS": "220"})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, emoji_pictures: Path) -> Demo:
    out = tmp_path_factory.mktemp("home") / "demo"
    (out / "pictures").mkdir(parents=True)
    for path in sorted(emoji_pictures.glob("*.png"))[NOT_DRAWN:]:
        os.link(path, out / "pictures" / path.name)
    done = run_demo(out)
    assert done.exit_code == 0, done.output
    return Demo(out, done.stdout)


def test_it_ingests_every_picture(demo: Demo) -> None:
    pictures = len(list((demo.out / "pictures").glob("*.png")))
    assert pictures > 3_500
    assert f"{pictures:,} images in: {pictures:,} stored, 0 unchanged, 0 rejected" in demo.output
    with EdgeGallery.open(demo.out / "gallery") as gallery:
        assert gallery.count() == pictures
        assert gallery.spec.words is not None


def test_it_ends_with_the_command_that_serves_it(demo: Demo) -> None:
    assert demo.output.splitlines()[-1].endswith(f"fti-serve --gallery {demo.out / 'gallery'}")


def test_the_right_answers_are_among_the_results(demo: Demo) -> None:
    ranks = [
        [cell.strip() for cell in line.split("│")[4:7:2]]
        for line in demo.output.splitlines()
        if re.search(r"│\s+(\d|> 7)\s+│", line)
    ]
    assert len(ranks) == len(SHOWCASES)
    unfiltered = [rank for rank, _ in ranks]
    filtered = [rank for _, rank in ranks]
    assert unfiltered.count("1") >= len(SHOWCASES) / 2
    assert all(rank.isdigit() and int(rank) <= 3 for rank in filtered)


def test_the_page_shows_every_query_without_and_with_its_filter(demo: Demo) -> None:
    page = (demo.out / "index.html").read_text(encoding="utf-8")
    for one in SHOWCASES:
        assert page.count(f">{one.text}<") == 2
    assert page.count('<section class="row">') == 2 * len(SHOWCASES)
    assert page.count("data:image/webp;base64,") > 100
    assert "http" not in re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", page)


def test_a_second_run_stores_nothing_again(demo: Demo) -> None:
    done = run_demo(demo.out)
    assert done.exit_code == 0, done.output
    assert re.search(r": 0 stored, [\d,]+ unchanged, 0 rejected", done.stdout)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_demo(tmp_path / "file" / "demo")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
