"""The page in a real browser, over a real service: every feature, by mouse and by keyboard.

Each test fails where the browser reports an error or a breach of the page's security policy, or
where the page asks another host for anything.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.benchmarks.emoji.gallery import write_gallery
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.gallery.points import point_id
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.conftest import png
from tests.serve.running import running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe_module = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

KEY = "a-key-for-tests"
PAGE = 24
"""Pictures that the page shows at a time."""

RED_CIRCLE, BLUE_CIRCLE, GREEN_CIRCLE = (
    point_id(f"{key}.png") for key in ("1f534", "1f535", "1f7e2")
)
PHONE, LAPTOP, WIDE = (
    {"width": width, "height": height} for width, height in ((390, 844), (1280, 860), (2560, 1440))
)

RECORD_QUERIES = """
    window.asked = [];
    const send = window.fetch;
    window.fetch = (path, options) => {
        const body = options?.body;
        if (path === "search") asked.push(body instanceof FormData ? body.get("query") : body);
        return send(path, options);
    };
"""
"""The browser does not tell the body of a request with files."""

Serving = Callable[..., str]


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of hearts, circles, squares and books in all colors, with a price and a date."""
    folder = tmp_path_factory.mktemp("hearts")
    manifest = write_gallery(folder / "pictures", wanted=lambda emoji: "color" in emoji.facets)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"price": number + 0.5, "added": f"2026-03-{number % 28 + 1:02}T00:00:00Z"}
    manifest.write_text("\n".join(map(json.dumps, rows)))
    model = ModelChoice("mini", device="cpu")
    job = IngestJob(str(manifest), EmbeddedLocation(folder / "gallery"), model, pseudo_words=True)
    assert ingest(job).stored == len(rows) > PAGE
    return folder


@pytest.fixture(scope="module")
def serving(hearts: Path) -> Iterator[Serving]:
    """Starts services over the gallery; returns their address. References may be URLs."""
    with ExitStack() as stack:
        search = ComposedSearch.open(
            hearts / "gallery", device="cpu", allow_paths=False, allow_urls=True
        )
        stack.enter_context(search)

        def serve(**options: Any) -> str:
            settings = ServeSettings(**options)
            app = create_app(AsyncComposedSearch(search), settings)
            return f"http://127.0.0.1:{stack.enter_context(running(app, settings))}/"

        yield serve


@pytest.fixture(scope="module")
def address(serving: Serving) -> str:
    return serving()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser, and one set of caches, for all tests; each has a page of its own."""
    fake_camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *fake_camera]
        )
        context = started.new_context(
            viewport=LAPTOP, reduced_motion="reduce", permissions=["camera", "clipboard-write"]
        )
        context.set_default_timeout(10_000)
        context.add_init_script(RECORD_QUERIES)
        yield context
        started.close()


@contextmanager
def opened(browser: Any, address: str, expected: str = "") -> Iterator[Any]:
    """A page of its own, which must not report any error but the expected, nor ask another host."""
    page = browser.new_page()
    said: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"exception: {error}"))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(address)
    page.locator(".tile img.loaded, .message, dialog[open]").first.wait_for()
    yield page
    assert [line for line in said if not expected or expected not in line] == []
    assert hosts - {""} == {urlsplit(address).netloc}  # "" is of blob: and data:
    page.close()


@pytest.fixture
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The marker ``reports`` names an error that the browser is expected to report."""
    marker = request.node.get_closest_marker("reports")
    with opened(browser, address, marker.args[0] if marker else "") as started:
        yield started


def until(page: Any, expression: str) -> None:
    """Waits for it to be true; Playwright's own way needs eval, which the page forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def picture(page: Any, name: str) -> Any:
    """The button of a picture in the results, or in the sample."""
    return page.locator(".tile .picture").filter(has=page.get_by_alt_text(name, exact=True))


def names(page: Any, within: str = "#lists") -> list[str]:
    """Of the pictures that are shown, once the search is done."""
    until(page, "!document.querySelector('#lists').ariaBusy")
    images = page.locator(f"{within} .tile img")
    return images.evaluate_all("all => all.map((one) => one.alt)")


@contextmanager
def searched(page: Any) -> Iterator[dict[str, Any]]:
    """What the page asks next; it is there once its answer is shown."""
    query: dict[str, Any] = {}
    with page.expect_response(lambda response: response.url.endswith("/search")) as answered:
        yield query
    assert answered.value.status == 200, answered.value.text()
    query.update(json.loads(page.evaluate("asked.at(-1)")))
    until(page, "!document.querySelector('#lists').ariaBusy")


# The first minute


def test_this_but_in_blue_takes_two_clicks(page: Any) -> None:
    clicks = [picture(page, "red circle"), page.get_by_role("button", name="in blue", exact=True)]
    for click in clicks:
        click.click()
    page.locator(".list").wait_for()
    until(page, "document.querySelector('#text').value === 'in blue'")
    assert names(page)[0] == "blue circle"
    assert len(clicks) == 2


def test_an_example_with_its_picture_takes_one_click(page: Any) -> None:
    example = page.locator("#suggestions button").first
    text = example.inner_text().split("but")[1].strip()
    with searched(page) as query:
        example.click()
    assert query["text"] == text
    assert len(query["references"]) == 1
    assert names(page)[0].startswith(text.removeprefix("in "))  # "in green": a green circle


def test_a_text_alone_is_typed_and_entered(page: Any) -> None:
    page.get_by_role("textbox", name="What should be different").focus()
    page.keyboard.type("a photo of green circle")
    with searched(page) as query:
        page.keyboard.press("Enter")
    assert query == {"text": "a photo of green circle", "limit": PAGE}
    assert names(page)[0] == "green circle"
    assert page.title() == "gallery"


def test_the_keyboard_alone_finds_this_but_in_green(page: Any) -> None:
    page.locator(".tile .picture").first.focus()
    shown = names(page)
    for _ in range(shown.index("red circle")):
        page.keyboard.press("ArrowRight")
    with searched(page):
        page.keyboard.press("Enter")  # which puts the cursor into the text
    page.keyboard.type("in green")
    with searched(page):
        page.keyboard.press("Enter")
    assert names(page)[0] == "green circle"
    page.keyboard.press("ArrowDown")  # of a text field: nothing
    picture(page, "green circle").focus()
    page.keyboard.press("ArrowDown")
    columns = page.locator(".grid").evaluate(
        "one => getComputedStyle(one).gridTemplateColumns.split(' ').length"
    )
    assert page.evaluate("document.activeElement.querySelector('img').alt") == names(page)[columns]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_text_that_is_typed_first_is_kept(page: Any) -> None:
    page.locator("#text").fill("in green")
    with searched(page) as query:
        picture(page, "red circle").click()
    assert query["text"] == "in green"
    assert names(page)[0] == "green circle"
    page.locator("#text").fill("in blue")
    with searched(page) as query:
        page.locator("#diversity").press("ArrowRight")
    assert query["text"] == "in blue"
    with searched(page) as query:  # what was asked already belongs to the step before
        picture(page, "blue circle").click()
    assert query["references"] == [{"id": BLUE_CIRCLE}]
    assert "text" not in query


def test_the_focus_is_never_lost(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    for press in (
        page.get_by_role("button", name="in blue", exact=True),
        page.get_by_role("button", name="Remove red circle"),
        page.locator("#suggestions button").first,
    ):
        with searched(page):
            press.press("Enter")
        assert page.evaluate("document.activeElement.id") == "text"
    page.get_by_role("button", name=f"Details of {names(page)[0]}").press("Enter")
    with searched(page):
        page.get_by_role("button", name="Add to the search").press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"


# Reference pictures


def file_of(color: str = "red") -> dict[str, Any]:
    return {"name": f"{color}.png", "mimeType": "image/png", "buffer": png(color)}


DATA_TRANSFER = """bytes => {
    const data = new DataTransfer();
    const array = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
    data.items.add(new File([array], "given.png", { type: "image/png" }));
    return data;
}"""


def test_files_are_references(page: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="From a file").click()
    with searched(page) as query:
        chooser.value.set_files([file_of("red"), file_of("blue")])
    assert query["references"] == [{"file": "picture0"}, {"file": "picture1"}]
    assert page.locator(".reference img").evaluate_all("all => all.map((one) => one.alt)") == [
        "red.png",
        "blue.png",
    ]
    with searched(page) as query:
        page.get_by_role("button", name="Remove red.png").click()
    assert query["references"] == [{"file": "picture0"}]
    assert page.locator(".reference img").get_attribute("alt") == "blue.png"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page: Any, event: str) -> None:
    data = page.evaluate_handle(DATA_TRANSFER, base64.b64encode(png("green")).decode())
    name = "dataTransfer" if event == "drop" else "clipboardData"
    if event == "drop":
        page.dispatch_event("body", "dragover", {name: data})
        assert page.locator("#drop").is_visible()
    with searched(page) as query:
        if event == "drop":
            page.dispatch_event("body", "drop", {name: data})
        else:
            page.evaluate(
                "data => document.body.dispatchEvent(new ClipboardEvent('paste', "
                "{ clipboardData: data, bubbles: true, cancelable: true }))",
                data,
            )
    assert query["references"] == [{"file": "picture0"}]
    assert not page.locator("#drop").is_visible()
    assert page.locator(".reference img").evaluate("one => one.naturalWidth") == 96


@pytest.mark.reports("status of 422")
def test_what_is_not_a_picture_is_refused_in_words(page: Any) -> None:
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no"})
    assert page.locator("#toast").inner_text() == "a.txt is not a picture"
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": png()[:90]}
    with page.expect_response("**/search") as answered:
        page.set_input_files("#file", broken)
    assert answered.value.status == 422
    page.get_by_role("heading", name=answered.value.json()["title"]).wait_for()
    assert answered.value.json()["detail"] in page.locator(".message p").inner_text()
    assert page.locator(".reference").inner_text().startswith("Crop")


def test_the_camera_is_a_reference(page: Any) -> None:
    page.get_by_role("button", name="From the camera").click()
    until(page, "document.querySelector('video').videoWidth > 0")
    with searched(page) as query:
        page.get_by_role("button", name="OK", exact=True).click()
    assert query["references"] == [{"file": "picture0"}]
    assert page.evaluate("document.querySelector('video').srcObject.active") is False
    page.get_by_role("button", name="From the camera").click()
    page.keyboard.press("Escape")
    assert page.locator(".reference").count() == 1


@pytest.mark.reports("status of 422")
def test_an_address_is_a_reference_and_a_private_one_is_refused(page: Any, address: str) -> None:
    page.get_by_role("button", name="By its address").click()
    with page.expect_response("**/search") as answered:
        page.keyboard.type(f"{address}images/{RED_CIRCLE}")
        page.keyboard.press("Enter")
    assert answered.value.request.post_data_json["references"] == [
        {"url": f"{address}images/{RED_CIRCLE}"}
    ]
    assert answered.value.status == 422
    assert page.locator(".message p").inner_text() == answered.value.json()["detail"]
    assert page.locator(".reference").inner_text().startswith("127.0.0.1")
    page.get_by_role("button", name="By its address").click()
    page.keyboard.type("file:///etc/passwd")
    page.keyboard.press("Enter")
    page.locator("#toast", has_text="is not the address of a picture").wait_for()


def test_a_hit_is_refined_and_the_steps_lead_back(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page):
        page.get_by_role("button", name="in blue", exact=True).click()
    with searched(page) as query:
        picture(page, "blue circle").click()
    assert query == {"references": [{"id": BLUE_CIRCLE}], "limit": PAGE}
    assert page.evaluate("document.activeElement.id") == "text"
    steps = page.get_by_role("navigation", name="Refinements").get_by_role("listitem")
    assert steps.evaluate_all("all => all.map((one) => one.innerText.replace(/\\s+/g, ' '))") == [
        "but in blue",
        "",
    ]
    with searched(page) as query:
        steps.first.get_by_role("button").click()
    assert query["references"] == [{"id": RED_CIRCLE}]
    assert query["text"] == "in blue"
    assert not page.get_by_role("navigation", name="Refinements").is_visible()
    with searched(page) as query:
        page.go_back()
    assert query["references"] == [{"id": BLUE_CIRCLE}]


def test_hits_are_added_to_the_references(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    page.get_by_role("button", name="Details of blue circle").click()
    with searched(page) as query:
        page.get_by_role("button", name="Add to the search").click()
    assert query["references"] == [{"id": RED_CIRCLE}, {"id": BLUE_CIRCLE}]


def test_a_part_of_the_picture_by_pointer(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    page.get_by_role("button", name="Crop red circle").click()
    until(page, "document.querySelector('#crop-picture').naturalWidth > 0")
    box = page.locator("#crop-stage").bounding_box()

    def to(x: float, y: float) -> None:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])

    def drag(*points: tuple[float, float]) -> None:
        to(*points[0])
        page.mouse.down()
        to(*points[1])
        page.mouse.up()

    drag((0.02, 0.02), (0.5, 0.6))  # outside of the frame: a new one
    drag((0.3, 0.3), (0.5, 0.3))  # inside: it moves
    drag((0.7, 0.6), (0.9, 0.8))  # a corner: it grows
    with searched(page) as query:
        page.get_by_role("button", name="Use this part").click()
    crop = query["references"][0]["crop"]
    expected = {"left": 0.22, "top": 0.02, "right": 0.9, "bottom": 0.8}
    assert crop == pytest.approx(expected, abs=0.02)
    page.get_by_role("button", name="Change the crop of red circle").click()
    with searched(page) as query:
        page.get_by_role("button", name="Whole picture").click()
    assert query["references"] == [{"id": RED_CIRCLE}]


def test_a_part_of_the_picture_by_keyboard(page: Any) -> None:
    with searched(page):
        page.set_input_files("#file", file_of())
    page.get_by_role("button", name="Crop red.png").focus()
    page.keyboard.press("Enter")
    page.locator("#crop-frame").focus()
    for key in ["ArrowRight"] * 3 + ["Shift+ArrowUp"] * 10 + ["ArrowLeft"] * 20:
        page.keyboard.press(key)
    assert page.locator("#crop-value").inner_text() == "Width 80% from 0%, height 60% from 10%"
    with searched(page) as query:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    expected = {"left": 0, "top": 0.1, "right": 0.8, "bottom": 0.7}
    assert query["references"][0].pop("crop") == pytest.approx(expected)
    assert query["references"] == [{"file": "picture0"}]


# Settings, filters, results


def test_settings_are_sent_and_cleared(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    for key in ("ArrowRight", "ArrowLeft"):
        with searched(page) as query:
            page.locator("#weight").press(key)
    assert query["text_weight"] == pytest.approx(0.8)  # as the model has it
    with searched(page) as query:
        page.locator("#avoid").fill("a book")
        page.keyboard.press("Enter")
    assert query["avoid"] == "a book"
    place = page.locator("#diversity").evaluate("one => one.offsetTop")
    with searched(page) as query:
        page.locator("#diversity").press("End")
    assert query["diversity"] == 1
    assert page.locator("#diversity").evaluate("one => one.offsetTop") == place
    with searched(page) as query:
        page.locator("#cutoff").press("End")
    assert query["cutoff"] == 0.99
    assert names(page) == ["orange heart"] or len(names(page)) < 3
    assert page.locator("#status").inner_text() in ("1 picture", "2 pictures")
    with searched(page) as query:
        page.get_by_role("button", name="Clear settings and filters").click()
    assert query == {"references": [{"id": RED_CIRCLE}], "limit": PAGE}


def test_hits_show_their_chance_where_they_have_one(page: Any) -> None:
    def with_chances(route: Any) -> None:
        answer = route.fetch().json()
        for place, hit in enumerate(answer["hits"]):
            hit["confidence"] = 0.625 if place == 0 else None
        route.fulfill(json=answer)

    page.route("**/search", with_chances)
    with searched(page):
        picture(page, "red circle").click()
    assert page.locator(".tile .caption .quiet").first.inner_text().startswith("63%")
    assert "%" not in page.locator(".tile .caption .quiet").nth(1).inner_text()
    page.locator(".tile .title").first.click()
    assert "63%" in page.locator("#detail-payload").inner_text()


def test_two_methods_side_by_side(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page):
        page.locator("#text").fill("in blue")
        page.keyboard.press("Enter")
    with searched(page) as query:
        page.locator("#composer").select_option("fti")
    assert query["composer"] == "fti"
    assert not page.locator("#weight").is_visible()  # it has no such option
    page.locator("#compare").select_option("image")
    page.get_by_role("heading", name="image", exact=True).wait_for()
    assert page.locator(".list h3").all_inner_texts() == ["fti", "image"]
    assert names(page, ".list:nth-child(1)")[0] == "blue circle"
    assert names(page, ".list:nth-child(2)")[0] != "blue circle"
    assert names(page, ".list:nth-child(1)") != names(page, ".list:nth-child(2)")


def test_filters_have_counts_and_filter(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    examples = page.locator("#suggestions button").all_inner_texts()
    assert "in blue" in examples
    red = page.get_by_role("checkbox", name=re.compile("^red "))
    assert page.locator("label", has=red).inner_text().split() == ["red", "4"]
    assert page.get_by_role("checkbox", name=re.compile("^subject")).count() == 0
    with searched(page) as query:
        red.focus()
        page.keyboard.press("Space")
    assert query["filter"] == {"color": ["red"]}
    assert page.locator("#suggestions button").all_inner_texts() == examples
    assert sorted(names(page)) == ["closed book", "red heart", "red square"]  # not itself
    assert page.evaluate("document.activeElement.id") == "filter-color-red"  # where it was
    with searched(page) as query:
        page.get_by_role("checkbox", name=re.compile("^blue ")).check()
    assert query["filter"] == {"color": ["red", "blue"]}
    page.locator("summary", has_text="Price").click()
    with searched(page) as query:
        page.locator("#filter-price-lte").fill("0.1")
        page.keyboard.press("Enter")
    assert query["filter"] == {"color": ["red", "blue"], "price": {"lte": 0.1}}
    page.get_by_role("heading", name="Nothing fits").wait_for()
    with searched(page) as query:
        page.locator(".message").get_by_role("button").click()
    assert "filter" not in query


def test_more_values_stay_shown(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    page.locator("#filter-color").get_by_role("button", name="more").click()
    pink = page.get_by_role("checkbox", name=re.compile("^pink "))
    with searched(page) as query:
        pink.check()
    assert query["filter"] == {"color": ["pink"]}
    assert page.get_by_role("checkbox", name=re.compile("^grey ")).is_visible()


def test_dates_are_a_range(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page) as query:
        page.locator("#filter-added-gte").fill("2026-03-20")
        page.locator("#filter-added-gte").blur()
    assert query["filter"] == {"added": {"gte": "2026-03-20"}}
    assert 0 < len(names(page)) < PAGE


def test_groups_show_the_best_of_each(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page) as query:
        page.locator("#group").select_option("color")
    assert query["group_by"] == "color"
    shown = page.locator(".tile .group").all_inner_texts()
    assert len(shown) == len(set(shown)) > 5


def test_more_hits_follow_the_first(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    assert len(names(page)) == PAGE
    with searched(page) as query:
        page.get_by_role("button", name="Show more").click()
    assert query["offset"] == PAGE
    until(page, f"document.querySelectorAll('.tile').length > {PAGE}")
    assert len(set(names(page))) == len(names(page)) > PAGE
    assert not page.get_by_role("button", name="Show more").is_visible()
    focused = page.evaluate("document.activeElement.querySelector('img').alt")
    assert focused == names(page)[PAGE]  # the first that is new


def test_details_show_the_payload_and_the_original(page: Any, address: str) -> None:
    with searched(page):
        picture(page, "red circle").click()
    shown = names(page)
    page.get_by_role("button", name=f"Details of {shown[0]}").click()
    terms = page.locator("#detail-payload").inner_text()
    assert re.search(r"Color\s+\w+", terms)
    assert re.search(r"Score\s+0\.\d{4}", terms)
    assert page.locator("#detail-title").inner_text() == shown[0]
    with page.context.expect_page() as original:
        page.get_by_role("link", name="Open original").click()
    original.value.wait_for_load_state()
    assert original.value.url.startswith(f"{address}images/")
    assert original.value.evaluate("document.images[0].naturalWidth") == 128
    original.value.close()
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()


def test_the_prompt_is_shown_with_its_nearest_words(page: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page):
        page.get_by_role("button", name="in blue", exact=True).click()
    with searched(page) as query:
        page.get_by_role("button", name="How it was understood").click()
    assert query["explain"] is True
    explanation = page.locator("#explanation")
    assert re.fullmatch(
        r"a photo of \[.+\] with .*but in blue", explanation.locator(".sentence").inner_text()
    )
    assert re.search(r"subject\s+\w+ 0\.\d\d", explanation.inner_text())
    page.get_by_role("button", name="How it was understood").click()
    assert not explanation.is_visible()


# Links, errors, slow networks, keys


def test_a_link_repeats_the_search(page: Any, browser: Any) -> None:
    with searched(page):
        picture(page, "red circle").click()
    with searched(page):
        page.get_by_role("button", name="in blue", exact=True).click()
    with searched(page):
        picture(page, "blue circle").click()
    with searched(page):
        page.get_by_role("checkbox", name=re.compile("^green ")).check()
    page.get_by_role("button", name="Copy link").click()
    page.locator("#toast", has_text="Link copied").wait_for()
    with opened(browser, page.url) as other:
        assert names(other) == names(page)
        assert other.locator(".reference img").get_attribute("alt") == "blue circle"
        alts = "all => all.map((one) => one.alt)"
        assert other.locator("#trail img").evaluate_all(alts) == ["red circle", "blue circle"]
        assert other.get_by_role("checkbox", name=re.compile("^green ")).is_checked()
        assert other.locator("#trail li").count() == 2


def test_a_link_cannot_hold_an_uploaded_picture_and_says_so(page: Any, browser: Any) -> None:
    with searched(page):
        page.set_input_files("#file", file_of())
    page.get_by_role("button", name="Copy link").click()
    page.locator("#toast", has_text="leaves out the picture that you uploaded").wait_for()
    with opened(browser, page.url) as other:
        assert "Add it again" in other.locator("#toast").inner_text()
        assert other.locator(".reference").count() == 0


@pytest.mark.parametrize(
    "part",
    [
        "references=[1,null,{},{%22url%22:%22x%22}]&filter={%22price&text=",
        "references={}&filter=[]&weight=many&cutoff=true&via=%3Fvia%3D%253F",
    ],
)
def test_a_broken_link_shows_the_gallery(browser: Any, address: str, part: str) -> None:
    with opened(browser, f"{address}?{part}") as page:
        assert page.locator("#status").inner_text() == "Choose a picture to start with"


def test_a_crop_of_a_broken_link_counts_as_none(browser: Any, address: str) -> None:
    reference = json.dumps([{"id": RED_CIRCLE, "crop": 5}])
    with opened(browser, f"{address}?references={reference}&text=in%20blue") as page:
        assert names(page)[0] == "blue circle"


def test_a_refused_query_says_why(browser: Any, address: str) -> None:
    link = f"{address}?text=a+heart&filter=" + json.dumps({"prize": 3})
    with opened(browser, link, expected="status of 422") as page:
        assert "prize" in page.locator(".message p").inner_text()
        page.get_by_role("button", name="Clear settings and filters").click()
        assert names(page)


@pytest.mark.reports("ERR_FAILED")
def test_a_server_that_does_not_answer_is_tried_again(page: Any) -> None:
    page.route("**/search", lambda route: route.abort())
    picture(page, "red circle").click()
    page.get_by_role("heading", name="The server does not answer").wait_for()
    page.unroute("**/search")
    with searched(page):
        page.get_by_role("button", name="Try again").click()
    assert names(page)


@pytest.mark.reports("status of 503")
def test_a_busy_server_is_asked_once_more(page: Any) -> None:
    answers = [503]

    def busy(route: Any) -> None:
        if answers:
            headers = {"retry-after": "1", "content-type": "application/problem+json"}
            route.fulfill(status=answers.pop(), headers=headers, body='{"title": "Busy"}')
        else:
            route.continue_()

    page.route("**/search", busy)
    picture(page, "red circle").click()
    page.locator(".list").wait_for()
    assert names(page)


@pytest.mark.reports("status of 404")
def test_a_picture_that_cannot_be_read_is_shown_by_its_name(page: Any) -> None:
    page.route(re.compile(f"{BLUE_CIRCLE}/thumbnail"), lambda route: route.fulfill(status=404))
    with searched(page):
        picture(page, "red circle").click()
    tile = page.locator(".tile").filter(
        has=page.get_by_role("button", name="Details of blue circle")
    )
    assert tile.locator(".gone").inner_text() == "blue circle"
    with searched(page) as query:
        tile.get_by_role("button", name="Refine blue circle").click()
    assert query["references"] == [{"id": BLUE_CIRCLE}]


def test_only_the_last_of_quick_searches_is_shown(page: Any) -> None:
    """With 200 ms of latency, and more for the first."""
    with searched(page):
        picture(page, "red circle").click()
    top = page.locator("#lists").bounding_box()["y"]
    page.evaluate(
        """() => {
            const send = window.fetch;
            let calls = 0;
            window.fetch = async (path, options) => {
                if (path === "search") {
                    await new Promise((then) => setTimeout(then, calls++ ? 200 : 700));
                }
                return send(path, options);
            };
        }"""
    )
    page.get_by_role("button", name="in blue", exact=True).click()
    assert page.locator("#lists").get_attribute("aria-busy") == "true"
    assert page.locator("#lists .tile").count() == PAGE  # what was there stays meanwhile
    assert page.locator("#lists").bounding_box()["y"] == top
    with searched(page) as query:
        page.get_by_role("button", name="in green", exact=True).click()
    assert query["text"] == "in green"
    page.wait_for_timeout(700)
    assert names(page)[0] == "green circle"
    assert page.locator("#lists").bounding_box()["y"] == top


def test_pictures_that_wait_have_their_place(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.route("**/search", lambda route: None)  # it never answers
        picture(page, "red circle").click()
        assert page.locator(".waiting .tile").count() == PAGE
        waiting = page.locator(".waiting .tile").nth(7).bounding_box()
        with opened(browser, page.url) as other:
            assert names(other)
            assert other.locator(".tile").nth(7).bounding_box() == waiting


def test_a_key_is_asked_for_and_sent_with_pictures_too(serving: Serving, browser: Any) -> None:
    with opened(browser, serving(api_keys=(KEY,)), expected="status of 401") as page:
        page.get_by_role("heading", name="This gallery needs a key").wait_for()
        assert page.locator("#prompt-value").get_attribute("type") == "password"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="This key is not right").wait_for()
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.locator(".tile img.loaded").first.wait_for()
        assert page.locator(".tile img").first.get_attribute("src").startswith("blob:")
        with searched(page):
            picture(page, "red circle").click()
        assert KEY not in page.url


# Everybody


def states(page: Any) -> Iterator[str]:
    """Brings the page into each of its states."""
    page.wait_for_load_state("networkidle")
    yield "start"
    with searched(page):
        picture(page, "red circle").click()
    with searched(page):
        page.get_by_role("button", name="in blue", exact=True).click()
    with searched(page):
        picture(page, "blue circle").click()
    with searched(page):
        page.get_by_role("button", name="How it was understood").click()
    page.locator("#explanation dl").first.wait_for()
    yield "results"
    page.get_by_role("button", name="Details of red circle").click()
    yield "details"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Crop blue circle").click()
    yield "crop"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="By its address").click()
    yield "address"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="From the camera").click()
    page.locator("#prompt[open] video").wait_for()
    yield "camera"
    page.keyboard.press("Escape")
    with searched(page):
        page.locator("#text").fill("in green")
        page.keyboard.press("Enter")
    page.locator("#compare").select_option("image")
    page.get_by_role("heading", name="image", exact=True).wait_for()
    names(page)
    yield "side by side"
    page.goto(page.url.split("?")[0] + "?text=a&filter=" + json.dumps({"price": {"lt": -1}}))
    page.locator(".message").wait_for()
    yield "nothing"


def test_every_state_suits_every_reader_and_window(browser: Any, address: str) -> None:
    """axe finds nothing in both color schemes, and nothing is wider than the window."""
    axe = axe_module.Axe()
    with opened(browser, address) as page:
        for state in states(page):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                found = axe.run(page).response["violations"]
                what = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
                assert what == [], (state, scheme)
            for direction in ("rtl", "ltr"):
                page.evaluate(f"document.documentElement.dir = '{direction}'")
                for window in (PHONE, WIDE, LAPTOP):
                    page.set_viewport_size(window)
                    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    assert wide <= 0, (state, direction, window)


def test_motion_and_direction_are_the_users(page: Any) -> None:
    durations = "getComputedStyle(document.querySelector('.tile img')).transitionDuration"
    assert page.evaluate(durations) == "0s"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(durations) == "0.18s"
    page.evaluate("document.documentElement.dir = 'rtl'")
    first, second = (page.locator(".tile").nth(n).bounding_box()["x"] for n in (0, 1))
    assert first > second
    page.locator(".tile .picture").first.focus()
    page.keyboard.press("ArrowLeft")
    shown = page.evaluate("document.activeElement.querySelector('img').alt")
    assert shown == names(page)[1]


def test_the_page_is_small_and_holds_no_code_in_its_markup() -> None:
    folder = Path(__file__).parents[2] / "fti_qdrant" / "serve" / "page"
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert sum(text.count("\n") for text in texts.values()) < 1000
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", texts["index.html"])
    assert not any(
        re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", t) for t in texts.values()
    )
    assert not any(re.search(r"https?://(?!www\.w3\.org/2000/svg)\w", t) for t in texts.values())
