"""Validation while an inverter is trained: on benchmarks, on held-out captions, early stopping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fti_qdrant.cli.evaluate import main as fti_eval
from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import BadBenchmark, FtiError
from fti_qdrant.images import open_image
from fti_training.fit.caption_validation import CaptionValidation, RowsInOrder, recalls
from fti_training.fit.config import FitConfig
from fti_training.fit.held_out import divide
from fti_training.fit.sampling_order import SamplingOrder
from fti_training.fit.validate import best_figure, validation_line, with_validation
from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.records import Records, read_rows
from fti_training.samples import Samples, read_samples
from fti_training.settings import parse_settings
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep
from tests.benchmarks import later_standins, standins
from tests.training.fit.runs import fit_line, fitted, rows_of, train, write_samples

SHARE = "captions:0.3"


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 drawings; five of them have a second caption."""
    table = write_samples(tmp_path_factory.mktemp("drawings"), 40)
    rows = pq.read_table(table).to_pylist()
    rows += [{**row, "attribute": f"nice {row['attribute']}"} for row in rows[:5]]
    pq.write_table(pa.Table.from_pylist(rows), table)
    return table


def weights(out: Path, which: str = "inverter") -> dict[str, torch.Tensor]:
    return load_file(out / which / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["cirr", "pinpoint"])
def test_benchmark_figures_are_those_of_fti_eval(
    name: str, captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    """The trained inverter, measured through Qdrant: one query with one or two images at a time."""
    makers: dict[str, Any] = {**standins.MAKERS, **later_standins.LATER}
    root, out = makers[name](tmp_path / name), tmp_path / "out"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    done = fitted(*arguments, steps=2, checkpoint_every=1, validate_on=f"{name}:{root}")
    assert f"validation at each checkpoint: {name}, composed by fti" in done.output
    rows = rows_of(out / "validation.csv")
    assert [row["step"] for row in rows] == [1, 2]
    line = ["run", name, "--root", root, "--out", tmp_path / "eval", "--model", tiny_model]
    line += ["--inverter", out / "inverter", "--composer", "fti", "--precision", "fp32"]
    ran = CliRunner().invoke(fti_eval, [*map(str, line)])
    assert ran.exit_code == 0, ran.output
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    want = {**metrics["figures"]["fti"][metrics["whole"]], **metrics["set_figures"].get("fti", {})}
    got = {key: value for key, value in rows[-1].items() if key != "step"}
    assert got == pytest.approx({f"{name}_{key}": value for key, value in want.items()}, abs=1e-6)
    main_figure = {"cirr": "cirr_R@1", "pinpoint": "pinpoint_mAP@10"}[name]
    assert json.loads((out / "config.json").read_text())["best_by"] == main_figure


def test_captions_figures_are_those_of_the_held_out_pictures(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    done = fitted(*arguments, steps=2, checkpoint_every=2, validate_on=SHARE)
    assert "30 % of the pictures, held out of training" in done.output
    samples = read_samples(captions)
    trained, held = divide(samples, 0.3, 0)
    facts = json.loads((out / "data.json").read_text())
    assert (facts["samples"], facts["held_out"]) == (len(trained), len(held))
    composer = Composer.load(tiny_model, str(out / "inverter"), device="cpu", precision="fp32")
    uris = samples.table["uri"].take(held).to_pylist()
    ranks = []
    pictures = {uri: composer.compose([open_image(uri).image], [""], "image")[0] for uri in uris}
    for uri in dict.fromkeys(uris):
        query = composer.compose([open_image(uri).image], [""], "fti")[0]
        scores = [float(query @ other) for other in pictures.values()]
        ranks.append(sum(score > float(query @ pictures[uri]) for score in scores) + 1)
    (row,) = rows_of(out / "validation.csv")
    for k in (1, 5, 10):
        assert row[f"captions_R@{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert composer.inverter is not None
    features = composer.backbone.image_features([open_image(uri).image for uri in uris])
    step = InverterStep(composer.backbone, composer.inverter).eval()
    pairs = samples.table.take(held).to_pylist()
    split = [SplitCaption(pair["subject"], pair["attribute"]) for pair in pairs]
    with torch.no_grad():
        parts = [slice(0, 16), slice(16, None)]  # the run's batch is 16
        losses = [
            float(step(features.take([*range(len(held))][part]), split[part]).total)
            * len(split[part])
            for part in parts
            if split[part]
        ]
    assert row["captions_loss"] == pytest.approx(sum(losses) / len(held), rel=1e-4)


def test_a_cache_validates_as_the_pictures_do(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    from fti_training.cli.main import main as fti_train

    cache = ["cache", captions, "--out", tmp_path / "cache", "--model", tiny_model]
    assert CliRunner().invoke(fti_train, [*map(str, cache)]).exit_code == 0
    seen = []
    for data in (("--captions", captions), ("--cache", tmp_path / "cache")):
        out = tmp_path / data[0]
        fitted(*data, "--model", tiny_model, "--out", out, steps=1, validate_on=SHARE)
        seen += rows_of(out / "validation.csv")
    assert seen[0] == pytest.approx(seen[1], rel=0.02)  # a cache has half precision


def test_a_run_that_was_stopped_validates_and_ends_as_an_undisturbed_one(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    """Also with a picture among the held-out ones that cannot be read."""
    lost = read_samples(captions).table["uri"][int(divide(read_samples(captions), 0.3, 0)[1][0])]
    path, outs = Path(str(lost)), (tmp_path / "whole", tmp_path / "resumed")
    content = path.read_bytes()
    path.write_bytes(b"no picture")
    try:
        common = {"validate_on": SHARE, "best_by": "captions_loss", "checkpoint_every": 2}
        for out in outs:
            arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
            if out == outs[1]:
                fitted(*arguments, steps=2, **common)
                done = fitted(*arguments, "--resume", steps=6, **common)
            else:
                done = fitted(*arguments, steps=6, **common)
            assert "1 pictures could not be read" in done.output
            assert path.name in (out / "rejects.jsonl").read_text()
    finally:
        path.write_bytes(content)
    assert same(weights(outs[0]), weights(outs[1]))
    assert same(weights(outs[0], "best"), weights(outs[1], "best"))
    rows = [rows_of(out / "validation.csv") for out in outs]
    assert rows[0] == rows[1]
    lowest = min(rows[0], key=lambda row: row["captions_loss"])["step"]
    best = CheckpointStorage.at(str(outs[0]), "captions_loss").best()
    assert best is not None
    assert best.step == lowest


def test_early_stopping_ends_a_run_and_more_patience_continues_it(
    captions: Path, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations of .1 .3 .2 .3 .3 .4 .1: with a patience of 3 the run ends at the fifth."""
    figures = dict(enumerate([0.1, 0.3, 0.2, 0.3, 0.3, 0.4, 0.1], 1))

    def scripted(steps: list[int]) -> Any:
        numbers = iter(steps)
        return lambda *_: {"captions_R@1": figures[next(numbers)], "captions_loss": 1.0}

    def run(out: Path, steps: range, *more: str, **changes: Any) -> str:
        monkeypatch.setattr(CaptionValidation, "__call__", scripted([*steps]))
        line = ("--captions", captions, "--model", tiny_model, "--out", out, *more)
        return fitted(*line, steps=7, checkpoint_every=1, validate_on=SHARE, **changes).output

    out = tmp_path / "out"
    told = run(out, range(1, 8), stop_after=3)
    assert "stopped early after 5 steps: captions_R@1 was best at step 2" in told
    assert [row["step"] for row in rows_of(out / "log.csv")] == [1, 2, 3, 4, 5]
    again = run(out, range(0), "--resume", stop_after=3)
    assert "stopped early after 5 steps" in again
    longer = run(out, range(6, 8), "--resume", stop_after=4)
    assert "7 steps, loss" in longer
    straight = tmp_path / "straight"
    run(straight, range(1, 8), stop_after=4)
    assert same(weights(out), weights(straight))
    assert same(weights(out, "best"), weights(straight, "best"))
    assert rows_of(out / "validation.csv") == rows_of(straight / "validation.csv")
    best = CheckpointStorage.at(str(out), "captions_R@1").best()
    assert best is not None
    assert best.step == 6


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such benchmark": (
        {"validate_on": "shoes:x"},
        "unknown benchmark 'shoes'; use one of",
    ),
    "no folder": ({"validate_on": "cirr"}, "validation on cirr needs the folder of its data"),
    "no data": ({"validate_on": "cirr:{folder}/none"}, "cirr: no folder"),
    "no split": ({"validate_on": "cirr:{cirr}", "validate_split": "x"}, "cirr has no split 'x'"),
    "no answers": (
        {"validate_on": "circo:{circo}", "validate_split": "test"},
        "cannot validate on the test split: the right answers of circo test are not public",
    ),
    "a lost image": ({"validate_on": "cirr:{lost}"}, "1 images of cirr val are missing"),
    "no share": ({"validate_on": "captions"}, "captions needs the share of the pictures"),
    "too much": ({"validate_on": "captions:0.9"}, "setting held_out"),
    "no number": ({"validate_on": "captions:few"}, "setting held_out"),
    "too little": ({"validate_on": "captions:0.01"}, "held_out=0.01 of 40 pictures is 0"),
    "two answers": ({"validate_on": "captions:0.1", "held_out": 0.2}, "are two answers"),
    "root of nothing": ({"validate_on": "none", "validate_root": "x"}, "belongs to a benchmark"),
    "no figure": (
        {"validate_on": SHARE, "best_by": "R@1"},
        "best_by='R@1' is not a figure of the validation; use one of captions_R@1, captions_R@5",
    ),
    "nothing to wait for": (
        {"validate_on": "none", "stop_after": 2},
        "stop_after=2 needs a valid",
    ),
    "nothing to choose by": (
        {"validate_on": "none", "best_by": "x"},
        "best_by=x needs a valid",
    ),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("roots")
    made = {
        "folder": folder,
        "cirr": standins.cirr(folder / "cirr"),
        "circo": standins.circo(folder / "circo", "test"),
        "lost": standins.cirr(folder / "lost"),
    }
    next((made["lost"] / "dev").iterdir()).unlink()
    return made


@pytest.mark.parametrize("case", BAD)
def test_bad_validations_are_one_line_before_any_work(
    case: str, captions: Path, tiny_model: str, tmp_path: Path, roots: dict[str, Path]
) -> None:
    changes, message = BAD[case]
    filled = {
        name: value.format(**roots) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    out = tmp_path / "out"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    done = train(*fit_line(*arguments, **filled))
    assert done.exit_code in (1, 2), done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (out / "checkpoints").exists() or not list((out / "checkpoints").iterdir())


def test_a_resumed_run_keeps_its_held_out_pictures(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    arguments = ("--captions", captions, "--model", tiny_model, "--out", tmp_path / "out")
    fitted(*arguments, steps=1, validate_on=SHARE)
    for other in ("none", "captions:0.2"):
        refused = train(*fit_line(*arguments, steps=2, validate_on=other), "--resume")
        assert refused.exit_code == 2
        assert "held_out was 0.3" in " ".join(refused.output.split())
    fitted(*arguments, "--resume", steps=2, validate_on="none", held_out=0.3)


def test_a_run_of_an_earlier_version_resumes(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    """Its config and its checkpoints know nothing of these settings."""
    out = tmp_path / "out"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    fitted(*arguments, steps=1)
    config = json.loads((out / "config.json").read_text())
    later = ("validate_root", "validate_split", "held_out", "best_by", "stop_after")
    (out / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if name not in later})
    )
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = out / "checkpoints" / "step-00000001" / "state.safetensors"
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert "held_out" not in facts["identity"]
    del facts["validated"]
    save_file(load_file(path), path, {"facts": json.dumps(facts)})
    assert "2 steps, loss" in fitted(*arguments, "--resume", steps=2).output


@given(
    captions_of=st.lists(st.integers(1, 3), min_size=4, max_size=40),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_held_out_pictures_are_never_drawn(captions_of: list[int], share: float, seed: int) -> None:
    uris = [f"p{number}" for number, count in enumerate(captions_of) for _ in range(count)]
    rows = [{"uri": uri, "subject": "a", "attribute": str(at)} for at, uri in enumerate(uris)]
    samples = Samples(pa.Table.from_pylist(rows))
    count = round(share * len(captions_of))
    if count < 2:
        with pytest.raises(FtiError, match="hold out a larger share"):
            divide(samples, share, seed)
        return
    trained, held = divide(samples, share, seed)
    assert sorted([*trained, *held]) == [*range(len(uris))]
    assert len({uris[row] for row in held}) == count
    assert not {uris[row] for row in held} & {uris[row] for row in trained}
    assert all(np.array_equal(*pair) for pair in zip(divide(samples, share, seed), (trained, held)))
    order = SamplingOrder.over(trained, len(uris), 2, seed)
    drawn = [row for step in range(2 * order.steps_per_epoch) for row in order.rows(step)]
    assert set(drawn) <= set(trained)
    assert len(set(drawn[: 2 * order.steps_per_epoch])) == 2 * order.steps_per_epoch


def test_batches_in_order_leave_out_nothing() -> None:
    order = RowsInOrder(np.array([5, 3, 9, 1, 7]), 2)
    assert [list(order.part(step, 0, 1)) for step in order.steps] == [[5, 3], [9, 1], [7]]


def test_equal_pictures_are_one_and_ties_count_against() -> None:
    one, other, third = torch.eye(3)
    pictures = torch.stack([one, other, one, third])
    queries = torch.stack([one, one, third, F.normalize(one + third, dim=0)])
    assert recalls(queries, pictures)["captions_R@1"] == pytest.approx(1 / 3)
    assert recalls(queries, pictures)["captions_R@5"] == 1


def test_a_log_whose_columns_change_keeps_all_rows(tmp_path: Path) -> None:
    records = Records(tmp_path, board=False)
    records.begin(0)
    records.validated(1, {"emoji_R@1": 0.5})
    records.validated(2, {"cirr_R@1": 0.25, "cirr_R@5": 0.75})
    records.validated(3, {"emoji_R@1": 0.625})
    rows = read_rows(tmp_path / "validation.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["emoji_R@1"] for row in rows] == pytest.approx([0.5, np.nan, 0.625], nan_ok=True)
    assert rows[1]["cirr_R@5"] == 0.75


def test_one_option_carries_the_name_and_the_folder() -> None:
    config = parse_settings(FitConfig, {"validate_on": "cirr:data/my cirr"})
    assert (config.validate_on, config.validate_root) == ("cirr", "data/my cirr")
    config = parse_settings(FitConfig, {"validate_on": "captions:0.25"})
    assert (config.validate_on, config.held_out) == ("captions", 0.25)
    assert FitConfig.model_validate_json(config.model_dump_json()) == config
    assert best_figure(config) == "captions_R@1"
    assert best_figure(FitConfig(validate_on="emoji")) == "emoji_R@1"
    assert best_figure(FitConfig(validate_on="none")) is None
    assert validation_line(FitConfig(validate_on="cirr", validate_root="x", validate_split="val"))
    with pytest.raises(BadBenchmark, match="unknown benchmark"):
        best_figure(with_validation(FitConfig(validate_on="shoes", validate_root="x")))
