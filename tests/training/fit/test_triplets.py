"""``fti-train fit --triplets``: composed queries with their answers beside the captions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fti_ingest.engine.local import LocalEngine
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone
from fti_training.distributed import SingleProcess
from fti_training.fit.batches import PictureBatches
from fti_training.fit.data_facts import DataFacts
from fti_training.fit.held_out import divide
from fti_training.fit.picture_parts import PictureParts
from fti_training.fit.sampling_order import SamplingOrder
from fti_training.fit.triplet_batches import BatchesWithTriplets, BothPictures, TripletBatches
from fti_training.samples import read_samples
from fti_training.triplet_table import read_triplets
from tests.training.fit.runs import (
    fit_line,
    fitted,
    rows_of,
    same,
    train,
    write_samples,
    write_triplets,
)

QUICK = {"triplet_batch": 16, "triplet_temperature": 0.01, "triplet_weight": 5, "dropout": 0}


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("drawings"), 40)


@pytest.fixture(scope="module")
def triplets(captions: Path) -> Path:
    pictures = sorted(captions.parent.glob("*.png"))
    return write_triplets(captions.parent / "triplets.csv", pictures[:21])


def batches(backbone: Backbone, path: Path, batch: int) -> TripletBatches:
    table, engine = read_triplets(path), LocalEngine()
    order = BothPictures.over(table, batch, 0)
    parts = PictureParts(
        backbone, table.pictures, order, SingleProcess(), engine, augment=False, seed=0
    )
    return TripletBatches(parts, table)


def test_a_step_joins_captioned_pictures_with_references(
    captions: Path, triplets: Path, tiny_backbone: Backbone
) -> None:
    """Every row against its own picture, encoded alone."""
    samples, made = read_samples(captions), batches(tiny_backbone, triplets, 8)
    order = SamplingOrder(len(samples), 16, 0)
    parts = PictureParts(
        tiny_backbone, samples.table["uri"], order, SingleProcess(), LocalEngine(), False, 0
    )
    [batch] = BatchesWithTriplets(PictureBatches(parts, samples), made, samples).parts(range(1))
    uris, asked = samples.uris(batch.rows).to_pylist(), batch.triplets
    assert asked is not None
    assert (len(batch.features), batch.captions) == (16, samples.captions(batch.rows))
    assert asked.rows == list(range(16, 24))
    rows = {row["text"]: row for row in made.table.table.to_pylist()}
    references = [rows[text]["reference"] for text in asked.texts]
    answers = [rows[text]["target"] for text in asked.texts]
    pictures = asked.pictures(batch.features).pooled
    for uri, found in zip([*uris, *references, *answers], [*pictures, *asked.targets]):
        alone = tiny_backbone.image_features([open_image(uri).image]).pooled[0]
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
    alike = (asked.answers[:, None] == asked.shown).tolist()
    assert alike == [[uri == answer for uri in [*uris, *references]] for answer in answers]
    assert len(set(asked.asked.tolist())) == 8


def test_a_triplet_without_one_of_its_pictures_is_left_out_and_listed(
    captions: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    pictures = sorted(captions.parent.glob("*.png"))[:5]
    for one in pictures:
        (tmp_path / one.name).write_bytes(one.read_bytes())
    path = write_triplets(tmp_path / "triplets.csv", pictures)
    (tmp_path / pictures[1].name).unlink()
    [(made, rejects)] = batches(tiny_backbone, path, 4).parts(range(1))
    assert sorted(made.texts) == ["as number 2", "as number 3"]
    assert {reject.uri for reject in rejects} == {str(tmp_path / pictures[1].name)}
    for one in (pictures[3], *pictures[:3], pictures[4]):  # until not one picture is left
        (tmp_path / one.name).unlink(missing_ok=True)
        [(none, _)] = batches(tiny_backbone, path, 4).parts(range(1))
        assert (none.rows, none.texts, none.others, len(none.targets)) == ([], [], None, 0)


def test_what_was_left_out_is_counted(captions: Path, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(captions.parent, tmp_path / "photos")
    pictures = sorted((tmp_path / "photos").glob("*.png"))
    path = write_triplets(tmp_path / "photos" / "triplets.csv", pictures[:21])
    pictures[20].unlink()
    line = ("--captions", captions, "--triplets", path, "--model", tiny_model, "--out")
    done = fitted(*line, tmp_path / "run", steps=4, triplet_batch=20)
    assert "1 triplets were left out, as a picture of theirs could not be read" in done.output
    assert "1 pictures could not be read" in done.output
    facts = DataFacts.read(tmp_path / "run")
    assert (facts.triplets, facts.triplets_unreadable, facts.unreadable) == (19, 1, 0)


def test_triplets_that_name_held_out_pictures_are_left_out(
    captions: Path, triplets: Path, tiny_model: str, tmp_path: Path
) -> None:
    line = ("--captions", captions, "--triplets", triplets, "--model", tiny_model, "--out")
    fitted(*line, tmp_path, steps=1, batch=8, held_out=0.2, **{**QUICK, "triplet_batch": 4})
    facts, samples = DataFacts.read(tmp_path), read_samples(captions)
    _, held_out = divide(samples, 0.2, 0)
    held = set(samples.uris(held_out).to_pylist())
    pairs = read_triplets(triplets).table.to_pylist()
    named = [row for row in pairs if {row["reference"], row["target"]} & held]
    assert facts.triplets_held_out == len(named) > 0
    assert facts.triplets == len(pairs) - len(named)


def test_queries_learn_to_find_their_answers_and_a_resumed_run_ends_alike(
    captions: Path, triplets: Path, tiny_model: str, tmp_path: Path
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    arguments = ("--captions", captions, "--triplets", triplets, "--model", tiny_model, "--out")
    fitted(*arguments, whole, steps=16, **QUICK)
    rows = rows_of(whole / "log.csv")
    assert sum(row["triplet"] for row in rows[-3:]) < 0.9 * sum(row["triplet"] for row in rows[:3])
    for row in rows:
        others = row["contrastive"] + row["orthogonality"] + 1.4 * row["tri_wise"]
        assert row["total"] == pytest.approx(others + 5 * row["triplet"], rel=1e-5)
    fitted(*arguments, halves, steps=8, **QUICK)
    fitted(*arguments, halves, "--resume", steps=16, **QUICK)
    assert same(whole, halves)


def test_a_cache_of_the_captioned_pictures_gives_the_same_losses(
    captions: Path, triplets: Path, tiny_model: str, tmp_path: Path
) -> None:
    model = ("--model", tiny_model)
    assert train("cache", captions, "--out", tmp_path / "cache", *model).exit_code == 0
    found = []
    for data in (("--captions", captions), ("--cache", tmp_path / "cache")):
        out = tmp_path / data[0].strip("-") / "run"
        fitted(*data, "--triplets", triplets, *model, "--out", out, steps=4, **QUICK)
        found.append([row["triplet"] for row in rows_of(out / "log.csv")])
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_what_a_resumed_run_may_not_change(
    captions: Path, triplets: Path, tiny_model: str, tmp_path: Path
) -> None:
    out, settings = tmp_path / "run", {"steps": 4, **QUICK}
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    fitted(*arguments, "--triplets", triplets, **settings)
    fewer = triplets.with_name("fewer.csv")
    fewer.write_text("".join(triplets.read_text().splitlines(keepends=True)[:-1]))
    longer = {**settings, "steps": 8}
    for given, said in [
        (("--triplets", fewer), "started with other triplets"),
        (("--triplets", triplets, "--set=triplet_weight=2"), "triplet_weight was 5.0"),
        (("--set=triplet_weight=null",), "triplet_weight was 5.0"),
    ]:
        refused = train(*fit_line(*arguments, "--resume", **longer), *given)
        assert refused.exit_code == 2
        assert said in " ".join(refused.output.split())


def test_what_triplets_need(
    captions: Path, triplets: Path, tiny_model: str, tmp_path: Path
) -> None:
    arguments = ("--captions", captions, "--model", tiny_model, "--out", tmp_path / "run")
    for given, said in [
        (("--triplets", triplets), "20 triplets do not fill a step's triplet_batch of 64; set"),
        (("--set=triplet_weight=1",), "triplet_weight=1 needs --triplets FILE"),
        (("--triplets", triplets, "--set=triplet_weight=0"), "it must be greater than 0"),
        (("--triplets", "none.csv"), "'none.csv' cannot be read"),
        (("--triplets", triplets, "--workers=3", "--set=batch=18"), "triplet_batch=64 does not"),
    ]:
        refused = train(*fit_line(*arguments), *given)
        assert refused.exit_code == 2
        assert said in " ".join(refused.output.split())
    assert not [*tmp_path.rglob("*.*")]
