"""``fti-search`` on the embedded model: each command line runs once, and tests read its output.

One is a process of its own, as a user starts it; the others run in this process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fti_qdrant import ComposedSearch, Composer, EdgeGallery
from fti_qdrant.cli.search import main
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.gallery import GalleryPoint, GallerySpec, point_id
from fti_qdrant.images import open_image
from tests.benchmarks import standins

Done = subprocess.CompletedProcess[str]
TEXT = "with dark skin tone"

RUNS = {
    "help": ["--help"],
    "table": ["--image", "{pictures}/1.png", "--text", TEXT, "--limit", "3", "--explain"],
    "json": [
        *("--image", "{pictures}/1.png", "--text", TEXT, "--json", "--explain"),
        *("--filter", '{{"price": {{"lt": 4}}}}', "--sheet", "{folder}/sheet/page.html"),
    ],
    "id": ["--image", point_id("2.png"), "--text", TEXT, "--json", "--keep-reference"],
    "options": [
        *("--image", "{pictures}/1.png", "--image", "{pictures}/2.png", "--text", TEXT, "--json"),
        *("--composer", "pdv", "--text-weight", "0.7", "--composer-option", "image_step=0.5"),
        *("--weight", "1", "--weight", "3", "--avoid", "a hat"),
    ],
    "refined": [
        *("--text", "x", "--json", "--limit", "2", "--offset", "1", "--cutoff", "0.01", "--exact"),
        *("--group-by", "name", "--group-size", "2", "--like", point_id("2.png")),
        *("--dislike", point_id("1.png"), "--diversity", "0.3"),
    ],
    "order": ["--text", "x", "--json", "--cutoff", "0.01", "--order-by", "-price"],
    "grouped table": ["--text", "x", "--group-by", "name"],
    "facets": ["facets", "name", "--gallery", "{folder}/gallery", "--json"],
    "facets table": ["facets", "name", "--gallery", "{folder}/gallery"],
    "long text": ["--text", "very " * 100, "--composer", "text", "--json"],
}
"""What works, and the arguments beside ``--gallery``."""

WRONG_INPUT = {
    "missing file": (["--image", "missing.png", "--text", "x"], "'missing.png': no such file"),
    "directory": (["--image", "{pictures}", "--text", "x"], "is a directory"),
    "truncated": (["--image", "{folder}/cut.jpg", "--text", "x"], "truncated"),
    "text file": (["--image", "{folder}/text.jpg", "--text", "x"], "not an image"),
    "url": (["--image", "http://127.0.0.1:9/a.jpg"], "URLs are off; allow them with --allow-urls"),
    "pixels": (
        ["--image", "{pictures}/1.png", "--max-pixels", "4095"],
        "64 x 64 pixels is over the limit of 4,095; scale it down, or raise max_pixels",
    ),
    "unknown id": (["--image", point_id("nowhere"), "--text", "x"], "has no image"),
    "filter is not JSON": (["--text", "x", "--filter", "{{price"], "--filter is not JSON"),
    "filter is a list": (["--text", "x", "--filter", "[1]"], "must be an object"),
    "operator": (["--text", "x", "--filter", '{{"price": {{"<": 5}}}}'], "unknown operator '<'"),
    "field": (["--text", "x", "--filter", '{{"prize": 5}}'], "fields are: name, price"),
    "number of a text": (
        ["--text", "x", "--filter", '{{"name": {{"lt": 5}}}}'],
        "name: holds texts, and cannot be compared with a number (lt 5)",
    ),
    "doubled key": (
        ["--text", "x", "--filter", '{{"price": {{"gt": 1}}, "price": {{"lt": 5}}}}'],
        "'price' is there twice; join its conditions",
    ),
    "doubled operator": (
        ["--text", "x", "--filter", '{{"not": {{"price": {{"lt": 1, "lt": 5}}}}}}'],
        "'lt' is there twice",
    ),
    "deep filter": (["--text", "x", "--filter", "[" * 100_000], "--filter is not JSON"),
    "limit": (["--text", "x", "--limit", "0"], "at least 1, got 0"),
    "huge limit": (["--text", "x", "--limit", "10000000"], "limit must be at most 100,000"),
    "text weight": (
        ["--text", "x", "--text-weight", "2"],
        "text_weight must be a number from 0 to 1, got 2.0",
    ),
    "option": (
        ["--text", "x", "--composer", "sum", "--composer-option", "push=1"],
        "composer 'sum' has no option 'push'; its options are: text_weight",
    ),
    "avoid": (["--text", "x", "--avoid", ""], "avoid must be a text"),
    "offset": (["--text", "x", "--offset", "-1"], "offset must be a whole number"),
    "cutoff": (["--text", "x", "--cutoff", "0"], "above 0 to 1, got 0.0"),
    "chance": (["--text", "x", "--min-confidence", "2"], "a chance from 0 to 1, got 2.0"),
    "no chances": (["--text", "x", "--min-confidence", "0.5"], "the gallery has no calibration"),
    "diversity": (["--text", "x", "--diversity", "3"], "diversity must be a number"),
    "group": (["--text", "x", "--group-by", "brand"], "group_by 'brand': no image has"),
    "no cutoff": (["--text", "x", "--order-by", "price"], "needs a cutoff"),
    "like": (["--text", "x", "--like", "1.png"], "like takes the ids of stored images"),
    "facets of no field": (["facets", "brand", "--gallery", "{folder}/gallery"], "no image has"),
    "facets without an index": (
        ["facets", "price", "--gallery", "{folder}/gallery"],
        "an index counts either texts",
    ),
    "weights": (["--text", "x", "--weight", "1"], "1 weights for 0 reference images"),
    "nothing": ([], "nothing to search for"),
    "bytes": (["--text", "\udcff"], "is not valid Unicode"),
}
"""One line and exit code 2."""

UNAVAILABLE = {
    "no gallery": (["--gallery", "{folder}/missing", "--text", "x"], 2, "no gallery at"),
    "no server": (
        ["--url", "http://127.0.0.1:{port}", "--collection", "shop", "--text", "x"],
        1,
        "does not answer",
    ),
    "no address": (["--url", "localhost", "--collection", "shop", "--text", "x"], 1, "address"),
    "locked": (["--gallery", "{folder}/locked", "--text", "x"], 1, "is open already"),
    "damaged": (["--gallery", "{folder}/damaged", "--text", "x"], 1, "does not describe"),
    "other model": (
        ["--gallery", "{folder}/other", "--text", "x"],
        2,
        "was made with mini (weights 0000",
    ),
    "sheet": (
        ["--gallery", "{folder}/gallery", "--text", "x", "--sheet", "{folder}/text.jpg/page.html"],
        1,
        "cannot be written",
    ),
}

USAGE = {
    "no place": (["--text", "x"], "pass either --gallery DIR"),
    "two places": (["--gallery", "a", "--url", "b", "--text", "x"], "pass either --gallery DIR"),
    "no collection": (["--url", "http://127.0.0.1:9", "--text", "x"], "with --collection NAME"),
    "explain": (["--gallery", "a", "--text", "x", "--explain"], "--explain needs an --image"),
    "composer": (["--gallery", "a", "--text", "x", "--composer", "magic"], "'magic' is not one"),
    "no value": (
        ["--gallery", "a", "--text", "x", "--composer-option", "push"],
        "takes NAME=VALUE",
    ),
}


def in_process(arguments: list[str]) -> Done:
    done = CliRunner().invoke(main, arguments, env={"COLUMNS": "160", "FTI_DEBUG": None})
    return Done(arguments, done.exit_code, done.stdout, done.stderr)


def as_process(arguments: list[str]) -> Done:
    command = [sys.executable, "-m", "fti_qdrant.cli.search", *arguments]
    own = {name: value for name, value in os.environ.items() if name != "FTI_DEBUG"}
    environment = {**own, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def done(place: dict[str, Any]) -> dict[str, Done]:
    """All runs, by name."""
    gallery = ["--gallery", "{folder}/gallery"]
    lines = {**RUNS, **{name: arguments for name, (arguments, _) in WRONG_INPUT.items()}}
    lines = {
        name: line if line[:1] == ["facets"] else gallery + line for name, line in lines.items()
    }
    lines |= {name: arguments for name, (arguments, *_) in UNAVAILABLE.items()}
    lines |= {name: arguments for name, (arguments, _) in USAGE.items()}
    filled = {name: [part.format(**place) for part in line] for name, line in lines.items()}
    with EdgeGallery.open(place["folder"] / "locked"):
        return {
            name: as_process(line) if name == "table" else in_process(line)
            for name, line in filled.items()
        }


def one_line(run: Done, code: int) -> str:
    assert run.returncode == code, run.stderr
    assert run.stderr.startswith("Error: ")
    assert run.stderr.count("\n") == 1
    return run.stderr


def test_help_has_examples(done: dict[str, Done]) -> None:
    run = done["help"]
    assert run.returncode == 0
    assert re.search(r'fti-search --gallery \w+ --image \S+ --text "', run.stdout)
    for option in ("--filter", "--limit", "--json", "--sheet", "--explain", "--url"):
        assert option in run.stdout


def test_table(done: dict[str, Done], place: dict[str, Any]) -> None:
    run = done["table"]
    assert (run.returncode, run.stderr) == (0, "")
    assert "composer: pdv" in run.stdout
    ranks = re.findall(r"^│ (\d) +│ (-?\d\.\d{3}) +│ (\S+\.png)", run.stdout, re.MULTILINE)
    assert [rank for rank, _, _ in ranks] == ["1", "2", "3"]
    assert float(ranks[0][1]) >= float(ranks[2][1])
    assert str(place["pictures"] / "1.png") not in {path for _, _, path in ranks}
    assert "name=picture" in run.stdout
    ids = re.findall(r"^│ +│ +│ ([0-9a-f-]{36}) ", run.stdout, re.MULTILINE)
    assert len(ids) == 3
    assert point_id("1.png") not in ids
    assert re.search(r"^subject: \S+ -?\d\.\d\d, ", run.stdout, re.MULTILINE)
    assert re.search(r"^attribute 1: ", run.stdout, re.MULTILINE)


def test_json(done: dict[str, Done], place: dict[str, Any]) -> None:
    run = done["json"]
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["composer"] == "pdv"
    names = {hit["payload"]["name"] for hit in answer["hits"]}
    assert names == {"picture 0", "picture 2", "picture 3"}
    for hit in answer["hits"]:
        assert hit["id"] == point_id(Path(hit["uri"]).name)
        assert -1 <= hit["score"] <= 1
    assert answer["explanations"][0][0]["token"] == "subject"
    assert run.stderr == f"sheet: {place['folder']}/sheet/page.html\n"


def test_sheet_is_a_page_of_its_own(done: dict[str, Done], place: dict[str, Any]) -> None:
    assert done["json"].returncode == 0
    page = (place["folder"] / "sheet" / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 4  # the reference and three hits
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"|url\(([^)]*)\)|@import', page)
    assert all(source[0].startswith("data:") for source in sources)
    assert TEXT in page
    assert "subject" in page


def test_stored_id(done: dict[str, Done]) -> None:
    answer = json.loads(done["id"].stdout)
    assert answer["composer"] == "pdv"
    assert len(answer["hits"]) == 6


def test_options_reach_the_query(done: dict[str, Done], place: dict[str, Any]) -> None:
    with ComposedSearch.open(place["folder"] / "gallery") as search:
        expected = search.query(
            [place["pictures"] / "1.png", place["pictures"] / "2.png"],
            TEXT,
            composer="pdv",
            options={"text_weight": 0.7, "image_step": 0.5},
            weights=[1, 3],
            avoid="a hat",
        )
    answer = json.loads(done["options"].stdout)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(
        [hit.score for hit in expected], abs=1e-5
    )


def test_composers_are_listed() -> None:
    table = in_process(["composers"])
    listed = json.loads(in_process(["composers", "--json"]).stdout)
    assert [one["name"] for one in listed] == list(composer_names())
    for one in listed:
        assert one["summary"].split()[0] in table.stdout
        assert one["needs"]
    (pdv,) = (one for one in listed if one["name"] == "pdv")
    assert pdv["needs"] == ["an image", "a text", "an inverter"]
    assert pdv["options"]["text_weight"]["default"] == 0.8
    assert "text_weight=0.8" in table.stdout


def test_groups_pages_and_liked_images(done: dict[str, Done]) -> None:
    hits = json.loads(done["refined"].stdout)["hits"]
    assert len(hits) == 2
    assert all(hit["group"] == hit["payload"]["name"] for hit in hits)
    assert {hit["id"] for hit in hits}.isdisjoint({point_id("1.png"), point_id("2.png")})
    prices = [hit["payload"]["price"] for hit in json.loads(done["order"].stdout)["hits"]]
    assert len(prices) > 1
    assert prices == sorted(prices, reverse=True)
    names = {hit["group"] for hit in hits}
    assert all(str(name) in done["grouped table"].stdout for name in names)


def test_facets(done: dict[str, Done]) -> None:
    counts = json.loads(done["facets"].stdout)
    assert counts["field"] == "name"
    assert sum(one["count"] for one in counts["facets"]) >= 5
    for one in counts["facets"]:
        assert one["value"] in done["facets table"].stdout


def test_warning(done: dict[str, Done]) -> None:
    answer = json.loads(done["long text"].stdout)
    assert len(answer["warnings"]) == 1
    assert answer["composer"] == "text"


@pytest.mark.parametrize("name", WRONG_INPUT)
def test_wrong_input_is_one_line_and_2(done: dict[str, Done], name: str) -> None:
    assert WRONG_INPUT[name][1] in one_line(done[name], 2)
    assert done[name].stdout == ""


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_a_gallery_or_page_that_fails_is_one_line(done: dict[str, Done], name: str) -> None:
    _, code, reason = UNAVAILABLE[name]
    assert reason in one_line(done[name], code)
    assert (done[name].stdout == "") == (name != "sheet")  # by then the results were printed


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(done: dict[str, Done], name: str) -> None:
    run = done[name]
    assert run.returncode == 2
    assert USAGE[name][1] in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr


def test_payloads_and_paths_are_printed_as_they_are(tmp_path: Path, place: dict[str, Any]) -> None:
    """Markup, emoji codes and escape sequences in what users store are text."""
    odd = {"note": "[/b] [red]:heart:", "code": "\x1b[31mred"}
    vector = np.zeros(place["spec"].fingerprint.dim, dtype=np.float32)
    vector[0] = 1
    with EdgeGallery.create(tmp_path / "odd", place["spec"]) as gallery:
        uri = "photos [old]/a.jpg"
        payload = {**odd, "_fti": {"uri": uri, "sha256": "0", "r": 0}}
        gallery.upsert([GalleryPoint(point_id(uri), vector, payload, place["no_words"])])
    run = in_process(["--gallery", str(tmp_path / "odd"), "--text", "x"])
    assert run.returncode == 0, run.stderr
    assert "photos [old]/a.jpg" in run.stdout
    assert r"note=[/b] [red]:heart:, code=\x1b[31mred" in run.stdout
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_ids_are_whole_on_any_terminal(place: dict[str, Any], columns: int) -> None:
    environment = {"COLUMNS": str(columns), "FORCE_COLOR": "1", "FTI_DEBUG": None}
    arguments = ["--gallery", str(place["folder"] / "gallery"), "--text", "x", "--limit", "3"]
    done = CliRunner().invoke(main, arguments, env=environment, color=True)
    assert done.exit_code == 0, done.output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.output)
    ids = re.findall(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", plain)
    assert len(ids) == 3
    assert set(ids) <= {point_id(f"{number}.png") for number in range(6)}
    assert max(map(len, plain.splitlines())) <= max(columns, 80)


NO_TORCH = """
import runpy, sys
sys.argv = ["fti-search", *sys.argv[1:]]
try:
    runpy.run_module("fti_qdrant.cli.search", run_name="__main__")
finally:
    print("torch" in sys.modules)
"""


def test_a_missing_gallery_is_told_before_torch_is_loaded(place: dict[str, Any]) -> None:
    arguments = ["--gallery", str(place["folder"] / "missing"), "--text", "x"]
    command = [sys.executable, "-c", NO_TORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "no gallery at" in one_line(done, 2)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--image", "missing.png"], "no such file"),
        (["--image", "http://127.0.0.1:9/a.jpg"], "URLs are off"),
        (["--text", "x", "--filter", '{"prize": 1}'], "no image has"),
        (["--text", "x", "--filter", '{"name": 1}'], "name: holds texts"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_the_model_is_loaded(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.setattr(Composer, "load", None)
    run = in_process(["--gallery", str(place["folder"] / "gallery"), *arguments])
    assert reason in one_line(run, 2)
    EdgeGallery.open(place["folder"] / "gallery").close()  # the lock is free again


def test_advice_names_a_command_that_works(place: dict[str, Any], tmp_path: Path) -> None:
    new, photos = tmp_path / "new", place["pictures"]
    run = in_process(["--gallery", str(new), "--text", "x"])
    assert f"create one with: fti-ingest IMAGES --gallery {new}" in one_line(run, 2)
    run = in_process(["--gallery", str(photos), "--text", "x"])
    assert "fti-ingest" not in one_line(run, 2)
    assert "it contains '0.png' and 5 more" in run.stderr


def test_a_composer_is_chosen_by_the_model_and_named(
    place: dict[str, Any], tmp_path: Path, tiny_clip: Any
) -> None:
    """mini has an inverter; a model without one answers with what it can do."""
    folder = standins.model_folder(tmp_path / "model", tiny_clip)
    model = f"local-dir:{folder}"
    composer = Composer.load(model, device="cpu")
    spec = GallerySpec(fingerprint=composer.backbone.fingerprint)
    image = str(place["pictures"] / "1.png")
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:
        vector = composer.backbone.image_features([open_image(image).image]).pooled[0].numpy()
        gallery.upsert([GalleryPoint(point_id("a"), vector, {"_fti": {"uri": "a"}})])
    for options, expected in ([], "sum"), (["--composer", "slerp"], "slerp"):
        line = ["--gallery", str(tmp_path / "gallery"), "--image", image, "--text", "x", "--json"]
        run = in_process([*line, *options])
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["composer"] == expected
