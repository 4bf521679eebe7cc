"""Processes killed, files gone, disks full: afterwards the gallery is as if nothing had happened.

On both engines, over an embedded gallery and over a server (the stand-in, or a real one where
QDRANT_URL names it). By default each fault meets one engine and one store, all of them by
``make soak``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fti_qdrant.errors import GalleryNotFound
from fti_qdrant.gallery import EdgeGallery, Gallery, point_id
from tests.clusters import started
from tests.commands import StartedCommand
from tests.ingest.servers import Server, servers
from tests.ingest.sources_and_runs import (
    MARK,
    Run,
    ingest,
    marked_processes,
    picture,
    read_rejects,
    small_disk,
    start_ingest,
)

GOOD, BAD = 200, 20
KILLS, SOAK_KILLS = 4, 10
MODEL = ("--model", "local-dir:slow")

QUICK = {
    "killed": ("local-embedded",),
    "actor": ("ray-embedded",),
    "node": ("ray-server",),
    "gone": ("local-server",),
    "disk": ("local-embedded",),
    "report": ("local-embedded", "ray-server"),
}
"""By fault, the setups that are not left to the soak."""


def setups(fault: str, *names: str) -> pytest.MarkDecorator:
    """The engines and stores that a fault is tried on; most of them only by ``make soak``."""
    marked = [
        pytest.param(name, marks=() if name in QUICK[fault] else pytest.mark.soak) for name in names
    ]
    return pytest.mark.parametrize("stores", marked, indirect=True)


ALL = ("local-embedded", "local-server", "ray-embedded", "ray-server")

SLOW = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 4,
        "width": 256,
        "head_width": 64,
        "layers": 6,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}
"""A model that takes some seconds for all pictures, so that a fault meets it at work."""

Held = dict[str, tuple[dict[str, Any], np.ndarray]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Different pictures that take some time to decode, and bad ones all among them."""
    folder = tmp_path_factory.mktemp("faults") / "photos"
    folder.mkdir()
    for number in range(GOOD):
        if number < 20:
            picture(number, (400, 300)).save(folder / f"{number:03d}.png", compress_level=1)
        else:
            os.link(folder / f"{number % 20:03d}.png", folder / f"{number:03d}.png")
    torch.manual_seed(0)
    weights = open_clip.CLIP(**SLOW)
    (folder.parent / "slow").mkdir()
    save_file(weights.state_dict(), folder.parent / "slow" / "open_clip_model.safetensors")
    cfg = {"model_cfg": SLOW, "preprocess_cfg": {"size": 64, "mean": [0.5] * 3, "std": [0.3] * 3}}
    (folder.parent / "slow" / "open_clip_config.json").write_text(json.dumps(cfg))
    for number in range(BAD):
        (folder / f"{number * 10:03d}-bad.jpg").write_bytes(b"no picture")
    return folder


@dataclass(frozen=True)
class Stores:
    """Galleries of one kind, beside the photos or on a server, filled by one engine."""

    root: Path
    engine: str
    server: Server | None
    cluster: dict[str, str]

    def _arguments(self, name: str) -> tuple[object, ...]:
        if self.server is None:
            return ("--gallery", name)
        folder = self.files(name)
        folder.mkdir(exist_ok=True)
        files = ("--rejects", folder / "rejects.jsonl", "--report", folder / "report.json")
        return ("--url", self.server.url, "--collection", self.server.collection + name, *files)

    def start(self, name: str, *options: str, **environment: str) -> StartedCommand:
        """In a process of its own; on Ray, on the shared cluster unless told otherwise."""
        asked = ("photos", *MODEL, *self._arguments(name), "--engine", self.engine, *options)
        environment = {**self.cluster, **environment}
        return start_ingest(*asked, cwd=self.root, **self._with_key(environment))

    def ingest(self, name: str) -> Run:
        asked = ("photos", *MODEL, *self._arguments(name), "--engine", self.engine)
        return ingest(*asked, cwd=self.root, **self._with_key(self.cluster))

    def held(self, name: str) -> Held:
        with self._open(name) as opened:
            stored = opened.retrieve([id for id, _ in opened.scroll()])
        assert len({one.id for one in stored}) == len(stored)
        return {one.id: (one.payload, one.vector) for one in stored}

    def files(self, name: str) -> Path:
        """Where a run's rejects and report are."""
        return self.root / (f"{name}-on-server" if self.server else name)

    def rejects(self, name: str) -> Path:
        return self.files(name) / "rejects.jsonl"

    def begun(self, name: str) -> Callable[[], bool]:
        """Whether the first batch is stored: its bad files are listed then."""
        rejects = self.rejects(name)
        return lambda: rejects.exists() and rejects.stat().st_size > 0

    def assert_same(self, name: str, expected: Held) -> None:
        """The same ids, payloads and vectors, and every bad file listed once."""
        found = self.held(name)
        assert set(found) == set(expected)
        for id, (payload, vector) in expected.items():
            assert found[id][0] == payload
            np.testing.assert_allclose(found[id][1], vector, atol=1e-5)
        assert len(read_rejects(self.rejects(name))) == BAD

    def _open(self, name: str) -> Gallery:
        if self.server is None:
            return EdgeGallery.open(self.root / name)
        return replace(self.server, collection=self.server.collection + name).open()

    def _with_key(self, environment: dict[str, str]) -> dict[str, str]:
        return {**environment, **(self.server.environment if self.server else {})}


@pytest.fixture(scope="module")
def stores(photos: Path, request: pytest.FixtureRequest) -> Iterator[Stores]:
    engine, _, kind = request.param.partition("-")
    cluster = request.getfixturevalue("ray_cluster") if engine == "ray" else {}
    root = photos.parent / request.param
    root.mkdir()
    for name in ("photos", "slow"):
        (root / name).symlink_to(photos.parent / name)
    if kind == "embedded":
        yield Stores(root, engine, None, cluster)
        return
    with servers(root / "server") as start:
        yield Stores(root, engine, start(), cluster)


@pytest.fixture(scope="module")
def undisturbed(stores: Stores) -> tuple[Held, float]:
    """What a run without faults leaves, and how long it took."""
    began = time.monotonic()
    process = stores.start("calm")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith(f"{GOOD + BAD} images in: {GOOD} stored, 0 unchanged, {BAD} rejected")
    return stores.held("calm"), time.monotonic() - began


def wait_for(what: Callable[[], bool], process: StartedCommand) -> None:
    deadline = time.monotonic() + 200
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def counts(line: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", line)]


@setups("killed", *ALL)
def test_the_driver_killed_at_random_moments(
    stores: Stores, undisturbed: tuple[Held, float], request: pytest.FixtureRequest
) -> None:
    """Each run goes on where the last one was killed."""
    kills = SOAK_KILLS if request.node.get_closest_marker("soak") else KILLS
    rng = np.random.default_rng(7)
    expected, seconds = undisturbed
    stored = [0]
    for moment in rng.uniform(0.3 * seconds, 0.9 * seconds, kills):
        process = stores.start("killed")
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with suppress(GalleryNotFound):
            found = stores.held("killed")
            assert set(found) <= set(expected)
            stored.append(len(found))
    assert stored == sorted(stored)
    run = stores.ingest("killed")
    assert run.code == 0, run.err
    images, new, unchanged, rejected = counts(run.line)
    assert (images, new + unchanged, rejected) == (GOOD + BAD, GOOD, BAD)
    # Ray's workers may have gone on writing to a server while they were being ended
    assert unchanged == stored[-1] or (stores.server and unchanged > stored[-1])
    stores.assert_same("killed", expected)


@setups("actor", "ray-embedded", "ray-server")
@pytest.mark.parametrize(
    "name", ["RemoteStep", pytest.param("BlockServer", marks=pytest.mark.soak)]
)
def test_an_actor_killed(stores: Stores, undisturbed: tuple[Held, float], name: str) -> None:
    """Ray restarts it, and the run goes on to its end."""
    gallery, mark = f"without-{name}", uuid.uuid4().hex
    process = stores.start(gallery, RAY_ADDRESS="", **{MARK: mark})
    wait_for(stores.begun(gallery), process)
    running = marked_processes(mark)
    doomed = [
        pid for pid, command in running.items() if command.startswith("ray::") and name in command
    ]
    assert doomed, running
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith(f"{GOOD + BAD} images in: {GOOD} stored, 0 unchanged, {BAD} rejected")
    stores.assert_same(gallery, undisturbed[0])


NODES = """
import sys, ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("removed", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@setups("node", "ray-embedded", "ray-server")
def test_a_ray_node_removed(stores: Stores, undisturbed: tuple[Held, float]) -> None:
    access = {name: value for name, value in stores.cluster.items() if name != "RAY_ADDRESS"}
    with started(NODES, access) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        process = stores.start("node-removed", RAY_ADDRESS=address)
        wait_for(stores.begun("node-removed"), process)
        nodes.stdin.write("now\n")
        nodes.stdin.flush()
        assert nodes.stdout.readline() == "removed\n"
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith(f"{GOOD + BAD} images in: {GOOD} stored, 0 unchanged, {BAD} rejected")
    stores.assert_same("node-removed", undisturbed[0])


@setups("gone", *ALL)
def test_a_file_gone_between_listing_and_reading(
    stores: Stores, undisturbed: tuple[Held, float], tmp_path: Path
) -> None:
    shutil.copytree(stores.root / "photos", tmp_path / "photos", copy_function=os.link)
    (tmp_path / "slow").symlink_to(stores.root / "slow")
    elsewhere = replace(stores, root=tmp_path)
    process = elsewhere.start("vanishing", "--log", "log.jsonl")
    log = tmp_path / "log.jsonl"
    wait_for(lambda: log.exists() and '"listed"' in log.read_text(), process)
    gone = [f"{number:03d}.png" for number in (0, 150, 199)]
    for name in gone:
        (tmp_path / "photos" / name).unlink()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith(
        f"{GOOD + BAD} images in: {GOOD - 3} stored, 0 unchanged, {BAD + 3} rejected"
    )
    rejects = read_rejects(elsewhere.rejects("vanishing"))
    for name in gone:
        assert "no such file" in rejects[str(tmp_path / "photos" / name)]
    expected = set(undisturbed[0]) - {point_id(name) for name in gone}
    assert set(elsewhere.held("vanishing")) == expected


@setups("disk", "local-embedded", "ray-embedded")
def test_a_disk_that_fills_up(stores: Stores, undisturbed: tuple[Held, float]) -> None:
    with small_disk(stores.root / "disk", 600):
        gallery, ballast = "disk/gallery", stores.root / "disk" / "ballast"
        process = stores.start(gallery)
        wait_for(stores.begun(gallery), process)
        with ballast.open("wb") as file:
            free = shutil.disk_usage(stores.root / "disk").free
            os.posix_fallocate(file.fileno(), 0, free - 100_000_000)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1
        [line] = [one for one in err.splitlines() if one.startswith("Error: ")]
        assert "MB are kept free; free some space" in line
        assert 0 < len(stores.held(gallery)) < GOOD
        full = stores.ingest(gallery)
        assert full.code == 1
        ballast.unlink()
        run = stores.ingest(gallery)
        assert run.code == 0, run.err
        stores.assert_same(gallery, undisturbed[0])


@setups("report", *ALL)
def test_the_report_says_what_became_of_the_images(
    stores: Stores, undisturbed: tuple[Held, float]
) -> None:
    report = json.loads((stores.files("calm") / "report.json").read_text())
    assert report["images"] == GOOD + BAD
    assert report["stored"] == GOOD
    assert report["rejected"] == BAD
    assert stores.root / report["rejects_file"] == stores.rejects("calm")
    assert report["duplicates"] is None
    shares = {stage["stage"]: stage["share"] for stage in report["stages"]}
    assert set(shares) == {"read", "decode", "embed", "write"}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(stage["seconds"] > 0 for stage in report["stages"])
