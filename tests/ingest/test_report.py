"""What a run tells of itself: the report, the profile and its advice, the log, the metrics."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from fti_ingest.engine.local import LocalEngine
from fti_ingest.engine.protocol import Capacity
from fti_ingest.run.metrics import Metrics
from fti_ingest.run.outcome import STAGES, Outcome, advice, stage_uses
from fti_ingest.run.report import RunReport, counts_and_times, now
from fti_ingest.stages.row_status import PAYLOAD, REJECTED, SKIPPED, STORE, UNCHANGED
from fti_qdrant.cli import extras
from fti_qdrant.errors import FtiError
from tests.clusters import started
from tests.ingest.sources_and_runs import ingest, write_pictures


def batch(status: list[str], error: str = "", **seconds: float) -> pa.Table:
    rows = len(status)
    columns = {name: [value / rows] * rows for name, value in seconds.items()}
    uris = [f"{n}.jpg" for n in range(rows)]
    return pa.table({"uri": uris, "status": status, "error": [error] * rows, **columns})


def report_of(outcome: Outcome) -> RunReport:
    uses = stage_uses(outcome, Capacity(cpus=2, models=1, writers=1))
    return RunReport(
        **dict.fromkeys(("version", "source", "gallery", "model"), ""),
        engine="local",
        **dict.fromkeys(("began", "ended"), now()),
        duplicates=None,
        outdated=0,
        rejects_file=None,
        duplicates_file=None,
        **counts_and_times(outcome, uses),
    )


def test_rows_are_counted_by_what_became_of_them() -> None:
    outcome = Outcome()
    status = [STORE, UNCHANGED, SKIPPED, REJECTED, STORE, PAYLOAD]
    bad = outcome.add(batch(status, "broken", read_s=1, embed_s=3))
    assert [(one.uri, one.reason) for one in bad] == [("3.jpg", "broken")]
    counts = (outcome.images, outcome.stored, outcome.unchanged, outcome.skipped, outcome.rejected)
    assert (*counts, outcome.updated) == (6, 2, 1, 1, 1, 1)
    assert outcome.stages == pytest.approx(
        {"read": 1, "decode": 0, "dedupe": 0, "embed": 3, "write": 0}
    )
    outcome.note_first(10.0)
    outcome.seconds = 10.2
    assert report_of(outcome).line() == (  # the run is too short for a rate
        "6 images in: 2 stored, 1 unchanged, 1 rejected, 1 updated (payload only), "
        "1 skipped as duplicates"
    )


def test_the_rate_leaves_out_the_first_batch() -> None:
    outcome = Outcome()
    outcome.add(batch([STORE] * 64))
    outcome.note_first(30.0)
    outcome.add(batch([STORE] * 250))
    outcome.seconds = 50.0
    assert report_of(outcome).line().endswith("; 12.5 images/s")


def test_the_line_of_a_long_run_and_of_an_empty_one() -> None:
    outcome = Outcome(images=12_345, stored=12_000, unchanged=300, rejected=45, seconds=10)
    assert report_of(outcome).line() == (
        "12,345 images in: 12,000 stored, 300 unchanged, 45 rejected; 1,234.5 images/s"
    )
    assert report_of(Outcome()).line() == "0 images in: 0 stored, 0 unchanged, 0 rejected"


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


def test_report_profile_and_log(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 70)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    outputs = ("--report", "r.json", "--rejects", "bad.jsonl", "--log", "log.jsonl")
    run = ingest("photos", "--gallery", "g", "--profile", *outputs, cwd=tmp_path)
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
def test_an_output_that_cannot_be_written(tmp_path: Path, option: str) -> None:
    write_pictures(tmp_path / "photos", 1)
    run = ingest("photos", "--gallery", "g", option, "no/such/folder", cwd=tmp_path)
    assert run.code == 1
    assert "cannot be written" in run.err
    assert run.err.splitlines()[-1].startswith("Error: ")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def scraped(port: int, until: str = "stage") -> dict[tuple[str, str | None], float]:
    """The metrics of the gallery shop, once the text ``until`` is among them."""
    text, deadline = "", time.monotonic() + 120
    while until not in text and time.monotonic() < deadline:
        time.sleep(0.2)
        with suppress(OSError):
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
            text = answer.read().decode()
    values = {}
    for line in text.splitlines():
        if "fti_ingest_" in line and not line.startswith("#") and "_created" not in line:
            kind = re.search(r'(?:outcome|stage)="(\w+)"', line)
            values[line.split("{")[0], kind and kind[1]] = float(line.split()[-1])
            assert 'gallery="shop"' in line
    return values


EXPECTED = {
    ("fti_ingest_images_total", "stored"): 40.0,
    ("fti_ingest_images_total", "rejected"): 1.0,
    ("fti_ingest_stage_seconds_total", "embed"): 2.5,
    ("fti_ingest_source_images", None): 50.0,
}


def counted(metrics: Metrics) -> None:
    outcome = Outcome(stored=30)
    metrics.follow(outcome)
    outcome.stored, outcome.rejected, outcome.stages["embed"] = 40, 1, 2.5
    metrics.follow(outcome)


def test_prometheus_sees_a_run_of_this_process() -> None:
    port = free_port()
    with Metrics.of(LocalEngine(), "shop", 50, port) as metrics:
        counted(metrics)
        assert scraped(port) == EXPECTED
    with (
        Metrics.of(LocalEngine(), "shop", 50, port),  # the port is free again
        pytest.raises(FtiError, match=f"--metrics-port {port} cannot be used"),
        Metrics.of(LocalEngine(), "shop", 50, port),
    ):
        pass


WATCHED = """
import os, sys
from fti_ingest.engine.ray import RayEngine
from fti_ingest.engine.session import quiet_ray
from fti_ingest.run.metrics import Metrics
from tests.ingest.test_report import counted
port = int(os.environ["METRICS_PORT"])
with quiet_ray(None, port), Metrics.of(RayEngine(), "shop", 50, None) as metrics:
    counted(metrics)
    print("counted", file=sys.__stdout__, flush=True)  # what Ray prints is silenced
    sys.stdin.read()
"""


def test_prometheus_sees_a_run_on_ray() -> None:
    """Ray's agent serves what the driver counts; on a cluster each node has one."""
    port = free_port()
    with started(WATCHED, {"METRICS_PORT": str(port)}) as process:
        assert process.stdout is not None
        assert "counted\n" in process.stdout  # read to here, or to the end of a run that failed
        values = scraped(port, "ray_fti_ingest_stage")
    assert values == {(f"ray_{name}", kind): value for (name, kind), value in EXPECTED.items()}


def test_metrics_without_the_package_that_serves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    run = ingest("photos", "--gallery", "g", "--metrics-port", "1", cwd=tmp_path)
    assert run.code == 2
    assert "needs the package prometheus_client: pip install 'fti-qdrant[metrics]'" in run.error
