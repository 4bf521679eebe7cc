"""``python -m tests.serve.screenshots demo/gallery docs``: the pictures of the page in the docs.

They are made with the fonts of this machine.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import sync_playwright

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.gallery.points import point_id
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.running import running

FIREFIGHTER, CIRCLE = (
    json.dumps([{"id": point_id(name)}]) for name in ("1f469-1f3fd-200d-1f692.png", "1f534.png")
)
EDIT = {"references": FIREFIGHTER, "text": "with dark skin tone"}
SHOTS = {
    "page-start": (1280, 860, "light", {}),
    "page-1280": (1280, 860, "light", EDIT),
    "page-390": (390, 844, "dark", {"references": CIRCLE, "text": "in blue"}),
    "page-2560": (2560, 1440, "dark", EDIT | {"compare": "sum"}),
}
"""File name -> the window's width and height, color scheme, and the state in the page's address."""

MOST_WIDE = 1280
"""Pixels of a picture's width: a wider window is drawn smaller."""


def main(gallery: Path, folder: Path) -> None:
    settings = ServeSettings()
    with (
        ComposedSearch.open(gallery, device="cpu", allow_paths=False) as search,
        running(create_app(AsyncComposedSearch(search), settings), settings) as port,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (width, height, scheme, state) in SHOTS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                device_scale_factor=min(1, MOST_WIDE / width),
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            page.goto(f"http://127.0.0.1:{port}/?{urlencode(state)}")
            page.locator(".list .tile img.loaded" if state else ".tile img.loaded").last.wait_for()
            page.wait_for_load_state("networkidle")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.save(folder / f"{name}.png", optimize=True)  # two thirds of Chromium's file
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
