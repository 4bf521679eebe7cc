"""Known models and inverters, as data. Importable without torch.

A table of suggestions and not a limit: any name that ``Backbone.load`` or ``load_inverter`` takes
works. Licenses are those of the pages where the weights are published. Parameters are counted on
the architectures; those with a text tower of transformers are from open_clip's model_profile.csv.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from fti_qdrant.images.recipes import Recipe
from fti_qdrant.model.names import local_folder


@dataclass(frozen=True)
class KnownModel:
    """A backbone.

    Attributes:
        name: as ``model=`` takes it.
        purpose: what it is for, in a few words.
        parameters: of both towers.
        dim: ``d``, values of one vector.
        license: of the weights.
        page: where weights and license are published; a repository of the Hugging Face hub.
        preprocess: the recipe by which it is loaded, unless another is asked for.
        architecture: open_clip's name of the same towers.
        composer: the one that it was trained for; None for the usual ones.
        method: its name in ``fti_qdrant.benchmarks.published``, where it has figures.
        names: what other tools call the same weights. Loaded by one of these, it has the
            preprocessing of those tools, ``center-crop``.
    """

    name: str
    purpose: str
    parameters: int
    dim: int
    license: str
    page: str
    preprocess: Recipe
    architecture: str
    composer: str | None = None
    method: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownInverter:
    """An inverter.

    Attributes:
        name: as ``inverter=`` takes it.
        purpose: what it is for, in a few words.
        parameters: its size.
        license: of the weights.
        backbone: the model that it was trained with; with another its pseudo-words mean nothing.
        same_backbone: other names of that model.
        repository: where it is published on the Hugging Face hub; None for one in this package.
        preprocess: how pictures were prepared in its training.
        method: its name in ``fti_qdrant.benchmarks.published``, where it has figures.
    """

    name: str
    purpose: str
    parameters: int
    license: str
    backbone: str
    same_backbone: tuple[str, ...]
    repository: str | None
    preprocess: Recipe
    method: str | None = None


Row = TypeVar("Row", KnownModel, KnownInverter)


def _by_name(rows: Iterable[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


KNOWN_MODELS = _by_name(
    [
        KnownModel(
            "mini",
            "emoji and drawings; in this package, for trials and tests",
            *(14_175_553, 192),
            "apache-2.0",
            "fti_qdrant/weights/mini",
            "target-pad",
            "mini",
        ),
        KnownModel(
            "hf:BAAI/BGE-VL-base",
            "photographs; trained for composed search",
            *(149_620_737, 512),
            "mit",
            "BAAI/BGE-VL-base",
            "center-crop",
            "ViT-B-16-quickgelu",
            *("raw-sum", "BGE-VL-base"),
        ),
        KnownModel(
            "hf:BAAI/BGE-VL-large",
            "photographs; trained for composed search, large",
            *(427_616_513, 768),
            "mit",
            "BAAI/BGE-VL-large",
            "center-crop",
            "ViT-L-14-quickgelu",
            *("raw-sum", "BGE-VL-large"),
        ),
        KnownModel(
            "ViT-L-14-quickgelu/openai",
            "photographs; the backbone of the published inverter fti4cir",
            *(427_616_513, 768),
            "mit",
            "openai/clip-vit-large-patch14",
            "target-pad",
            "ViT-L-14-quickgelu",
            names=(
                *("clip-ViT-L-14", "sentence-transformers/clip-ViT-L-14"),
                *("openai/clip-vit-large-patch14", "ViT-L/14"),
            ),
        ),
        KnownModel(
            "ViT-B-32-quickgelu/openai",
            "photographs; in many existing collections",
            *(151_277_313, 512),
            "mit",
            "openai/clip-vit-base-patch32",
            "target-pad",
            "ViT-B-32-quickgelu",
            names=(
                *("clip-ViT-B-32", "sentence-transformers/clip-ViT-B-32"),
                *("Qdrant/clip-ViT-B-32-vision", "openai/clip-vit-base-patch32", "ViT-B/32"),
            ),
        ),
        KnownModel(
            "ViT-B-16-quickgelu/openai",
            "photographs; in many existing collections",
            *(149_620_737, 512),
            "mit",
            "openai/clip-vit-base-patch16",
            "target-pad",
            "ViT-B-16-quickgelu",
            names=(
                *("clip-ViT-B-16", "sentence-transformers/clip-ViT-B-16"),
                *("openai/clip-vit-base-patch16", "ViT-B/16"),
            ),
        ),
        KnownModel(
            "ViT-B-32/laion2b_s34b_b79k",
            "photographs; fast",
            *(151_277_313, 512),
            "mit",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "target-pad",
            "ViT-B-32",
        ),
        KnownModel(
            "hf:patrickjohncyh/fashion-clip",
            "clothes and accessories",
            *(151_277_313, 512),
            "mit",
            "patrickjohncyh/fashion-clip",
            "center-crop",
            "ViT-B-32",
        ),
        KnownModel(
            "ViT-B-16-SigLIP2/webli",
            "photographs; texts in many languages",
            *(375_187_970, 768),
            "apache-2.0",
            "timm/ViT-B-16-SigLIP2",
            "squash",
            "ViT-B-16-SigLIP2",
        ),
        KnownModel(
            "ViT-SO400M-14-SigLIP2-378/webli",
            "photographs; texts in many languages, large",
            *(1_136_008_498, 1152),
            "apache-2.0",
            "timm/ViT-SO400M-14-SigLIP2-378",
            "squash",
            "ViT-SO400M-14-SigLIP2-378",
        ),
        KnownModel(
            "PE-Core-B-16/meta",
            "photographs; Meta's Perception Encoder",
            *(447_660_545, 1024),
            "apache-2.0",
            "timm/PE-Core-B-16",
            "squash",
            "PE-Core-B-16",
        ),
        KnownModel(
            "PE-Core-L-14-336/meta",
            "photographs; Meta's Perception Encoder, large",
            *(671_138_817, 1024),
            "apache-2.0",
            "timm/PE-Core-L-14-336",
            "squash",
            "PE-Core-L-14-336",
        ),
        KnownModel(
            "MobileCLIP2-S0/dfndr2b",
            "photographs on a CPU; the smallest",
            *(74_835_073, 512),
            "apple-amlr",
            "timm/MobileCLIP2-S0-OpenCLIP",
            "target-pad",
            "MobileCLIP2-S0",
        ),
        KnownModel(
            "MobileCLIP2-S2/dfndr2b",
            "photographs on a CPU",
            *(99_243_329, 512),
            "apple-amlr",
            "timm/MobileCLIP2-S2-OpenCLIP",
            "target-pad",
            "MobileCLIP2-S2",
        ),
        KnownModel(
            "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
            "photographs; texts in many languages (XLM-R)",
            *(366_120_000, 512),
            "mit",
            "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
            "target-pad",
            "xlm-roberta-base-ViT-B-32",
        ),
        KnownModel(
            "nllb-clip-base/v1",
            "photographs; texts in many languages (NLLB)",
            *(501_890_000, 512),
            "cc-by-nc-4.0",
            "visheratin/nllb-clip-base-oc",
            "target-pad",
            "nllb-clip-base",
        ),
    ]
)
"""Name -> model, the embedded one and those for composed search first."""

RECIPE_OF_OTHER_TOOLS: Recipe = "center-crop"

_BY_OTHER_NAME = {name: row for row in KNOWN_MODELS.values() for name in row.names}


def our_name(name: str) -> tuple[str, Recipe | None]:
    """A model's name as ``Backbone.load`` takes it, and the preprocessing that the name implies.

    Example:
        >>> our_name("clip-ViT-B-32")
        ('ViT-B-32-quickgelu/openai', 'center-crop')
        >>> our_name("ViT-B-32/laion2b_s34b_b79k")
        ('ViT-B-32/laion2b_s34b_b79k', None)
    """
    if name in _BY_OTHER_NAME and local_folder(name) is None:
        return _BY_OTHER_NAME[name].name, RECIPE_OF_OTHER_TOOLS
    return name, None


def mentioned_model(text: str) -> str | None:
    """The known name of a model that a text is, in any case; None where it is none.

    fastembed names vectors ``fast-`` and the last part of the model's name.

    Example:
        >>> mentioned_model("fast-clip-vit-b-32-vision")
        'Qdrant/clip-ViT-B-32-vision'
    """
    wanted = text.strip().lower()
    for name in (*KNOWN_MODELS, *_BY_OTHER_NAME):
        if wanted in (name.lower(), f"fast-{name.rpartition('/')[2]}".lower()):
            return name
    return None


KNOWN_INVERTERS = _by_name(
    [
        KnownInverter(
            "mini",
            "emoji and drawings; in this package",
            2_703_936,
            "apache-2.0",
            "mini",
            (),
            None,
            "target-pad",
        ),
        KnownInverter(
            "fti4cir",
            "photographs; the weights of the paper's authors",
            54_327_552,
            "apache-2.0",
            "ViT-L-14-quickgelu/openai",
            ("hf:openai/clip-vit-large-patch14",),
            "iLearn-Lab/SIGIR24-FTI4CIR",
            "target-pad",
            "FTI4CIR",
        ),
    ]
)
"""Name -> inverter."""
