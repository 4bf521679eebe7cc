"""The notebook of the documentation: it runs, and what it shows is what it holds."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
PICTURE = re.compile(r'src="data:image/webp;base64,')
NAMES = re.compile(r'<figure>\s*<img [^>]*alt="([^"]+)"')

BEST = {
    "query": "woman firefighter dark skin tone",
    "refine": "man firefighter dark skin tone",
    "filter": "man firefighter medium-dark skin tone",
    "compare-pdv": "clock face at half past six",
}
"""Cell -> the first result."""


def outputs(notebook: nbformat.NotebookNode) -> dict[str, dict[str, str]]:
    """Cell -> media type -> what it shows; asserts that it shows one thing, and no warnings."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.outputs) <= 1, (cell.id, cell.outputs)
            found[cell.id] = dict(cell.outputs[0].data) if cell.outputs else {}
    return found


@pytest.fixture(scope="module")
def stored() -> dict[str, dict[str, str]]:
    return outputs(nbformat.read(NOTEBOOK, as_version=4))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The same by a run of its own, in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder))
        runner = ExecutePreprocessor(timeout=300, record_timing=False)
        runner.preprocess(notebook, {"metadata": {"path": str(folder)}})
    assert list((folder / "fti-quickstart" / "gallery").iterdir())
    return outputs(notebook)


def test_every_cell_runs_and_shows_what_it_should(executed: dict[str, dict[str, str]]) -> None:
    for cell, best in BEST.items():
        assert NAMES.findall(executed[cell]["text/html"])[0] == best
    assert NAMES.findall(executed["compare-sum"]["text/html"])[0] != BEST["compare-pdv"]
    without, avoided = (
        NAMES.findall(executed[cell]["text/html"]) for cell in ("avoid-without", "avoid")
    )
    assert any("woman" in name for name in without)
    assert not any("woman" in name for name in avoided)
    assert len(PICTURE.findall(executed["explain"]["text/html"])) == 1
    assert "but with dark skin tone" in executed["explain"]["text/html"]
    assert "<table" in executed["table"]["text/html"]


def test_the_notebook_holds_the_results_of_its_cells(
    stored: dict[str, dict[str, str]], executed: dict[str, dict[str, str]]
) -> None:
    """After a change, ``make notebook`` writes them."""
    assert stored.keys() == executed.keys()
    for cell, shown in executed.items():
        assert stored[cell].keys() == shown.keys(), cell
        found, held = (NAMES.findall(one.get("text/html", "")) for one in (shown, stored[cell]))
        assert found[:1] == held[:1]
        assert len(found) == len(held)


def test_the_notebook_is_small_and_names_no_folder_of_its_author() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < 300_000
    assert len(PICTURE.findall(text.replace("\\", ""))) > 40
    paths = re.findall(r"'(/[^']*)'", text)
    assert paths
    assert all("/fti-quickstart/" in path for path in paths)
