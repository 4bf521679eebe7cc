"""The card of a finished run, and its way to the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from fti_training.cli.main import main
from fti_training.fit.config import FitConfig
from fti_training.fit.data_facts import DataFacts
from fti_training.loop.records import Records, read_rows

PARTS = {"total": 7.5, "contrastive": 4.5, "orthogonality": 0.75, "tri_wise": 1.6, "mean_count": 4}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What a run of 200 steps leaves behind."""
    save_inverter(Inverter(16, 8, 8, latents=4, topk=2), tmp_path / "inverter")
    (tmp_path / "config.json").write_text(FitConfig(lr=3e-4).model_dump_json())
    facts = DataFacts(
        samples=1234,
        digest="d" * 64,
        without_split=5,
        unreadable=2,
        captioner="blip",
        splitter="rules",
        backbone="abcd",
    )
    facts.write(tmp_path)
    records = Records(tmp_path)
    records.begin(0)
    for step in (1, 100, 200):
        records.stepped(step, {**PARTS, "total": 7.5 / step})
    records.validated(200, {"emoji_R@1": 0.25, "emoji_R@10": 0.75})
    records.close()
    return tmp_path


def test_it_says_that_composed_queries_were_trained_on(run_folder: Path) -> None:
    counts = {"triplets": 4321, "triplets_held_out": 7, "triplets_unreadable": 3}
    DataFacts.read(run_folder).model_copy(update=counts).write(run_folder)
    records = Records(run_folder)
    records.begin(0)
    records.stepped(1, {**PARTS, "triplet": 2.25})
    records.close()
    assert train("card", run_folder, "--license", "mit").exit_code == 0
    card = " ".join((run_folder / "inverter" / "README.md").read_text().split())
    assert "from 4,321 composed queries whose answers are known" in card
    assert "; 7 more name held-out pictures; 3 more name pictures that could not be read." in card
    assert "| tri-wise | triplets | mean r |" in card
    assert "| 1.6000 | 2.2500 | 4.0 |" in card
    assert "without labels" not in card


def train(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_it_states_data_settings_figures_and_draws_the_curve(run_folder: Path) -> None:
    result = train("card", run_folder, "--license", "apache-2.0")
    assert result.exit_code == 0, result.output
    card = (run_folder / "inverter" / "README.md").read_text()
    for message in (
        "license: apache-2.0",
        "1,234 captioned pictures",
        "5 more were left out",
        "2 could not be read",
        "Captions by `blip`, split by `rules`",
        "lr: 0.0003",
        "| 200 | 0.0375 | 4.5000 | 0.7500 | 1.6000 | 4.0 |",
        "| step | emoji_R@1 | emoji_R@10 |\n|---|---|---|\n| 200 | 0.250 | 0.750 |",
    ):
        assert message in card
    with Image.open(run_folder / "inverter" / "curve.png") as curve:
        assert curve.width > curve.height > 200


def test_a_resumed_log_drops_the_rows_after_the_checkpoint(run_folder: Path) -> None:
    records = Records(run_folder)
    records.begin(100)
    records.stepped(101, PARTS)
    records.close()
    lines = (run_folder / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "100", "101"]
    assert not (run_folder / "validation.csv").exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("inverter/config.json", "holds no inverter/"),
        ("log.csv", "log.csv' is missing or empty"),
        ("config.json", "config.json' cannot be read"),
        ("data.json", "data.json' cannot be read"),
    ],
)
def test_what_is_missing_is_named(run_folder: Path, missing: str, message: str) -> None:
    (run_folder / missing).unlink()
    result = train("card", run_folder)
    assert result.exit_code == 2
    assert message in result.output


def test_a_run_is_pushed_with_its_card_only(run_folder: Path) -> None:
    result = train("push", run_folder, "me/mine")
    assert result.exit_code == 2
    assert "has no card; run: fti-train card" in result.output


@pytest.mark.parametrize("repo", ["me/mine", "not a name"])
def test_a_hub_that_does_not_answer_or_refuses(
    run_folder: Path, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:1")
    assert train("card", run_folder).exit_code == 0
    result = train("push", run_folder, repo)
    assert result.exit_code == 1
    assert "the hub" in result.output
    assert json.loads((run_folder / "data.json").read_text())["samples"] == 1234


def test_a_run_is_not_resumed_with_other_data(run_folder: Path) -> None:
    then = DataFacts.read(run_folder)
    then.check_same(then.model_copy(update={"unreadable": 9}))
    for change in ({"digest": "e" * 64}, {"backbone": "other"}):
        with pytest.raises(CheckpointError, match="started with other"):
            then.model_copy(update=change).check_same(then)


def test_a_half_written_row_of_the_log_is_left_out(run_folder: Path) -> None:
    with (run_folder / "log.csv").open("a") as log:
        log.write("201,0.5,")
    assert [row["step"] for row in read_rows(run_folder / "log.csv")] == [1, 100, 200]
    assert train("card", run_folder).exit_code == 0
