"""Several replicas of one service: alike, independent, and whole again after a kill."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from starlette.testclient import TestClient

from fti_qdrant import ComposedSearch
from fti_qdrant.cli.serve import main
from fti_qdrant.errors import BadQuery, FtiError
from fti_qdrant.gallery import GalleryPoint, ServerGallery, connect
from fti_qdrant.gallery.location import EmbeddedLocation, ServerLocation
from fti_qdrant.query_batches import BatchLimits
from fti_qdrant.serve.plan import ServicePlan
from fti_qdrant.serve.ray_serve import KEYS, ReplicaOptions, Replicas, deployment
from fti_qdrant.serve.settings import ServeSettings
from tests.qdrant_standin import serving_rest
from tests.serve.conftest import id_of, png

TEXT = "a blue square"
BODY = {"text": TEXT, "limit": 3}


@pytest.fixture(scope="module")
def collection(
    search: ComposedSearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerLocation]:
    """The shop's images on a server."""
    with serving_rest(tmp_path_factory.mktemp("standin")) as port:
        url = f"http://127.0.0.1:{port}"
        stored = search.gallery.retrieve([id for id, _ in search.gallery.scroll()])
        with ServerGallery.create(connect(url), "shop", search.gallery.spec) as gallery:
            gallery.upsert([GalleryPoint(o.id, o.vector, o.payload, o.words) for o in stored])
        yield ServerLocation(url, "shop")


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_replicas_of_one_plan_answer_alike_and_alone(
    collection: ServerLocation, client: TestClient
) -> None:
    """In this process: each replica unpickles the plan, as Ray sends it, and opens it."""
    plan = ServicePlan(collection, device="cpu", batching=BatchLimits(4, 16, 0.0))
    sent = pickle.dumps(plan)
    with ExitStack() as opened:
        replicas = []
        for _ in range(2):
            own = pickle.loads(sent)
            search = opened.enter_context(own.open())
            replicas.append((search, opened.enter_context(TestClient(own.app(search)))))
        expected = ids(client.post("/search", json=BODY))
        picture = {"references": [{"id": id_of("red", "circle")}], "text": TEXT, "limit": 3}
        for _, replica in replicas:
            assert ids(replica.post("/search", json=BODY)) == expected
            assert ids(replica.post("/search", json=picture)) == ids(
                client.post("/search", json=picture)
            )
        replicas[0][0].close()
        assert replicas[0][1].post("/search", json=BODY).status_code == 503
        assert ids(replicas[1][1].post("/search", json=BODY)) == expected
        figures = replicas[1][1].get("/metrics").text
        batches = re.search(r"^fti_serve_batch_size_count (\S+)$", figures, re.MULTILINE)
        assert batches is not None
        assert float(batches[1]) >= 3  # and those that measured what scores look like
        assert 'fti_serve_stage_seconds_count{stage="store"} 3.0' in figures


def test_an_embedded_gallery_has_one_replica(tmp_path: Path) -> None:
    plan = ServicePlan(EmbeddedLocation(tmp_path))
    with pytest.raises(BadQuery, match="2 replicas cannot open one embedded gallery"):
        deployment(plan, Replicas(2))
    assert deployment(plan, Replicas(1))._bound_deployment.num_replicas == 1


def test_the_options_of_a_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS, "one two")
    options = ReplicaOptions(
        url="http://host:6333", collection="shop", max_batch=8, rate="60/minute", timeout=5
    )
    plan = options.plan()
    assert plan.settings == ServeSettings(api_keys=("one", "two"), rate="60/minute")
    assert plan.batching.max_batch == 8
    assert isinstance(plan.location, ServerLocation)
    assert plan.location.client_options.timeout == 5
    assert "two" not in repr(plan)


@pytest.mark.parametrize(
    "wrong", [{"replica": 2}, {"backend": "jax"}, {"max_pixels": 0}, {"grpc_port": 0}], ids=str
)
def test_wrong_options_of_a_config_file(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ReplicaOptions(url="http://host:6333", collection="shop", **wrong)


@pytest.mark.parametrize(
    "wrong", [{"max_wait": 2}, {"timeout": -1}, {"prefix": ".."}, {"max_seconds": 0}], ids=str
)
def test_values_that_the_library_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(FtiError, match=next(iter(wrong))):
        ReplicaOptions(url="http://host:6333", collection="shop", **wrong).plan()


SERVER = ["--url", "http://127.0.0.1:9", "--collection", "shop"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*SERVER, "--replicas", "0"], "--replicas"),
        ([*SERVER, "--gpus-per-replica", "1"], "--gpus-per-replica needs --replicas"),
        ([*SERVER, "--replicas", "2", "--allow-writes", "--uploads", "u"], "--allow-writes"),
        ([*SERVER, "--replicas", "2"], "does not answer"),
        (["--gallery", "nowhere", "--replicas", "2"], "no gallery at 'nowhere'"),
        ([*SERVER, "--max-wait", "2"], "--max-wait"),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, [*arguments, "--port", "0"])
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert "Traceback" not in done.output


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def replicas_of(pid: int) -> list[int]:
    """The processes that hold a model, below the command."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "ServeReplica" in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.soak
def test_two_replicas_stay_correct_when_one_is_killed(
    collection: ServerLocation, client: TestClient, tmp_path: Path
) -> None:
    """Real processes, and SIGKILL under load: nothing wrong is answered, and it is whole again."""
    port = free_port()
    log = tmp_path / "log"
    command = [sys.executable, "-m", "fti_qdrant.cli.serve", *collection.options()]
    command += ["--port", str(port), "--replicas", "2", "--cpus-per-replica", "0.5"]
    environment = {**os.environ, "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stderr=errors, env=environment) as serving,
    ):
        try:
            deadline = time.monotonic() + 120
            while "replicas; open" not in log.read_text():
                assert serving.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            expected = ids(client.post("/search", json=BODY))
            before = replicas_of(serving.pid)
            assert len(before) == 2
            counted = asyncio.run(
                under_load(f"http://127.0.0.1:{port}", expected, serving.pid, before[0])
            )
            assert counted[200] > 50
            assert set(counted) <= {200, 500, 503}, counted
            assert counted.total() - counted[200] < 20  # those that it had in hand
            after = replicas_of(serving.pid)
            assert len(after) == 2
            assert before[0] not in after
        finally:
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0


async def under_load(url: str, expected: list[str], pid: int, victim: int) -> Counter[int]:
    """Asks until both replicas are there again, and kills one of them meanwhile.

    Returns how many answers had which status; those with hits must have the expected ones.
    """
    counted: Counter[int] = Counter()
    done = asyncio.Event()

    async def ask(http: httpx.AsyncClient, number: int) -> None:
        while not done.is_set():
            if number % 2:
                form = {"query": '{"text": "a blue square", "limit": 3}'}
                answer = await http.post("/search", data=form, files={"file": png()})
            else:
                answer = await http.post("/search", json=BODY)
                if answer.status_code == 200:
                    assert ids(answer) == expected
            counted[answer.status_code] += 1

    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        asking = [asyncio.create_task(ask(http, number)) for number in range(8)]
        await asyncio.sleep(2)
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 90
        while len(found := replicas_of(pid)) < 2 or victim in found:
            assert time.monotonic() < deadline
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        done.set()
        await asyncio.gather(*asking)
    return counted
