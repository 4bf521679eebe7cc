"""What a notebook shows: results, explanations, their pictures, and nothing that is not text."""

from __future__ import annotations

import base64
import doctest
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.explanation import Explanation
from fti_qdrant.images import ImageLimits
from fti_qdrant.model.explain import ImageWords, NearestWords
from fti_qdrant.query import Hit, Hits, Query, ReferencePictures
from fti_qdrant.report import row
from fti_qdrant.report.notebook import MAX_FIELDS, MAX_HITS, MAX_REFERENCES
from fti_qdrant.report.row import LONGEST, THUMBNAIL
from tests.ingest.sources_and_runs import bomb, picture

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)> & {{ 7 * 7 }}'
TAGS = {
    *("div", "style", "section", "img", "figure", "figcaption", "span", "br", "p", "code"),
    *("table", "caption", "tr", "td"),
}
"""All that our templates write."""


class Page(HTMLParser):
    """The tags, attributes and texts of some HTML."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.images: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.images += [str(value) for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def pictures(self) -> list[Image.Image]:
        data = [image.removeprefix("data:image/webp;base64,") for image in self.images]
        return [Image.open(io.BytesIO(base64.b64decode(one, validate=True))) for one in data]


def shown(value: Hits | Explanation) -> Page:
    return Page(value._repr_html_())


def hit(uri: str | None, number: int = 0, **payload: Any) -> Hit:
    return Hit(f"id-{number}", 0.75 - number / 100, uri, payload)


def hits_of(*hits: Hit, **query: Any) -> Hits:
    return Hits(hits, Query(**{"text": "in red", "composer": "sum", **query}))


def explanation(*sources: Any, word: str = "dress") -> Explanation:
    words = ImageWords(NearestWords("subject", ((word, 0.876),)), ())
    return Explanation(
        composer="fti",
        prompt=f"a photo of * but {word}",
        prompt_in_words=f"a photo of [{word}] but {word}",
        cosines={"image": 0.25},
        references=(words,) * len(sources),
        pictures=ReferencePictures(sources),
    )


@pytest.fixture
def dress(tmp_path: Path) -> str:
    path = tmp_path / "dress.png"
    picture(1, (400, 200)).save(path)
    return str(path)


def test_hits_show_their_pictures_scores_and_payloads(dress: str) -> None:
    hits = hits_of(
        hit(dress, name="red dress", price=19.5, colors=["red", "blue"], shelf={"row": 3}),
        filter={"price": {"lt": 20}},
    )
    page = shown(hits)
    (small,) = page.pictures()
    assert small.size == (THUMBNAIL, THUMBNAIL // 2)
    expected = picture(1, (400, 200)).resize(small.size)
    assert np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(expected, int)).mean() < 6
    for text in ("in red", "composer: sum", "red dress", "0.750", "price: 19.5"):
        assert text in page.text
    assert 'colors: ["red", "blue"]' in page.text
    assert 'shelf: {"row": 3}' in page.text
    assert '{"price": {"lt": 20}}' in page.text
    assert page.text.count("red dress") == 1
    assert page.tags <= TAGS


def test_references_of_every_kind_are_shown(dress: str) -> None:
    array = np.zeros((20, 30, 3), dtype=np.uint8)
    sources = (dress, Path(dress), Path(dress).read_bytes(), picture(2), array)
    hits = Hits([], Query(text="x", composer="sum"), None, ReferencePictures(sources))
    page = shown(hits)
    assert len(page.pictures()) == len(sources)
    assert "no results" in page.text


def unreadable(folder: Path) -> dict[str | None, str]:
    """Sources of hits, and a word of the reason."""
    (folder / "bomb.png").write_bytes(bomb(30_000, 30_000))
    (folder / "text.jpg").write_text("this is not a picture")
    (folder / "empty.jpg").write_bytes(b"")
    return {
        None: "not known",
        str(folder / "missing.jpg"): "no such file",
        str(folder): "directory",
        str(folder / "bomb.png"): "over the limit",
        str(folder / "text.jpg"): "not an image",
        str(folder / "empty.jpg"): "0 bytes",
        "": "not known",
        "https://127.0.0.1:9/a.jpg": "allow_urls=True",
        "s3://bucket/a.jpg": "is not on this machine",
        f"zip://a.jpg::{folder}/photos.zip": "is not on this machine",
        "data:image/png;base64," + "A" * 100_000: "cannot be read",
        "a\0b.jpg": "cannot be read",
    }


def test_a_picture_that_cannot_be_read_says_why(tmp_path: Path, dress: str) -> None:
    reasons = unreadable(tmp_path)
    page = shown(hits_of(*map(hit, [*reasons, dress])))
    assert len(page.pictures()) == 1
    assert page.text.count("no picture") == len(reasons)
    for reason in reasons.values():
        assert reason in page.text
    assert len(page.text) < 12_000
    assert str(tmp_path) not in page.text  # the reasons alone


def test_pictures_are_read_by_the_limits_of_the_search(dress: str) -> None:
    few = ReferencePictures((dress,), limits=ImageLimits(max_pixels=1000))
    page = shown(Hits([hit(dress)], Query(text="x", composer="sum"), None, few))
    assert page.images == []
    assert page.text.count("over the limit of 1,000") == 2


def test_one_output_is_of_bounded_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    uri = str(tmp_path / "noise.png")
    payload = {f"field {number}": "long " * 10_000 for number in range(100)}
    found = [hit(uri, number, **payload) for number in range(MAX_HITS + 70)]
    sources = ReferencePictures((uri,) * (MAX_REFERENCES + 5))
    html = Hits(found, Query(text="x", composer="sum"), None, sources)._repr_html_()
    page = Page(html)
    assert len(page.images) == MAX_HITS + MAX_REFERENCES
    assert "not shown: 5 more reference images, 70 more results" in page.text
    assert page.text.count(f"{100 - MAX_FIELDS} more fields") == MAX_HITS
    assert max(map(len, page.images)) < 30_000
    assert len(html) < 38 * 30_000 + MAX_HITS * MAX_FIELDS * (LONGEST + 60) + 10_000


def test_what_users_store_is_text() -> None:
    page = shown(
        Hits(
            [Hit(HOSTILE, 0.5, f"/{HOSTILE}", {"name": HOSTILE, HOSTILE: HOSTILE, "n": [HOSTILE]})],
            Query(
                text=HOSTILE, composer="sum", filter={HOSTILE: HOSTILE}, warnings=(HOSTILE, "ok")
            ),
            explanation(HOSTILE, word=HOSTILE),
            ReferencePictures((HOSTILE,)),
        )
    )
    assert page.tags <= TAGS
    assert page.attributes <= {"class", "src", "alt"}
    assert page.images == []
    assert page.text.count("<script>alert(1)</script>") > 8
    assert page.text.count("{{ 7 * 7 }}") > 8
    alone = shown(explanation(HOSTILE, word=HOSTILE))
    assert alone.tags <= TAGS
    assert HOSTILE in alone.text


def test_a_name_that_is_not_unicode_is_shown_too() -> None:
    html = hits_of(hit("photo-\udcff.jpg", note="\ud800"))._repr_html_()
    assert "photo-?.jpg" in html
    assert html.encode()


def test_an_explanation_shows_prompt_cosines_and_words(dress: str) -> None:
    page = shown(explanation(dress, "missing.png"))
    assert len(page.pictures()) == 1
    for text in (
        "composer: fti",
        "prompt: a photo of * but dress",
        "in words: a photo of [dress] but dress",
        "cosine of the query with: image 0.25",
        "no such file",
        "image 1",
        "image 2",
    ):
        assert text in page.text
    assert page.text.count("dress 0.88") == 2
    assert page.tags <= TAGS


def test_a_style_stays_inside_its_output(dress: str) -> None:
    """A rule for ``body`` or ``table`` would change the notebook around it."""
    for html in (hits_of(hit(dress))._repr_html_(), explanation(dress)._repr_html_()):
        style = html[html.index("<style>") + 7 : html.index("</style>")]
        rules = [line.strip() for line in style.splitlines() if "{" in line]
        inside = [rule.split("{", 1)[1].strip() if rule[0] == "@" else rule for rule in rules]
        assert len(inside) > 10
        assert all(rule.startswith(".fti") for rule in inside)


def test_elsewhere_hits_are_a_few_lines() -> None:
    found = [
        Hit(f"id-{n}", 0.5 - n / 1000, f"shop/{n}.jpg" if n else None, {"n": n}) for n in range(50)
    ]
    lines = repr(Hits(found, Query(text="x", composer="sum"))).splitlines()
    assert lines[0] == "Hits(50, composer='sum')"
    assert lines[1].split() == ["1", "0.500", "'id-0'"]
    assert lines[2].split() == ["2", "0.499", "'shop/1.jpg'"]
    assert lines[-1] == "and 30 more"
    assert repr(Hits([], Query(text="x", composer="sum"))) == "Hits(0, composer='sum')"
    odd = repr(Hits([hit("a\n\x1b[2J\udcff.jpg")], Query(text="x", composer="sum")))
    assert len(odd.splitlines()) == 2
    assert odd.encode()
    assert "\x1b" not in odd


def test_the_examples_of_rows() -> None:
    assert doctest.testmod(row).failed == 0


def test_elsewhere_an_explanation_is_text() -> None:
    one = explanation("a.jpg")
    assert "\n" not in repr(one)
    assert "a photo of [dress] but dress" in repr(one)
    assert str(one).splitlines() == [
        "prompt: a photo of * but dress",
        "in words: a photo of [dress] but dress",
        "cosine of the query with: image 0.25",
        "subject: dress 0.88",
    ]
