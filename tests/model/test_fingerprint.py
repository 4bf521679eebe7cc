"""The fingerprint changes with whatever changes a vector, and with nothing else."""

from __future__ import annotations

import copy
import dataclasses

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.fingerprint import Fingerprint, weights_hash

PRINT = Fingerprint("a", "0123456789abcdef", "GELU", "targetpad-1.25/bicubic/center-crop-32", 64)


def wrap(model, name: str = "tiny", precision: str = "fp32") -> Backbone:
    return Backbone(copy.deepcopy(model), SimpleTokenizer(), name, precision)


def test_name_and_precision_do_not_matter(tiny_clip, tiny_backbone):
    print_ = tiny_backbone.fingerprint
    assert print_.matches(wrap(tiny_clip, "another name").fingerprint)
    assert print_.matches(wrap(tiny_clip, precision="bf16").fingerprint)
    assert (print_.activation, print_.dim) == ("GELU", 64)


def test_one_weight_matters(tiny_clip, tiny_backbone):
    other = copy.deepcopy(tiny_clip)
    with torch.no_grad():
        other.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    assert not tiny_backbone.fingerprint.matches(wrap(other).fingerprint)


def test_activation_matters(tiny_clip, tiny_config, tiny_backbone):
    """QuickGELU and GELU hold the same tensors."""
    quick = open_clip.CLIP(**tiny_config["model_cfg"], quick_gelu=True)
    quick.load_state_dict(tiny_clip.state_dict())
    quick.visual.preprocess_cfg = tiny_config["preprocess_cfg"]
    print_ = wrap(quick).fingerprint
    assert print_.weights == tiny_backbone.fingerprint.weights
    assert print_.activation == "QuickGELU"
    assert not tiny_backbone.fingerprint.matches(print_)


@pytest.mark.parametrize(
    "changed",
    [{"weights": "f" * 16}, {"activation": "QuickGELU"}, {"preprocess": "resize"}, {"dim": 1}],
)
def test_every_field_but_the_name_is_compared(changed):
    assert not PRINT.matches(dataclasses.replace(PRINT, **changed))
    assert PRINT.matches(dataclasses.replace(PRINT, model="b"))


def test_round_trip_and_text():
    assert Fingerprint(**PRINT.as_dict()) == PRINT
    for part in ("a", "0123456789abcdef", "GELU", "targetpad-1.25", "64 dimensions"):
        assert part in str(PRINT)


def test_weights_hash_is_of_names_shapes_and_values():
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0)}
    digest = weights_hash(tensors.items())
    assert len(digest) == 16
    assert weights_hash(reversed(list(tensors.items()))) == digest
    assert weights_hash((k, v.half()) for k, v in tensors.items()) == digest
    transposed = tensors["a"].T.contiguous().T  # the same values, laid out otherwise
    assert weights_hash([("a", transposed), ("b", tensors["b"])]) == digest
    for other in (
        {"a": tensors["a"].reshape(3, 2), "b": tensors["b"]},
        {"c": tensors["a"], "b": tensors["b"]},
        {"a": tensors["a"] + 1, "b": tensors["b"]},
    ):
        assert weights_hash(other.items()) != digest
