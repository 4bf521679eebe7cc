"""Threads, how they wait, and bf16 by default where it is faster and near enough."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fti_qdrant.model import cpu, precision
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.precision import least_cosine, probe
from tests.model.open_clip_models import save_family


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "900000 100000"}, 8),
        ({"cpu.max": "broken"}, 8),
        ({}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_container_may_have_fewer_cpus_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpu, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cpu.usable_cpus() == cpus


def test_torch_gets_no_more_threads_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cpu, "usable_cpus", lambda: 2)
    try:
        cpu.use_threads(3)
        cpu.fit_threads()
        assert torch.get_num_threads() == 2
        cpu.use_threads(1)
        cpu.fit_threads()
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        cpu.use_threads(3)
        cpu.fit_threads()
        assert torch.get_num_threads() == 3
        Backbone.load("mini", device="cpu")
        assert torch.get_num_threads() == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        Backbone.load("mini", device="cpu")
        assert cpu.use_threads(1) == 2
    finally:
        cpu.use_threads(1)


PRINT = "import fti_qdrant, os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, cpu.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_sleep_soon_unless_the_user_says_otherwise(
    given: dict[str, str], spins: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    line = [sys.executable, "-c", PRINT]
    done = subprocess.run(line, env=environment | given, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == spins


@pytest.fixture
def name(tmp_path: Path) -> str:
    return save_family("vit", tmp_path)


@pytest.fixture
def _bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies bf16, and a model that is large enough for it."""
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "MIN_PARAMETERS", 0)


@pytest.mark.usefixtures("_bf16")
def test_bf16_is_the_default_where_it_is_near_enough(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exact = Backbone.load(name, device="cpu", precision="fp32")
    monkeypatch.setattr(precision, "MIN_COSINE", 0.99)
    with caplog.at_level(logging.INFO, "fti_qdrant"):
        loaded = Backbone.load(name, device="cpu")
    assert "bf16: cosine to fp32 is 0.99" in caplog.text
    assert (loaded.precision, loaded.dtype) == ("bf16", torch.bfloat16)
    assert {one.dtype for one in loaded.parameters()} == {torch.bfloat16}
    assert loaded.fingerprint == exact.fingerprint
    assert 0.99 < least_cosine(probe(loaded), probe(exact)) < 1


@pytest.mark.usefixtures("_bf16")
def test_fp32_stays_where_bf16_changes_the_features(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the weights are those of the file, not rounded and back."""
    exact = Backbone.load(name, device="cpu", precision="fp32")
    monkeypatch.setattr(precision, "MIN_COSINE", 1.1)
    loaded = Backbone.load(name, device="cpu")
    assert (loaded.precision, loaded.dtype) == ("fp32", torch.float32)
    assert not any(one.requires_grad for one in loaded.parameters())
    assert torch.equal(probe(loaded), probe(exact))
    for key, value in exact.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


@pytest.mark.usefixtures("_bf16")
def test_a_model_that_overflows_stays_in_fp32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "MIN_COSINE", -0.5)
    broken = torch.full((4, 24), torch.nan)
    probes = [torch.ones(4, 24), broken]
    monkeypatch.setattr(precision, "probe", lambda backbone: probes.pop(0))
    assert Backbone.load(name, device="cpu").precision == "fp32"
    assert not probes


def test_a_small_model_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    assert Backbone.load("mini", device="cpu").precision == "fp32"


def test_without_the_instructions_bf16_is_slow_and_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "MIN_PARAMETERS", 0)
    monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    assert Backbone.load(name, device="cpu").precision == "fp32"
    assert not caplog.records
    assert Backbone.load(name, device="cpu", precision="bf16").precision == "bf16"
    assert "neither AVX512-BF16 nor AMX" in caplog.text
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    caplog.clear()
    Backbone.load(name, device="cpu", precision="bf16")
    assert not caplog.records


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_the_instructions_are_asked_of_torch(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert cpu.has_bf16() == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    wanted = {"_is_avx512_bf16_supported": flags.get("avx512_bf16", False)}
    wanted["_is_amx_tile_supported"] = flags.get("amx_bf16", False)
    for function, answer in wanted.items():
        monkeypatch.setattr(torch.cpu, function, lambda answer=answer: answer, raising=False)
    assert cpu.has_bf16() == expected
