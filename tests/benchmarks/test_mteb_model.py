"""Our composers inside MTEB: its own evaluation of a small task of composed queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import BadQuery

mteb = pytest.importorskip("mteb", reason="the package mteb is not installed")

COUNT = 24


def picture(seed: int) -> Image.Image:
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((64, 64), Image.Resampling.NEAREST)


PICTURES = [picture(seed) for seed in range(COUNT)]
TEXTS = [f"make it {('red', 'blue', 'smaller')[number % 3]}" for number in range(8)]


def task_of(texts_in_corpus: bool = False) -> Any:
    """A task with 8 composed queries over 24 pictures, as MTEB's own tasks are declared."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class ComposedTask(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="ComposedTask",
            description="Patches, changed as a text says.",
            reference="https://example.org",
            dataset={"path": "generated", "revision": "1"},
            type="Any2AnyRetrieval",
            category="it2it" if texts_in_corpus else "it2i",
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="recall_at_5",
            prompt={"query": "Retrieve the changed image."},
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            corpus: dict[str, list[Any]] = {
                "id": [f"d{number}" for number in range(COUNT)],
                "image": PICTURES,
            }
            if texts_in_corpus:
                corpus["text"] = ["a patch"] * COUNT
            queries = {
                "id": [f"q{number}" for number in range(len(TEXTS))],
                "image": PICTURES[: len(TEXTS)],
                "text": TEXTS,
                "instruction": ["Retrieve the changed image."] * len(TEXTS),
            }
            self.dataset = {
                "default": {
                    "test": {
                        "queries": Dataset.from_dict(queries),
                        "corpus": Dataset.from_dict(corpus),
                        "relevant_docs": {
                            f"q{number}": {f"d{number + 3}": 1} for number in range(len(TEXTS))
                        },
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return ComposedTask()


@pytest.fixture(scope="module")
def mini() -> Composer:
    return Composer.load("mini", device="cpu")


def slow_recalls(mini: Composer, composer: str) -> dict[str, float]:
    """Recall of the one right picture, from cosines one query at a time."""
    documents = torch.cat([mini.compose([one], [""], "image") for one in PICTURES])
    places = []
    for number, text in enumerate(TEXTS):
        query = mini.compose([PICTURES[number]], [text], composer)[0]
        scores = torch.nn.functional.cosine_similarity(documents, query[None])
        places.append(int((scores > scores[number + 3]).sum()) + 1)
    return {f"recall_at_{k}": float(np.mean([p <= k for p in places])) for k in (1, 3, 5, 10, 20)}


@pytest.mark.parametrize("composer", ["fti", "sum", "text"])
def test_mteb_measures_our_composed_queries(mini: Composer, composer: str) -> None:
    from mteb.models.models_protocols import EncoderProtocol

    from fti_qdrant.benchmarks.mteb_model import MtebModel

    model = MtebModel(mini, composer)
    assert isinstance(model, EncoderProtocol)
    done = mteb.evaluate(
        model, task_of(), cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 5}
    )
    (scores,) = done.task_results[0].scores["test"]
    want = slow_recalls(mini, composer)
    assert {name: scores[name] for name in want} == pytest.approx(want, abs=1e-4)
    assert 0 < want["recall_at_20"] < 1 or 0 < want["recall_at_10"] < 1
    assert done.model_name == f"fti-qdrant/mini-{composer}"
    assert mini.inverter is not None
    assert mini.inverter.weights_hash in str(done.model_revision)


def test_documents_of_image_and_text_are_refused(mini: Composer) -> None:
    from fti_qdrant.benchmarks.mteb_model import MtebModel

    with pytest.raises(BadQuery, match="ComposedTask searches documents of image and text"):
        mteb.evaluate(MtebModel(mini), task_of(texts_in_corpus=True), cache=None)


def test_a_composer_that_needs_an_inverter_is_refused_without_one(mini: Composer) -> None:
    from fti_qdrant.benchmarks.mteb_model import MtebModel

    with pytest.raises(BadQuery, match="needs an inverter"):
        MtebModel(Composer(mini.backbone), "pdv")


def test_the_default_composer_is_the_models_best(mini: Composer) -> None:
    from fti_qdrant.benchmarks.mteb_model import MtebModel

    assert MtebModel(mini).composer == mini.default_composer
    assert MtebModel(Composer(mini.backbone)).composer == "sum"
