"""The backbone that an imported checkpoint is meant for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from fti_qdrant.errors import ModelMismatch, UnsupportedModel
from fti_training.importer.backbone_sizes import sizes_of
from fti_training.importer.import_inverter import convert_checkpoint, import_inverter
from tests.model.importer.standins import network, save


def test_another_backbone_is_told_with_both_sizes(checkpoint, tmp_path):
    message = (
        "trained with width 192, d 192, t 192; ViT-B-32-quickgelu/openai has "
        "width 768, d 512, t 512; try the backbone that it was trained with"
    )
    with pytest.raises(ModelMismatch, match=message):
        convert_checkpoint(checkpoint, "ViT-B-32-quickgelu/openai")
    state = network(8, 8).state_dict() | {
        "templates": torch.zeros(1, 24, 1024),
        "phi_s.layers.0.weight": torch.zeros(4, 768),
        "local_atte_fc.0.weight": torch.zeros(768, 4),
    }
    with pytest.raises(ModelMismatch, match=r"has width 192.*try ViT-L-14-quickgelu/openai"):
        convert_checkpoint(save(state, tmp_path / "large.pth"), "mini")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ViT-L-14/openai", ModelMismatch, "use ViT-L-14-quickgelu/openai"),
        ("ViT-L-14-quickgelu/openia", UnsupportedModel, "no such weights.*quickgelu/openai"),
        ("ViT-L-14-quickgelu", UnsupportedModel, "names no weights"),
        ("RN50-quickgelu/openai", UnsupportedModel, "ModifiedResNet"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", UnsupportedModel, "class token"),
        ("NoSuchModel/openai", UnsupportedModel, "unknown model"),
        ("local-dir:/no/such/folder", UnsupportedModel, "/no/such/folder"),
    ],
)
def test_backbones_that_cannot_be_meant(checkpoint, name, kind, message):
    with pytest.raises(kind, match=message):
        convert_checkpoint(checkpoint, name)


def test_sizes_without_weights(caplog):
    assert sizes_of("ViT-L-14-quickgelu/openai") == (1024, 768, 768)
    assert sizes_of("ViT-B-16-SigLIP/webli") == (768, 768, 768)
    assert sizes_of("mini") == (192, 192, 192)
    assert not caplog.records


def test_the_record_says_where_the_weights_came_from(checkpoint, tmp_path: Path):

    import_inverter(checkpoint, "mini", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record == {
        "backbone": "mini",
        "imported_from": {"file": "FTI4CIR_model.pth", "sha256": digest},
    }
