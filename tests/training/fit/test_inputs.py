"""What ``fti-train fit`` refuses before any work, and the order of its samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fti_qdrant.cli import extras
from fti_qdrant.errors import BadManifest, FtiError
from fti_training import emoji_packages
from fti_training.cli.main import main
from fti_training.fit import validate
from fti_training.fit.config import FitConfig
from fti_training.fit.ray_training import ray_storage
from fti_training.fit.sampling_order import SamplingOrder
from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.update import Cosine, Decay
from fti_training.samples import read_samples
from fti_training.settings import parse_settings, read_yaml


def table(path: Path, rows: list[dict[str, str | None]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def fit(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["fit", *map(str, arguments)])
    return result.exit_code, result.output


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(1, 6), st.integers(1, 4), st.integers(0, 5))
def test_the_parts_of_an_epoch_hold_each_sample_at_most_once(
    samples: int, own: int, workers: int, seed: int
) -> None:
    batch = own * workers
    if samples < batch:
        with pytest.raises(FtiError, match="do not fill a batch"):
            SamplingOrder(samples, batch, seed)
        return
    order = SamplingOrder(samples, batch, seed)
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        seen = [
            row for s in steps for rank in range(workers) for row in order.part(s, rank, workers)
        ]
        assert len(seen) == len(set(seen)) == order.steps_per_epoch * batch
        for step in steps:
            parts = [order.part(step, rank, workers) for rank in range(workers)]
            assert np.concatenate(parts).tolist() == order.rows(step).tolist()
    assert SamplingOrder(samples, batch, seed).rows(3).tolist() == order.rows(3).tolist()


def test_the_official_schedule_and_the_cosine() -> None:
    decay = FitConfig(warmup_steps=2).schedule_over(steps=600, steps_per_epoch=10)
    assert isinstance(decay, Decay)
    rates = [decay.at(step) for step in (0, 1, 2, 99, 100, 599)]
    assert rates == pytest.approx([2e-5, 4e-5, 4e-5, 4e-5, 4e-6, 4e-6])
    cosine = FitConfig(schedule="cosine").schedule_over(600, 10)
    assert isinstance(cosine, Cosine)
    assert cosine.at(0) == pytest.approx(4e-5)
    assert cosine.at(599) < 1e-9


def test_the_defaults_are_the_official_constants() -> None:
    config = FitConfig()
    assert (config.lr, config.weight_decay, config.batch, config.epochs) == (4e-5, 0.01, 256, 60)
    assert (config.decay_epoch, config.decay_factor) == (10, 0.1)
    assert (config.latents, config.topk, config.epsilon, config.dropout) == (24, 12, 0.05, 0.5)
    assert (config.temperature, config.tri_wise_weight) == (0.2, 1.4)


def test_settings_from_a_file_and_flags_over_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("lr: 1.0e-3\nbatch: 64\nschedule: cosine\n")
    code, printed = fit(file, "--batch", 32, "--set", "topk=6", "--print-config")
    assert code == 0
    (tmp_path / "printed.yaml").write_text(printed)
    config = parse_settings(FitConfig, read_yaml(tmp_path / "printed.yaml"))
    assert (config.lr, config.batch, config.schedule, config.topk) == (1e-3, 32, "cosine", 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "learning_rate=1"], "there is no setting 'learning_rate'; settings are model,"),
        (["--set", "warm_up=1"], "there is no setting 'warm_up'; did you mean warmup_steps?"),
        (["--set", "lr=fast"], "setting lr='fast': it must be a number"),
        (["--set", "lr=0"], "setting lr=0: it must be greater than 0"),
        (["--set", "batch=2.5"], "setting batch=2.5: it must be a whole number"),
        (["--set", "schedule=linear"], "schedule='linear': it must be 'decay' or 'cosine'"),
        (["--set", "dropout=1"], "setting dropout=1: it must be less than 1"),
        (["--lr", "nan"], "setting lr=nan: it must be a finite number"),
        (["--batch", "many"], "'many' is not a valid integer"),
        (["--set", "lr"], "write it as NAME=VALUE"),
        (["--batch", "10", "--workers", "3"], "batch=10 does not divide among workers=3"),
        (["missing.yaml"], "settings 'missing.yaml' cannot be read"),
        ([], "pass --out"),
        (["--out", "o"], "pass either --captions FILE or --cache DIR"),
        (["--out", "o", "--captions", "no.parquet"], "captions 'no.parquet' cannot be read"),
        (["--out", "o", "--cache", "no"], "holds no cache"),
        (["--out", "o", "--cache", "no", "--model", "ViT-X"], "unknown model 'ViT-X'"),
        (
            ["--out", "o", "--cache", "no", "--storage", "nowhere://x"],
            "Protocol not known: nowhere",
        ),
        (["--out", "o", "--cache", "no", "--set", "topk=30"], "topk = 30 must lie in 1..latents"),
    ],
)
def test_bad_input_is_told_in_a_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = fit(*arguments)
    assert code == 2
    assert message in output


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    rows = [{"uri": f"{n}.png", "subject": "dog", "attribute": "brown"} for n in range(8)]
    captions = table(tmp_path / "captions.parquet", rows)
    out = tmp_path / "out"
    line = ("--captions", captions, "--out", out, "--batch", 8, "--ray-address", "127.0.0.1:1")
    code, output = fit(*line)
    assert code == 1
    assert "Ray cluster 127.0.0.1:1: it does not answer" in output


def test_rows_without_a_split_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        {"uri": "a.png", "subject": "dog", "attribute": "with a tail"},
        {"uri": "b.png", "subject": None, "attribute": None},
        {"uri": "c.png", "subject": "cat", "attribute": " "},
        {"uri": "d.png", "subject": "", "attribute": "red"},
    ]
    samples = read_samples(table(tmp_path / "c.parquet", rows))
    assert samples.uris(range(len(samples))).to_pylist() == ["a.png"]
    assert samples.without_split == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uri": "a", "caption": "a dog"}], "no column 'subject'"),
        ([{"uri": "a", "subject": None, "attribute": None}], "none of 1 has a subject"),
    ],
)
def test_captions_that_nothing_can_be_trained_on(
    rows: list[dict[str, str | None]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadManifest, match=message):
        read_samples(table(tmp_path / "c.parquet", rows))


def test_a_damaged_table(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(BadManifest, match="cannot be read"):
        read_samples(tmp_path / "c.parquet")


def test_storage_is_a_folder_or_any_fsspec_place(tmp_path: Path) -> None:
    local = CheckpointStorage.at(str(tmp_path / "run"))
    assert ray_storage(local) == {"name": "ray", "storage_path": str(tmp_path / "run")}
    memory = CheckpointStorage.at("memory://somewhere/run")
    assert "storage_filesystem" in ray_storage(memory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "local", "--workers", "2"], "--engine local runs one worker"),
        (["--workers", "2"], "this needs the package ray: pip install 'fti-qdrant[ray]'"),
        (["--engine", "ray"], "this needs the package ray: pip install 'fti-qdrant[ray]'"),
    ],
)
def test_an_engine_that_cannot_run_here_is_refused_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "ray" else find(name))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    out = tmp_path / "out"
    code, output = fit("--captions", "no.parquet", "--out", out, *arguments)
    assert code == 2
    assert message in output
    assert not out.exists()


def test_packages_that_only_validation_needs(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Named where validation was asked for, else left out with a note."""
    for module in (extras, emoji_packages):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(FtiError, match=r"package emoji: pip install 'fti-qdrant\[demo\]'"):
        validate.with_validation(FitConfig(validate_on="emoji"))
    assert validate.with_validation(FitConfig()).validate_on == "none"
    assert "no validation: the package emoji is not installed" in caplog.text
    assert validate.with_validation(FitConfig(validate_on="none")).validate_on == "none"


def test_one_worker_here_needs_no_ray() -> None:
    """Nothing of the extras is imported before it is used."""
    code = """
import sys
import fti_training.fit.run, fti_training.captions.pipeline, fti_training.cache.write
import fti_training.cli.main
loaded = {name.partition(".")[0] for name in sys.modules}
print(*loaded & {"ray", "pandas", "tensorboard", "matplotlib", "spacy"})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr


def test_help_shows_types_and_defaults() -> None:
    """The defaults are written out: the settings themselves load torch."""
    defaults = FitConfig()
    code, shown = fit("--help")
    assert code == 0
    text = " ".join(shown.split())
    options = next(one for name, one in main.commands.items() if name == "fit").params
    for option in options:
        default = getattr(defaults, str(option.name), None)
        if isinstance(option, click.Option) and default is not None and option.name != "settings":
            assert f"[default: {default}]" in str(option.help), option.name
    for kind in ("--epochs INTEGER", "--steps INTEGER", "--batch INTEGER", "--lr FLOAT"):
        assert kind in text


def test_the_validation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    line = validate.validation_line(FitConfig(validate_on="emoji"))
    assert line is not None
    assert "emoji benchmark" in line
    assert "validate_on=none" in line
    assert validate.validation_line(FitConfig(validate_on="none")) is None
