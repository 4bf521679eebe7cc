"""Qdrant Edge, the embedded engine: its version, its errors, and a gallery's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import qdrant_edge as edge

from fti_qdrant.errors import FtiError, GalleryUnavailable
from fti_qdrant.gallery.points import GallerySpec, IndexType

PACKAGE = "qdrant-edge-py"
OLDEST, NEWEST = (0, 9), (0, 9)
"""Releases (major, minor) that the gallery's tests pass on; 0.8 has another interface."""


def check_version() -> None:
    """Raises GalleryUnavailable where the engine is of a release that was not tested.

    A newer one might store or read a gallery in another way.
    """
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        raise GalleryUnavailable(
            f"{PACKAGE} {version} is installed, and embedded galleries need {requirement()}; "
            f"install it with: pip install '{PACKAGE}{requirement()}'"
        )


def requirement() -> str:
    """The supported versions, as pip takes them.

    Example:
        >>> requirement()
        '>=0.9,<0.10'
    """
    return f">={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"


@contextmanager
def engine_errors(path: Path) -> Iterator[None]:
    """Turns the engine's errors into GalleryUnavailable.

    The engine raises plain ``Exception`` for everything that goes wrong inside it, and where
    damaged files make it panic, a BaseException of its own, which cannot be imported.
    """
    try:
        yield
    except FtiError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise GalleryUnavailable(f"gallery {str(path)!r}: {error}") from error


def engine_config(spec: GallerySpec) -> edge.EdgeConfig:
    """The vectors of a gallery. Pseudo-words stay on disk, in float16, without an index."""
    layout = spec.layout
    image = edge.EdgeVectorParams(spec.fingerprint.dim, edge.Distance.Cosine)
    vectors = {layout.image_vector: image}
    if spec.words:
        vectors[layout.words_vector] = edge.EdgeVectorParams(
            spec.words.token_dim,
            edge.Distance.Dot,
            on_disk=True,
            datatype=edge.VectorStorageDatatype.Float16,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        )
    return edge.EdgeConfig(vectors=vectors)


def with_words(shard: edge.EdgeShard, folder: Path, spec: GallerySpec) -> edge.EdgeShard:
    """The shard with a vector for pseudo-words, loaded anew.

    Adding a vector that is there already does nothing. Only loading by a whole configuration says
    that it stays on disk and has no index.
    """
    assert spec.words is not None
    operation = edge.UpdateOperation.create_dense_vector(
        spec.layout.words_vector,
        spec.words.token_dim,
        edge.Distance.Dot,
        edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        edge.VectorStorageDatatype.Float16,
    )
    shard.update(operation)
    shard.flush()
    shard.close()
    return edge.EdgeShard.load(str(folder), engine_config(spec))


def index_type(kind: IndexType) -> edge.PayloadSchemaType:
    """The engine's type of a payload index."""
    types = edge.PayloadSchemaType
    return {
        "keyword": types.Keyword,
        "integer": types.Integer,
        "float": types.Float,
        "bool": types.Bool,
        "datetime": types.Datetime,
    }[kind]
