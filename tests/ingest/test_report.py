"""What a run tells of itself: the report, the profile and its advice, the log, the metrics."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from fti_ingest.run.outcome import STAGES, Capacity, Outcome, advice, stage_uses
from fti_ingest.run.report import RunReport
from fti_ingest.stages.row_status import SKIPPED, UNCHANGED
from tests.ingest.sources_and_runs import ingest, write_pictures


def batch(reasons: list[str], **seconds: float) -> pa.Table:
    rows = len(reasons)
    columns = {name: [value / rows] * rows for name, value in seconds.items()}
    return pa.table({"uri": [f"{n}.jpg" for n in range(rows)], "reason": reasons, **columns})


def test_rows_are_counted_by_what_became_of_them() -> None:
    outcome = Outcome()
    bad = outcome.add(batch(["", UNCHANGED, SKIPPED, "broken", ""], read_s=1, embed_s=3))
    assert [(one.uri, one.reason) for one in bad] == [("3.jpg", "broken")]
    counts = (outcome.images, outcome.stored, outcome.unchanged, outcome.skipped, outcome.rejected)
    assert counts == (5, 2, 1, 1, 1)
    assert outcome.stages == pytest.approx(
        {"read": 1, "decode": 0, "dedupe": 0, "embed": 3, "write": 0}
    )
    counts = "5 images in: 2 stored, 1 unchanged, 1 rejected, 1 skipped as duplicates"
    outcome.note_first(10.0)
    outcome.seconds = 10.2
    assert outcome.line() == counts  # no rate can be told of so short a run


def test_the_rate_is_that_of_the_workers_at_work() -> None:
    outcome = Outcome()
    outcome.add(batch([""] * 64))
    outcome.note_first(30.0)
    outcome.add(batch([""] * 250))
    outcome.seconds = 50.0
    assert outcome.line().endswith("; 12.5 images/s")


@pytest.mark.parametrize(
    ("busy", "told"),
    [
        ({"embed": 9.5, "decode": 19}, "the model is the bottleneck, as it should be"),
        ({"embed": 4, "decode": 19}, "decoding is the bottleneck"),
        ({"embed": 4, "read": 12, "decode": 6}, "reading is the bottleneck"),
        ({"embed": 4, "write": 9}, "writing is the bottleneck"),
        ({"embed": 4, "dedupe": 9}, "looking for duplicates is the bottleneck"),
        ({"embed": 4, "decode": 4}, "no stage is busy all the time"),
    ],
)
def test_the_advice_names_the_stage_that_the_others_wait_for(
    busy: dict[str, float], told: str
) -> None:
    """Ten seconds with two decoding CPUs, one model and one writer, after five of starting."""
    outcome = Outcome(seconds=15, first=5)
    outcome.before = dict.fromkeys(STAGES.values(), 1.0)
    for stage in outcome.stages:
        outcome.stages[stage] = 1 + busy.get(stage, 0.0)
    uses = stage_uses(outcome, Capacity(cpus=2, models=1, writers=1))
    assert sum(use.share for use in uses) == pytest.approx(1)
    assert advice(uses).startswith(told)


def test_of_a_run_that_is_over_at_once_no_stage_is_to_blame() -> None:
    outcome = Outcome(seconds=12, first=11.9)
    outcome.before = dict.fromkeys(STAGES.values(), 0.0)
    outcome.stages["embed"] = 3.0
    uses = stage_uses(outcome, Capacity(cpus=2, models=1, writers=1))
    assert advice(uses).startswith("no stage is busy all the time: the run is short")


def test_report_profile_and_log(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    write_pictures(tmp_path / "photos", 70)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    outputs = ("--report", "r.json", "--rejects", "bad.jsonl", "--log", "log.jsonl")
    run = ingest("photos", "--gallery", "g", "--profile", *outputs, cwd=tmp_path, **ray_cluster)
    assert run.code == 0, run.err
    assert "Where the time went" in run.out
    report = RunReport.model_validate_json((tmp_path / "r.json").read_text())
    assert (report.images, report.stored, report.rejected) == (71, 70, 1)
    assert report.rejects_file == "bad.jsonl"
    assert report.began < report.ended
    assert report.advice in " ".join(run.out.split())
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["message"] for event in events] == ["started", "listed", "finished"]
    assert events[1]["images"] == 71
    assert events[2]["stored"] == 70
    assert all(event["timestamp"] and event["levelname"] == "INFO" for event in events)
    assert not (tmp_path / "g" / "report.json").exists()


@pytest.mark.parametrize("option", ["--report", "--rejects", "--log", "--duplicates"])
def test_an_output_that_cannot_be_written(
    tmp_path: Path, option: str, ray_cluster: dict[str, str]
) -> None:
    write_pictures(tmp_path / "photos", 1)
    run = ingest("photos", "--gallery", "g", option, "no/such/folder", cwd=tmp_path, **ray_cluster)
    assert run.code == 1
    assert "cannot be written" in run.err
    assert run.err.splitlines()[-1].startswith("Error: ")


WATCHED = """
import sys
from fti_ingest.run.metrics import RunMetrics
from fti_ingest.run.outcome import Outcome
from fti_ingest.engine.session import quiet_ray
with quiet_ray(None, int(sys.argv[1])):
    metrics = RunMetrics("shop", 50)
    outcome = Outcome(stored=30)
    metrics.follow(outcome)
    outcome.stored, outcome.rejected, outcome.stages["embed"] = 40, 1, 2.5
    metrics.follow(outcome)
    sys.stdin.read()
"""


def test_prometheus_sees_a_run(tmp_path: Path) -> None:
    """Ray's agent serves what the driver counts; on a cluster each node has one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(port)], stdin=subprocess.PIPE, cwd=tmp_path
    )
    text, deadline = "", time.monotonic() + 120
    while "ray_fti_ingest_stage" not in text and time.monotonic() < deadline:
        time.sleep(0.5)
        with suppress(OSError):
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
            text = answer.read().decode()
    process.communicate()
    values = {}
    for line in text.splitlines():
        if line.startswith("ray_fti_ingest_"):
            kind = re.search(r'(?:outcome|stage)="(\w+)"', line)
            values[line.split("{")[0], kind and kind[1]] = float(line.split()[-1])
            assert 'gallery="shop"' in line
    assert values == {
        ("ray_fti_ingest_images_total", "stored"): 40.0,
        ("ray_fti_ingest_images_total", "rejected"): 1.0,
        ("ray_fti_ingest_stage_seconds_total", "embed"): 2.5,
        ("ray_fti_ingest_source_images", None): 50.0,
    }
