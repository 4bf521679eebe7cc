"""A composer as a model of MTEB, so that its tasks with queries of image and text run with it.

Needs the package mteb (``fti-qdrant[mteb]``), and is written for its encoder protocol of version 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType
from torch import Tensor

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import IMAGE_ONLY
from fti_qdrant.errors import BadQuery

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

IMAGE, TEXT, QUERY = "image", "text", "query"
"""Keys of a batch: pictures, texts, and texts without the instruction that MTEB adds."""


class MtebModel(AbsEncoder):
    """Image and text of a query -> the composer's vector; an image or a text alone -> CLIP's.

    Attributes:
        composer: name of the composer of queries with both.
    """

    def __init__(self, model: Composer, composer: str | None = None):
        """``composer`` is by default the best that the model can do.

        Raises BadQuery for an unknown composer, or one that needs an inverter without one.
        """
        self.composer = model.default_composer if composer is None else composer
        model.check(self.composer)
        self.model = model
        self.mteb_model_meta = _meta(model, self.composer)

    @classmethod
    def load(
        cls,
        model: str = "mini",
        inverter: str | None = None,
        *,
        composer: str | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> MtebModel:
        """Loads a model as ``Composer.load`` does. Raises as it, and as the constructor."""
        loaded = Composer.load(model, inverter, device=device, precision=precision)
        return cls(loaded, composer)

    @torch.inference_mode()
    def encode(
        self,
        inputs: Iterable[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Batches with images, texts or both -> ``[N, d]``, in float32 on the CPU.

        Raises BadQuery for documents of image and text: a composer makes vectors of queries.
        """
        return torch.cat([self._vectors(batch, task_metadata, prompt_type) for batch in inputs])

    def _vectors(
        self, batch: dict[str, Any], task: TaskMetadata, prompt_type: PromptType | None
    ) -> Tensor:
        images: Sequence[Any] | None = batch.get(IMAGE)
        texts: Sequence[str] | None = batch.get(QUERY, batch.get(TEXT))
        if images is None and texts is None:
            raise BadQuery(f"{task.name}: a batch has neither images nor texts: {sorted(batch)}")
        if images is not None and texts is not None and prompt_type == PromptType.document:
            raise BadQuery(
                f"{task.name} searches documents of image and text; composers make vectors of "
                "queries, so run tasks whose documents are images or texts"
            )
        if images is None:
            vectors = self.model.texts([*(texts or ())]).vectors
        elif texts is None:
            vectors = self.model.compose(images, [""] * len(images), IMAGE_ONLY)
        else:
            vectors = self.model.compose(images, [*texts], self.composer)
        return vectors.float().cpu()


def _meta(model: Composer, composer: str) -> ModelMeta:
    """What MTEB stores with its results; the revision changes with everything that they need."""
    backbone, inverter = model.backbone, model.inverter
    words = "none" if inverter is None else inverter.weights_hash
    name = backbone.name.replace("/", "-").replace(":", "-")
    return ModelMeta(
        loader=None,
        name=f"fti-qdrant/{name}-{composer}",
        revision=f"{backbone.fingerprint.weights}-{words}-{backbone.precision}",
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=sum(one.numel() for one in backbone.parameters()),
        memory_usage_mb=None,
        max_tokens=backbone.text.context_length,
        embed_dim=backbone.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=None,
        modalities=["image", "text"],
        experiment_kwargs={"preprocess": backbone.preprocess.name, "composer": composer},
    )
